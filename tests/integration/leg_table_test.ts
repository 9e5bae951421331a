/** The leg table of a pool in use, with real processes: legs are drained, added, removed and replaced under load. */

import assert from "node:assert/strict";
import { type Cluster, withCluster } from "./cluster.ts";
import { expectLegsIdentical, rot } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCKS = 6144;

/** The port of a node, from its address in the leg table. */
async function addressOf(cluster: Cluster, index: number): Promise<string> {
  return (await cluster.status()).client.snapshot.legs[index].address;
}

// deno-lint-ignore no-explicit-any -- what the status prints
async function table(cluster: Cluster): Promise<any[]> {
  return (await cluster.status()).client.snapshot.legs;
}

/** Waits until the client's table is as wanted. */
// deno-lint-ignore no-explicit-any
async function until(cluster: Cluster, wanted: (legs: any[]) => boolean): Promise<void> {
  const limitMs = performance.now() + 120_000;
  for (;;) {
    const legs = await table(cluster);
    if (wanted(legs)) return;
    assert.ok(performance.now() < limitMs, `the table stays ${JSON.stringify(legs)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

Deno.test("a leg is drained under load, survives restarts drained, and resyncs only what it missed", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 11);
    load.start(8);
    await load.waitForWrites(200);
    await cluster.expect(["leg", "drain", "vol1", "1"]);
    assert.deepEqual((await table(cluster)).map((leg) => leg.isDrained), [false, true]);
    const refused = await cluster.brmr(["leg", "drain", "vol1", "0"]);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /last one in sync/);
    await load.waitForWrites(200);
    await load.stop();
    // Drained it stays, whatever restarts.
    await cluster.stopNode(1);
    await cluster.startNode(1);
    assert.equal(await cluster.detach(), 0);
    await cluster.attach();
    const again = new BlockLoad(cluster.uri, BLOCKS, 12);
    again.start(4);
    await again.waitForWrites(100);
    await again.stop();
    assert.deepEqual((await table(cluster)).map((leg) => leg.isDrained), [false, true]);
    assert.notEqual((await table(cluster))[1].state, "in-sync");
    await cluster.expect(["leg", "undrain", "vol1", "1"]);
    await cluster.waitInSync();
    await again.check();
    assert.equal(await cluster.detach(), 0);
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("legs are added, replaced and removed while the pool is written to; verify finds them equal", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const address = await addressOf(cluster, 1);
    const load = new BlockLoad(cluster.uri, BLOCKS, 13);
    load.start(8);
    await load.waitForWrites(200);
    const third = `${cluster.legPaths[1]}.third`;
    await cluster.expect(["leg", "add", "vol1", "--leg", `${address}:${third}`]);
    await until(cluster, (legs) => legs.length === 3 && legs.every((leg) => leg.state === "in-sync"));
    const twice = await cluster.brmr(["leg", "add", "vol1", "--leg", `${address}:${third}`]);
    assert.equal(twice.code, 4);
    assert.match(twice.stderr, /is leg 2 of pool/);

    const hot = `${cluster.legPaths[1]}.hot`;
    await cluster.expect(["replace", "vol1", "--leg", "1", "--device", hot]);
    const again = await cluster.brmr(["replace", "vol1", "--leg", "1", "--device", hot]);
    assert.match(again.stderr, /has no leg 1\. .*hot.* is leg 3: if it was to take its place, that is done/);
    await until(cluster, (legs) => legs.length === 3 && legs.every((leg) => leg.state === "in-sync"));
    assert.deepEqual((await table(cluster)).map((leg) => leg.legIndex), [0, 2, 3]);

    await cluster.expect(["leg", "remove", "vol1", "2"]);
    assert.deepEqual((await table(cluster)).map((leg) => leg.legIndex), [0, 3]);
    assert.equal((await cluster.brmr(["verify", "vol1", "--rate", "unlimited"])).code, 0);
    await load.stop();
    await load.check();
    assert.equal(await cluster.detach(), 0);
    await expectLegsIdentical([cluster.legPaths[0], hot]);
  });
});

Deno.test("a leg whose disk is gone is replaced at its index; a disk with a file system is refused", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    const data = new Uint8Array(65536).fill(0x3c);
    await socket.write(0, data);
    await socket.flush();
    await cluster.stopNode(1);
    await cluster.waitDropped(1);
    await socket.write(65536, data);
    await Deno.remove(cluster.legPaths[1]);
    await cluster.startNode(1);
    const used = `${cluster.legPaths[1]}.used`;
    const image = new Uint8Array(1 << 20);
    image.set([0x53, 0xef], 1024 + 0x38);
    await Deno.writeFile(used, image);
    const refused = await cluster.brmr(["replace", "vol1", "--leg", "1", "--device", used]);
    assert.equal(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /ext2 file system/);
    const fresh = `${cluster.legPaths[1]}.new`;
    await cluster.expect(["replace", "vol1", "--leg", "1", "--device", fresh]);
    await until(cluster, (legs) => legs.every((leg) => leg.state === "in-sync"));
    assert.deepEqual((await table(cluster)).map((leg) => leg.legIndex), [0, 1]);
    assert.deepEqual(await socket.read(65536, 65536), data);
    await socket.close();
    assert.equal(await cluster.detach(), 0);
    await expectLegsIdentical([cluster.legPaths[0], fresh]);
  });
});

Deno.test("verify finds what has rotted on a disk, and repairs it from the first leg", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(1 << 20, new Uint8Array(65536).fill(0x42));
    await socket.flush();
    await rot(cluster.legPaths[1], 0x42);
    const found = await cluster.brmr(["verify", "vol1", "--rate", "unlimited", "--json"]);
    assert.equal(found.code, 6, found.stderr);
    const [difference] = JSON.parse(found.stdout).told;
    assert.deepEqual([difference.offsetBytes, difference.legMask, difference.sourceLegIndex], [1 << 20, 2, 0]);
    const repaired = await cluster.brmr(["verify", "vol1", "--repair", "--rate", "unlimited"]);
    assert.equal(repaired.code, 7, repaired.stdout + repaired.stderr);
    assert.equal((await cluster.brmr(["verify", "vol1"])).code, 0);
    await socket.close();
    assert.equal(await cluster.detach(), 0);
    await expectLegsIdentical(cluster.legPaths);
  });
});
