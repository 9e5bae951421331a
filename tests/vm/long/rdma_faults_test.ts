/** A client and two nodes on machines of their own, over RDMA: each fault once, and a node's device goes under load. */

import { FaultRounds, RDMA_FAULTS } from "../bed/fault_rounds.ts";

Deno.test("over RDMA: no error, no wrong block, identical legs; without its device a node is reached over TCP", async (t) => {
  await using rounds = await FaultRounds.open("rdma");
  for (const [number, fault] of RDMA_FAULTS.entries()) {
    const passed = await t.step(fault, async () => {
      const { writes, reads, longestMs } = await rounds.round(fault, number % 2);
      console.log(`${fault}: ${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
    });
    if (!passed) console.error(await rounds.log());
  }
  await t.step("the legs are identical", () => rounds.finish());
  await t.step("a leg that RDMA does not reach is reached over TCP, and by RDMA again when it does", async () => {
    // How long connecting may take follows the heartbeat limit, and under emulation it takes a while.
    await rounds.attach("auto", "--heartbeat 10s");
    const { longestMs } = await rounds.withoutRdma(1);
    console.log(`without RDMA for a while: the longest took ${(longestMs / 1000).toFixed(2)} s`);
    await rounds.finish();
  });
  await t.step("a leg whose RDMA device is gone is reached over TCP", async () => {
    await rounds.attach("auto");
    const { longestMs } = await rounds.withoutDevice(0);
    console.log(`without the device: the longest took ${(longestMs / 1000).toFixed(2)} s`);
    await rounds.finish();
  });
});
