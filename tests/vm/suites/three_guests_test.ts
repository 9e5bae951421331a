/** A client and two nodes on machines of their own: each fault once, under fio, on /dev/ublkbN, over TCP and over RDMA. */

import { type Fault, FaultRounds, FAULTS, RDMA_FAULTS } from "../bed/fault_rounds.ts";

async function strikeEach(t: Deno.TestContext, rounds: FaultRounds, faults: readonly Fault[]): Promise<void> {
  for (const [number, fault] of faults.entries()) {
    const passed = await t.step(fault, async () => {
      const { writes, reads, longestMs } = await rounds.round(fault, number % 2);
      console.log(`${fault}: ${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
    });
    if (!passed) console.error(await rounds.log());
  }
  await t.step("the legs are identical", () => rounds.finish());
}

Deno.test("nodes fall silent, lose power, flap and die under fio; no error, no wrong block, identical legs", async (t) => {
  await using rounds = await FaultRounds.open("tcp");
  await strikeEach(t, rounds, FAULTS);
});

Deno.test("the same over RDMA, which a node's device may leave under load", async (t) => {
  await using rounds = await FaultRounds.open("rdma");
  await strikeEach(t, rounds, RDMA_FAULTS);
  await t.step("a leg whose RDMA device is gone is reached over TCP", async () => {
    await rounds.attach("auto");
    const { longestMs } = await rounds.withoutDevice(0);
    console.log(`without the device: the longest took ${(longestMs / 1000).toFixed(2)} s`);
    await rounds.finish();
  });
});
