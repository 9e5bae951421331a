/** A pool's life with real processes, needing nothing but Deno: legs die and return, clients die, nothing acked is lost. */

import assert from "node:assert/strict";
import { brmrCommand, Cluster, ServerProcess, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCKS = 6144;

Deno.test("a leg is killed under load and comes back: dropped, dirty, resynced, identical", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 1);
    load.start(8);
    await load.waitForWrites(200);
    await cluster.stopNode(1, "SIGKILL");
    await cluster.waitDropped(1);
    await load.waitForWrites(200);
    const away = (await cluster.legs())[1];
    assert.equal(away.state, "away");
    assert.ok((away.missingBytes ?? 0) > 0, `missing ${away.missingBytes}`);
    assert.equal((await cluster.brmr(["status", "vol1"])).code, 5, "status tells by its exit code");
    await cluster.startNode(1);
    await cluster.waitInSync();
    await load.stop();
    await load.check();
    assert.equal((await cluster.legs())[1].missingBytes, 0);
    assert.equal((await cluster.brmr(["status", "vol1"])).code, 0);
    // Only the leg that was away can answer now.
    await cluster.stopNode(0, "SIGKILL");
    await load.check();
    await cluster.startNode(0);
    await cluster.waitInSync();
    assert.equal(await cluster.detach(), 0);
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("the client is killed mid-write: the next attach makes the legs equal and has every acked write", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 2);
    load.start(8);
    await load.waitForWrites(500);
    await cluster.detach("SIGKILL");
    await assert.rejects(load.stop(), "the load must see its connection end");
    await cluster.attach();
    await load.check();
    await cluster.waitInSync();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("a flushed write survives everything being killed at once", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    const data = new Uint8Array(65536).fill(0x5c);
    await socket.write(1 << 20, data);
    await socket.writeZeroes((1 << 20) + 8192, 4096);
    await socket.flush();
    await Promise.all([cluster.detach("SIGKILL"), cluster.stopNode(0), cluster.stopNode(1)]);
    await socket.close();
    await Promise.all([cluster.startNode(0), cluster.startNode(1)]);
    await cluster.attach();
    const again = await NbdSocket.connect(cluster.uri);
    data.fill(0, 8192, 12288);
    assert.deepEqual(await again.read(1 << 20, 65536), data);
    await again.close();
    await cluster.waitInSync();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("a pool does not start on the leg that missed the last writes, and names the one it needs", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    await cluster.stopNode(1, "SIGKILL");
    await cluster.waitDropped(1);
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(4096).fill(1));
    await socket.flush();
    await socket.close();
    await cluster.detach();
    await cluster.stopNode(0, "SIGKILL");
    await cluster.startNode(1);
    const refused = await cluster.brmr([
      ...["attach", "vol1", "--node", cluster.addresses[1], "--nbd", `${cluster.directory}/other.sock`],
    ]);
    assert.notEqual(refused.code, 0);
    assert.ok(refused.stderr.includes(cluster.addresses[0]), refused.stderr);
    await cluster.startNode(0);
    await cluster.attach();
    await cluster.waitInSync();
  });
});

Deno.test("a second client is refused, takes over when told to, and fences the first off", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const directory = `${cluster.directory}/second`;
    const args = ["attach", "vol1", "--node", cluster.addresses[0], "--nbd", `${directory}.sock`];
    const refused = await cluster.brmr(args, { BRMR_RUNTIME_DIR: directory });
    assert.equal(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /take it over|--takeover/);
    const first = await NbdSocket.connect(cluster.uri);
    await first.write(0, new Uint8Array(4096).fill(7));
    const thief = new ServerProcess("second client", brmrCommand([...args, "--takeover"]), {
      BRMR_RUNTIME_DIR: directory,
    });
    try {
      const second = await NbdSocket.connect(await thief.ready());
      assert.deepEqual(await second.read(0, 4096), new Uint8Array(4096).fill(7));
      await second.write(0, new Uint8Array(4096).fill(8));
      // The first client's writes must not arrive any more: they fail, or their connection ends.
      await assert.rejects(first.write(0, new Uint8Array(4096).fill(9)));
      assert.deepEqual(await second.read(0, 4096), new Uint8Array(4096).fill(8));
      await second.close();
    } finally {
      await thief.stop("SIGTERM");
    }
    await first.close();
  });
});

Deno.test("a device that carries data is refused without --force, and a third leg may join the pool's creation", async () => {
  const cluster = await Cluster.startNodes({ size: "64M", nodeCount: 3 });
  try {
    await cluster.createPool();
    const again = await cluster.brmr([
      ...["pool", "create", "vol2", "--size", "64M"],
      ...["--leg", `${cluster.addresses[0]}:${cluster.legPaths[0]}`],
      ...["--leg", `${cluster.addresses[1]}:${cluster.legPaths[1]}`],
    ]);
    assert.equal(again.code, 4, again.stderr);
    await cluster.attach();
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(1 << 20).fill(3));
    await socket.close();
    await cluster.waitInSync();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  } finally {
    await cluster.close();
  }
});
