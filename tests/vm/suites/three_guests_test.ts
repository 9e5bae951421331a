/**
 * A client and two nodes on machines of their own: each fault once over TCP, under fio, on /dev/ublkbN; then over RDMA a node
 * that falls silent and one that loses power. The long suite `rdma_faults` has all faults of RDMA.
 */

import { type Fault, FaultRounds, FAULTS } from "../bed/fault_rounds.ts";

Deno.test("nodes fall silent, lose power, flap and die, and the client is killed; no error, no wrong block, identical legs", async (t) => {
  await using rounds = await FaultRounds.open({ rdma: true });
  const strike = async (transport: "tcp" | "rdma", faults: readonly Fault[]) => {
    await rounds.attach({ transport });
    for (const [number, fault] of faults.entries()) {
      const passed = await t.step(`${transport}: ${fault}`, async () => {
        const { writes, reads, longestMs } = await rounds.round(fault, number % 2);
        console.log(`${fault}: ${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
      });
      if (!passed) console.error(await rounds.log());
    }
    await t.step(`${transport}: the legs are identical`, () => rounds.finish());
  };
  await strike("tcp", FAULTS);
  await strike("rdma", ["silence", "power cut"]);
});
