/** fio's checksums over the NBD socket: on a healthy pool, through an unclean end of the client, and while legs die. */

import { type Cluster, withCluster } from "../cluster.ts";
import { expectLegsIdentical } from "../leg_data.ts";
import { runFioVerify } from "./fio_verify.ts";
import { requireTools } from "./required_tools.ts";

const ROUNDS = 10;

Deno.test("fio --verify=crc32c passes with several jobs and connections", async () => {
  await requireTools(["fio", "cmp"]);
  await withCluster({ size: "256M" }, async (cluster) => {
    await runFioVerify(cluster.uri, { jobs: 4, mebibytesPerJob: 48 });
    await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 24, blockRange: "512-16k", rw: "randrw" });
    await runFioVerify(cluster.uri, { jobs: 1, mebibytesPerJob: 128, blockRange: "1m-2m", rw: "write", depth: 4 });
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

/** Keeps fio verifying until `stop()`, which gives back how often it went through; throws what fio found. */
function keepVerifying(cluster: Cluster): { stop(): Promise<number> } {
  let isStopping = false;
  let failure: unknown = null;
  let passes = 0;
  const loop = (async () => {
    while (!isStopping && failure === null) {
      try {
        await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 24 });
        passes++;
      } catch (error) {
        failure = error;
      }
    }
  })();
  return {
    async stop() {
      isStopping = true;
      await loop;
      if (failure !== null) throw failure;
      return passes;
    },
  };
}

Deno.test(`fio --verify runs on while each leg in turn is killed and returns, ${ROUNDS} rounds`, async () => {
  await requireTools(["fio", "cmp"]);
  await withCluster({ size: "256M" }, async (cluster) => {
    const load = keepVerifying(cluster);
    let passes = 0;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const leg = round % 2;
        await cluster.stopNode(leg, "SIGKILL");
        await cluster.waitDropped(leg);
        await cluster.startNode(leg);
        await cluster.waitInSync();
      }
    } finally {
      passes = await load.stop();
    }
    if (passes === 0) throw new Error("fio did not get through once");
    await cluster.waitInSync();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("what was flushed survives when client and both nodes are killed at once", async () => {
  await requireTools(["fio", "cmp"]);
  await withCluster({ size: "128M" }, async (cluster) => {
    await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 16 });
    await Promise.all([cluster.detach("SIGKILL"), cluster.stopNode(0), cluster.stopNode(1)]);
    await Promise.all([cluster.startNode(0), cluster.startNode(1)]);
    await cluster.attach();
    await runFioVerify(cluster.uri, { jobs: 2, mebibytesPerJob: 16 });
    await cluster.waitInSync();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});
