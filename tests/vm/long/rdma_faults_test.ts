/** A client and two nodes on machines of their own, over RDMA: each fault once, and what RDMA is lost by under load. */

import { FaultRounds, RDMA_FAULTS } from "../bed/fault_rounds.ts";
import type { FioResult } from "../bed/fio.ts";

/**
 * How long a leg may take to change its path, and connecting on the way back to RDMA, follow the heartbeat limit; under
 * emulation both take a while. The device itself does not tell of a silence: soft-RoCE tries for ever.
 */
const PATIENT = "--heartbeat 10s";

Deno.test("over RDMA: no error, no wrong block, identical legs; without it a leg is reached over TCP", async (t) => {
  await using rounds = await FaultRounds.open({ rdma: true });
  const step = stepsOf(t, rounds);
  await rounds.attach({ transport: "rdma" });
  for (const [number, fault] of RDMA_FAULTS.entries()) await step(fault, () => rounds.round(fault, number % 2));
  await t.step("the legs are identical", () => rounds.finish());

  await rounds.attach({ transport: "auto", options: PATIENT });
  await step(
    "a leg that RDMA does not reach is reached over TCP, and by RDMA again when it does",
    () => rounds.withoutRdma(1),
  );
  await step("a leg whose RDMA device is gone is reached over TCP", () => rounds.withoutNodesDevice(0));
  await step("a client whose RDMA device is gone reaches all legs over TCP", () => rounds.withoutClientsDevice());
});

Deno.test("a link is cut: the leg is reached by the RDMA of another network", async (t) => {
  await using rounds = await FaultRounds.open({ rdma: true, nics: 2 });
  await rounds.attach({ transport: "rdma", options: PATIENT });
  await stepsOf(t, rounds)("one of two links is cut, then the other", () => rounds.withoutLinks(0));
  await t.step("the legs are identical", () => rounds.finish());
});

/** Steps that tell how long the longest request took, or what all processes said. */
function stepsOf(t: Deno.TestContext, rounds: FaultRounds) {
  return async (name: string, body: () => Promise<FioResult>) => {
    const passed = await t.step(name, async () => {
      const { writes, reads, longestMs } = await body();
      console.log(`${name}: ${writes} writes, ${reads} reads, the longest took ${(longestMs / 1000).toFixed(2)} s`);
    });
    if (!passed) console.error(await rounds.log());
  };
}
