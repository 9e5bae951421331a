/**
 * Twenty rounds of faults in an order that the seed decides, over RDMA: `SEED=7 deno task test:vm rounds`. Takes a quarter
 * of an hour; `ROUNDS` makes it shorter or longer, `TRANSPORT=tcp` does without RDMA.
 */

import { Prng } from "../../../lib/base/prng.ts";
import { FaultRounds, FAULTS, RDMA_FAULTS } from "../bed/fault_rounds.ts";

const ROUNDS = Number(Deno.env.get("ROUNDS") ?? 20);

Deno.test("rounds of mixed faults under fio", async (t) => {
  const seed = Number(Deno.env.get("SEED") ?? Date.now() % 100_000);
  const transport = Deno.env.get("TRANSPORT") === "tcp" ? "tcp" : "rdma";
  const faults = transport === "tcp" ? FAULTS : RDMA_FAULTS;
  console.log(`seed ${seed}, ${transport}`);
  const random = new Prng(seed);
  await using rounds = await FaultRounds.open(transport);
  for (let round = 1; round <= ROUNDS; round++) {
    const fault = faults[random.below(faults.length)];
    const index = random.below(2);
    const passed = await t.step(`round ${round}: ${fault} of node ${index}`, async () => {
      const { writes, reads, longestMs } = await rounds.round(fault, index);
      console.log(`${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
    });
    if (!passed) console.error(await rounds.log());
  }
  await t.step("the legs are identical", () => rounds.finish());
});
