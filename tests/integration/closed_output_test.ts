/** Whoever reads what a node prints may die before it: nodes serve on, and the demo cleans up. */

import assert from "node:assert/strict";
import { brmrCommand, runCommand, ServerProcess, withCluster } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCK = 4096;

Deno.test("a client and a storage node outlive whoever reads their log", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    await cluster.client.closeOutput();
    await cluster.node(0).closeOutput();
    // Each change of the legs is logged by the client and by the node that is left.
    await cluster.stopNode(1);
    await cluster.waitDropped(1);
    await cluster.startNode(1);
    await cluster.waitInSync();
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(BLOCK).fill(0x5a));
    await socket.flush();
    assert.deepEqual(await socket.read(0, BLOCK), new Uint8Array(BLOCK).fill(0x5a));
    await socket.close();
    assert.equal(await cluster.detach(), 0);
    // A new session is an event of the node's too.
    await cluster.attach();
    assert.ok(!cluster.node(0).hasEnded, "the storage node still runs");
    assert.equal(await cluster.detach(), 0);
    assert.equal(await cluster.stopNode(0, "SIGTERM"), 0);
  });
});

Deno.test("brmr demo cleans up though nobody reads any more", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr-demo-test-" });
  try {
    const demo = new ServerProcess("demo", brmrCommand(["demo"]), { TMPDIR: directory, BRMR_RUNTIME_DIR: directory });
    await demo.closeOutput();
    await demo.ended;
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), [], "nothing is left behind");
    const running = await runCommand("sh", ["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true"]);
    assert.ok(!running.stdout.includes(directory), "no process is left behind");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
