/** What a storage node leaves behind when it is told to end, and when it is not. */

import assert from "node:assert/strict";
import { withCluster } from "./cluster.ts";
import { legRecord } from "./leg_data.ts";
import { NbdSocket } from "./nbd_socket.ts";

Deno.test("a node that is told to end flushes what its last client wrote, and notes it; one that is killed does not", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    // The other leg is away: the client has this one alone.
    await cluster.stopNode(1, "SIGKILL");
    await socket.write(4096, new Uint8Array(4096).fill(1));
    await cluster.stopNode(0, "SIGKILL");
    assert.equal((await legRecord(cluster.legPaths[0])).isStable, false);
    // The client waits for its only leg, and goes on when it is back.
    await cluster.startNode(0);
    await socket.write(8192, new Uint8Array(4096).fill(2));
    assert.equal(await cluster.stopNode(0, "SIGTERM"), 0);
    assert.equal((await legRecord(cluster.legPaths[0])).isStable, true);
    await cluster.startNode(0);
    await socket.flush();
    assert.equal((await socket.read(8192, 4096))[0], 2);
    await socket.close();
  });
});

Deno.test("a node that ends under a client that has another leg is no longer asked", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(4096).fill(1));
    assert.equal(await cluster.stopNode(1, "SIGTERM"), 0);
    await socket.write(0, new Uint8Array(4096).fill(2));
    await cluster.waitDropped(1);
    assert.equal((await legRecord(cluster.legPaths[1])).isStable, true);
    await cluster.startNode(1);
    await cluster.waitInSync();
    await socket.close();
  });
});
