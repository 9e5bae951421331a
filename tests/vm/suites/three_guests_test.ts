/** A client and two nodes on machines of their own: each fault once, under fio, on /dev/ublkbN. */

import { FaultRounds, FAULTS } from "../bed/fault_rounds.ts";

Deno.test("nodes fall silent, lose power, flap and die under fio; no error, no wrong block, identical legs", async (t) => {
  await using rounds = await FaultRounds.open("tcp");
  for (const [number, fault] of FAULTS.entries()) {
    const passed = await t.step(fault, async () => {
      const { writes, reads, longestMs } = await rounds.round(fault, number % 2);
      console.log(`${fault}: ${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
    });
    if (!passed) console.error(await rounds.log());
  }
  await t.step("the legs are identical", () => rounds.finish());
});
