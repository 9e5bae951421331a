/** Within one machine a client shares its memory with the nodes, says so, and can be told not to. */

import assert from "node:assert/strict";
import { withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { NbdSocket } from "./nbd_socket.ts";

const SIZES = [512, 4096, 12288, 131072, 1 << 20];

Deno.test("writes of every size arrive by either way; status tells which", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    for (const [choice, wanted] of [["auto", "shared-memory"], ["tcp", "tcp"]] as const) {
      const { client } = await cluster.status();
      const isFirst = choice === "auto";
      if (!isFirst) {
        assert.equal(await cluster.detach(), 0);
        await cluster.attach(["--transport", choice]);
      }
      const paths = isFirst ? client.paths : (await cluster.status()).client.paths;
      assert.deepEqual(paths, [{ legIndex: 0, transport: wanted }, { legIndex: 1, transport: wanted }]);
      const socket = await NbdSocket.connect(cluster.uri);
      let offset = 0;
      for (const size of SIZES) {
        const data = new Uint8Array(size).map((_, i) => i * 7 + size + choice.length);
        await socket.write(offset, data);
        assert.deepEqual(await socket.read(offset, size), data);
        offset += size;
      }
      await socket.close();
    }
    assert.equal(await cluster.detach(), 0);
    await cluster.stopNode(0, "SIGTERM");
    await cluster.stopNode(1, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("a node that stands still holds memory, and the client goes on without it; killed, it lets go", async () => {
  await withCluster({ size: "64M", attachArguments: ["--memory", "8M", "--heartbeat", "500ms"] }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    const data = new Uint8Array(1 << 20).fill(1);
    await socket.write(0, data);
    cluster.node(1).signal("SIGSTOP");
    for (let round = 0; round < 40; round++) await socket.write((round % 32) << 20, data.fill(round));
    cluster.node(1).signal("SIGCONT");
    await cluster.waitInSync();
    await cluster.stopNode(1, "SIGKILL");
    for (let round = 0; round < 40; round++) await socket.write((round % 32) << 20, data.fill(round + 1));
    await cluster.startNode(1);
    await cluster.waitInSync();
    await socket.close();
    assert.equal(await cluster.detach(), 0);
    await cluster.stopNode(0, "SIGTERM");
    await cluster.stopNode(1, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});
