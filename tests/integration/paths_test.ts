/** A node that can be reached by several paths: one is lost, and the pool goes on by another. */

import assert from "node:assert/strict";
import { ReservedPorts } from "../../lib/demo/reserved_ports.ts";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";
import { TcpProxy } from "./tcp_proxy.ts";

const BLOCKS = 8192;

/** Leg 0 of the pool as the client sees it. */
// deno-lint-ignore no-explicit-any -- what `status --json` prints
async function legSeen(cluster: Cluster): Promise<any> {
  return (await cluster.status()).client.snapshot.legs[0];
}

/** A cluster whose first node is reached through a proxy, at a second address, and where the leg table says, in this order. */
async function withPaths(
  more: readonly string[],
  body: (cluster: Cluster, proxy: TcpProxy, second: string) => Promise<void>,
): Promise<void> {
  using reserved = new ReservedPorts(2);
  const [proxyPort, secondPort] = reserved.ports;
  const second = `127.0.0.2:${secondPort}`;
  const first = `127.0.0.1:${proxyPort}`;
  const options = {
    size: "32M",
    // A change of path may take a fifth of the heartbeat limit: enough on a busy machine.
    attachArguments: ["--transport", "tcp", "--heartbeat", "10s", ...more],
    nodeArguments: (index: number) =>
      index !== 0 ? [] : ["--listen", `tcp://${second}`, "--advertise", `tcp://${first}`, "--advertise", second],
  };
  await withCluster(options, async (cluster) => {
    const proxy = new TcpProxy(proxyPort, cluster.addresses[0]);
    try {
      // The leg is found by all of its addresses from now on.
      await cluster.detach();
      await cluster.attach();
      const { paths, path } = await legSeen(cluster);
      assert.deepEqual(paths, [first, second, cluster.addresses[0]]);
      assert.equal(path, first);
      await body(cluster, proxy, second);
    } finally {
      await proxy.close();
    }
  });
}

/** Ends everything; the legs must be equal. */
async function expectIdenticalAtRest(cluster: Cluster): Promise<void> {
  assert.equal(await cluster.detach(), 0);
  for (const index of [0, 1]) await cluster.stopNode(index, "SIGTERM");
  await expectLegsIdentical(cluster.legPaths);
}

Deno.test("a path is cut: writes go on by the next one, and the leg was never out of the set", async () => {
  await withPaths([], async (cluster, proxy, second) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 6);
    load.start(4);
    await load.waitForWrites(100);
    for (let round = 0; round < 3; round++) {
      const { epoch } = (await cluster.status()).client.snapshot;
      proxy.cut();
      await load.waitForWrites(500);
      await waitFor("another path to be in use", 30_000, async () => (await legSeen(cluster)).path === second);
      const { client: { snapshot } } = await cluster.status();
      assert.equal(snapshot.counters.legDrops, 0);
      assert.equal(snapshot.epoch, epoch);
      assert.equal(snapshot.legs[0].state, "in-sync");
      if (round === 2) break;
      // Back to the first path: the second is not cut, so the leg is taken through the proxy by attaching anew.
      proxy.mend();
      await load.stop();
      await load.check();
      assert.equal(await cluster.detach(), 0);
      await cluster.attach();
      load.start(4);
      await load.waitForWrites(100);
    }
    await load.stop();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});

Deno.test("a path falls silent: writes go on by the next one; the node is killed: it is dropped without waiting", async () => {
  await withPaths(["--heartbeat", "3s"], async (cluster, proxy, second) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 7);
    load.start(4);
    await load.waitForWrites(100);
    proxy.silence();
    await load.waitForWrites(500);
    await waitFor("another path to be in use", 30_000, async () => (await legSeen(cluster)).path === second);
    proxy.mend();
    await cluster.waitInSync();
    await cluster.stopNode(0);
    await load.waitForWrites(500);
    await cluster.waitDropped(0);
    await cluster.startNode(0);
    await cluster.waitInSync();
    await load.stop();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});
