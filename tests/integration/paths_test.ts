/** A node that can be reached by several paths: one is lost, and the pool goes on by another. */

import assert from "node:assert/strict";
import { freePorts } from "../../lib/demo/free_ports.ts";
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

Deno.test("a path is cut: the leg is reached by the next one, and loses nothing", async () => {
  const [proxyPort, secondPort] = freePorts(2);
  const second = `127.0.0.2:${secondPort}`;
  const first = `127.0.0.1:${proxyPort}`;
  const options = {
    size: "32M",
    attachArguments: ["--transport", "tcp"],
    nodeArguments: (index: number) =>
      index !== 0 ? [] : ["--listen", `tcp://${second}`, "--advertise", `tcp://${first}`, "--advertise", second],
  };
  await withCluster(options, async (cluster) => {
    const proxy = new TcpProxy(proxyPort, cluster.addresses[0]);
    try {
      await cluster.detach();
      await cluster.attach();
      const before = await legSeen(cluster);
      assert.deepEqual(before.paths, [first, second, cluster.addresses[0]]);
      assert.equal(before.path, first);
      const load = new BlockLoad(cluster.uri, BLOCKS, 6);
      load.start(4);
      await load.waitForWrites(100);
      proxy.cut();
      await load.waitForWrites(500);
      await waitFor("the next path to be in use", 30_000, async () => (await legSeen(cluster)).path === second);
      await cluster.waitInSync();
      await load.waitForWrites(100);
      await load.stop();
      await load.check();
      assert.equal(await cluster.detach(), 0);
      for (const index of [0, 1]) await cluster.stopNode(index, "SIGTERM");
      await expectLegsIdentical(cluster.legPaths);
    } finally {
      await proxy.close();
    }
  });
});
