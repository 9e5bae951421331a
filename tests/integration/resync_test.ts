/** What a leg missed, and how it gets it: exactly that, at the operator's pace. */

import assert from "node:assert/strict";
import { connectNode } from "../../lib/control/node_control_client.ts";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { NbdSocket } from "./nbd_socket.ts";

const CHUNK_BYTES = 4096;
const LIMIT_MS = 60_000;

/** One write in every `strideBytes`, while leg 1 is away. */
async function missWrites(cluster: Cluster, count: number, strideBytes: number): Promise<void> {
  const socket = await NbdSocket.connect(cluster.uri);
  await socket.flush(); // nothing before this counts as missed
  await cluster.stopNode(1);
  const data = new Uint8Array(CHUNK_BYTES).fill(0xa5);
  for (let i = 0; i < count; i++) await socket.write(i * strideBytes, data);
  await socket.close();
  await cluster.waitDropped(1);
}

Deno.test("a leg pulls what it missed and not a byte more, also when every write lies in another 128 KiB", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const count = 256;
    await missWrites(cluster, count, 128 * 1024);
    const missed = count * CHUNK_BYTES;
    assert.equal((await cluster.legs())[1].missingBytes, missed);
    const map = JSON.parse(await cluster.expect(["dirty-map", "vol1", "--json"], [0, 5]));
    assert.ok(JSON.stringify(map).includes(String(missed)), "the dirty map tells the same");
    await cluster.startNode(1);
    await cluster.waitInSync();
    const node = await connectNode(cluster.addresses[1], { timeoutMs: LIMIT_MS });
    const { snapshot } = (await node.request("pool.status", { pool: cluster.poolName })).legs[0];
    node.close();
    assert.equal(snapshot.lastResync?.state, "done");
    assert.equal(snapshot.lastResync?.copiedBytes, missed, "bytes copied / bytes missed is 1.0");
    assert.equal(await cluster.detach(), 0);
    await cluster.stopNode(0, "SIGTERM");
    await cluster.stopNode(1, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("a resync can be throttled, paused and resumed; what is paused does not move", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    await missWrites(cluster, 2048, CHUNK_BYTES * 2);
    await cluster.expect(["resync", "vol1", "throttle", "1M"], [0, 5]);
    await cluster.startNode(1);
    // The limit is the target's, which has just been started and knows of none.
    await cluster.expect(["resync", "vol1", "throttle", "1M"]);
    await cluster.expect(["resync", "vol1", "pause"]);
    const paused = await waitFor("two looks that are equal and not zero", LIMIT_MS, async () => {
      const first = (await cluster.legs())[1];
      const second = (await cluster.legs())[1];
      const isStill = first.missingBytes === second.missingBytes && first.state === "resyncing";
      return isStill && (first.missingBytes ?? 0) > 0 ? second : null;
    });
    assert.ok((paused.missingBytes ?? 0) > 0);
    await cluster.expect(["resync", "vol1", "throttle", "unlimited"]);
    assert.equal((await cluster.legs())[1].missingBytes, paused.missingBytes);
    await cluster.expect(["resync", "vol1", "resume"]);
    await cluster.waitInSync();
  });
});

Deno.test("a leg is killed again in the middle of its resync, and its source afterwards: it still ends whole", async () => {
  await withCluster({ size: "64M", nodeCount: 3 }, async (cluster) => {
    await missWrites(cluster, 4096, CHUNK_BYTES * 2);
    await cluster.startNode(1);
    await cluster.expect(["resync", "vol1", "throttle", "4M"], [0, 5]);
    await waitFor("the resync to be under way", LIMIT_MS, async () => (await cluster.legs())[1].state === "resyncing");
    await cluster.stopNode(1);
    await cluster.startNode(1);
    await cluster.expect(["resync", "vol1", "throttle", "4M"], [0, 5]);
    await waitFor("the resync to be under way", LIMIT_MS, async () => (await cluster.legs())[1].state === "resyncing");
    await cluster.stopNode(0);
    await cluster.startNode(0);
    await cluster.expect(["resync", "vol1", "throttle", "unlimited"], [0, 5]);
    await cluster.waitInSync();
    assert.equal(await cluster.detach(), 0);
    for (let i = 0; i < 3; i++) await cluster.stopNode(i, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});
