/**
 * Twenty rounds of faults in an order that the seed decides, over RDMA, on file systems on both kinds of device:
 * `SEED=7 deno task test:vm rounds`. Takes half an hour; `ROUNDS` makes it shorter or longer, `TRANSPORT=tcp` does without
 * RDMA.
 */

import assert from "node:assert/strict";
import { Prng } from "../../../lib/base/prng.ts";
import { type Fault, FaultRounds, FAULTS, RDMA_FAULTS } from "../bed/fault_rounds.ts";
import { LEAST_MIB } from "../bed/file_systems.ts";

const ROUNDS = Number(Deno.env.get("ROUNDS") ?? 20);
/** What rounds are divided among. */
const COMBINATIONS = [
  { device: "ublk", fileSystem: "ext4" },
  { device: "nbd", fileSystem: "xfs" },
  { device: "ublk", fileSystem: "xfs" },
  { device: "nbd", fileSystem: "ext4" },
] as const;
/** What a machine that is gone at once may cost: the heartbeat limit of 3 s unless told otherwise, and the change of the set. */
const SILENT_FAULTS: readonly Fault[] = ["silence", "power cut"];
const LONGEST_MS = 4_000;

Deno.test("rounds of mixed faults under fio", async (t) => {
  const seed = Number(Deno.env.get("SEED") ?? Date.now() % 100_000);
  const transport = Deno.env.get("TRANSPORT") === "tcp" ? "tcp" : "rdma";
  console.log(`seed ${seed}, ${transport}`);
  const random = new Prng(seed);
  const nextFault = dealer(random, transport === "tcp" ? FAULTS : RDMA_FAULTS);
  await using rounds = await FaultRounds.open({ rdma: transport === "rdma", sizeMib: LEAST_MIB });
  let round = 0;
  for (const [number, combination] of COMBINATIONS.entries()) {
    const where = `${combination.fileSystem} on ${combination.device}`;
    await rounds.attach({ transport, ...combination });
    while (round < ROUNDS * (number + 1) / COMBINATIONS.length) {
      round++;
      const fault = nextFault();
      const index = random.below(2);
      const what = fault === "client kill" ? fault : `${fault} of node ${index}`;
      const passed = await t.step(`round ${round}, ${where}: ${what}`, async () => {
        const { writes, reads, longestMs } = await rounds.round(fault, index);
        console.log(`${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
        if (SILENT_FAULTS.includes(fault)) assert.ok(longestMs < LONGEST_MS, `${longestMs} ms`);
      });
      if (!passed) console.error(await rounds.log());
    }
    const passed = await t.step(`${where} is whole, the legs are identical`, () => rounds.finish());
    if (!passed) console.error(await rounds.log());
  }
});

/** Deals faults: each comes once before one comes again. */
function dealer(random: Prng, faults: readonly Fault[]): () => Fault {
  let left: Fault[] = [];
  return () => {
    if (left.length === 0) left = [...faults];
    return left.splice(random.below(left.length), 1)[0];
  };
}
