/** Replacing a leg's disk where no other node can be reached, and taking replacements back. */

import assert from "node:assert/strict";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { NbdSocket } from "./nbd_socket.ts";

const LIMIT_MS = 120_000;
const CHUNK = 65536;

// deno-lint-ignore no-explicit-any -- what the command prints
async function shown(cluster: Cluster, node?: number): Promise<any> {
  const nodes = node === undefined ? [] : ["--node", cluster.addresses[node]];
  return JSON.parse(await cluster.expect(["status", cluster.poolName, "--json", ...nodes], [0, 5]));
}

async function untilWhole(cluster: Cluster): Promise<void> {
  await waitFor("the legs to be in sync, with nobody having the pool", LIMIT_MS, async () => {
    const { legs, isCaredFor } = await shown(cluster);
    return !isCaredFor && legs.every((leg: { state: string }) => leg.state === "in-sync");
  });
}

async function writeAt(cluster: Cluster, offset: number, value: number): Promise<void> {
  const socket = await NbdSocket.connect(cluster.uri);
  await socket.write(offset, new Uint8Array(CHUNK).fill(value));
  await socket.flush();
  await socket.close();
}

async function expectAt(cluster: Cluster, offset: number, value: number): Promise<void> {
  const socket = await NbdSocket.connect(cluster.uri);
  assert.deepEqual(await socket.read(offset, CHUNK), new Uint8Array(CHUNK).fill(value));
  await socket.close();
}

/** A pool of two legs of which leg 1 has missed a write; nobody has it attached, and both nodes are down. */
async function withLegBehind(body: (cluster: Cluster) => Promise<void>): Promise<void> {
  await withCluster({ size: "64M" }, async (cluster) => {
    await writeAt(cluster, 0, 0x11);
    await cluster.stopNode(1);
    await cluster.waitDropped(1);
    await writeAt(cluster, CHUNK, 0x22);
    assert.equal(await cluster.detach(), 0);
    await cluster.stopNode(0);
    await body(cluster);
  });
}

/** The pool is whole, holds what was written, and its legs are equal. */
async function expectSound(cluster: Cluster, legPaths: readonly string[]): Promise<void> {
  await untilWhole(cluster);
  await cluster.attach();
  await expectAt(cluster, 0, 0x11);
  await expectAt(cluster, CHUNK, 0x22);
  assert.equal(await cluster.detach(), 0);
  for (const index of cluster.addresses.keys()) await cluster.stopNode(index, "SIGTERM");
  await expectLegsIdentical(legPaths);
}

Deno.test("a node that reaches no other gives its leg a new disk; the pool takes it in when it can", async () => {
  await withLegBehind(async (cluster) => {
    const alone = ["--node", cluster.addresses[1]];
    await Deno.remove(cluster.legPaths[1]);
    await cluster.startNode(1);
    const nobody = await cluster.brmr(["replace", "vol1", "--leg", "0", "--device", "/nowhere/x.img", ...alone]);
    assert.equal(nobody.code, 3, nobody.stderr);
    const wrong = `${cluster.directory}/wrong.img`;
    const right = `${cluster.directory}/right.img`;
    const first = await cluster.brmr(["replace", "vol1", "--leg", "1", "--device", wrong, ...alone]);
    assert.equal(first.code, 5, first.stderr);
    assert.match(first.stdout, /when another leg of the pool is reachable/);
    assert.match(JSON.stringify((await shown(cluster, 1)).legs), /wrong\.img is to take its place/);
    // Another disk instead, for as long as nothing relies on the first.
    const second = await cluster.brmr(["replace", "vol1", "--leg", "1", "--device", right, ...alone]);
    assert.equal(second.code, 5, second.stderr);
    await assert.rejects(Deno.stat(wrong), Deno.errors.NotFound);
    // It outlives the node.
    await cluster.stopNode(1);
    await cluster.startNode(1);
    assert.match(JSON.stringify((await shown(cluster, 1)).legs), /right\.img is to take its place/);
    await cluster.startNode(0);
    await untilWhole(cluster);
    const late = await cluster.brmr(["replace", "vol1", "--leg", "1", "--undo"]);
    assert.equal(late.code, 4, late.stderr);
    assert.match(late.stderr, /no replacement that could be undone/);
    await expectSound(cluster, [cluster.legPaths[0], right]);
  });
});

Deno.test("a replacement that nothing relies on yet is taken back: the old disk resyncs only what it missed", async () => {
  await withLegBehind(async (cluster) => {
    const alone = ["--node", cluster.addresses[1]];
    const [, old] = cluster.legPaths;
    await Deno.rename(old, `${old}.unplugged`);
    await cluster.startNode(1);
    const wrong = `${cluster.directory}/wrong.img`;
    const begun = await cluster.brmr(["replace", "vol1", "--leg", "1", "--device", wrong, ...alone]);
    assert.equal(begun.code, 5, begun.stderr);
    await Deno.rename(`${old}.unplugged`, old);
    const undone = await cluster.brmr(["replace", "vol1", "--leg", "1", "--undo", ...alone]);
    assert.equal(undone.code, 0, undone.stderr);
    assert.match(undone.stdout, /leg1\.img again/);
    await assert.rejects(Deno.stat(wrong), Deno.errors.NotFound);
    const twice = await cluster.brmr(["replace", "vol1", "--leg", "1", "--undo", ...alone]);
    assert.equal(twice.code, 4, twice.stderr);
    await cluster.startNode(0);
    await untilWhole(cluster);
    const [, leg] = (await shown(cluster)).legs;
    assert.ok(leg.copiedBytes === null || leg.copiedBytes <= 1 << 20, `${leg.copiedBytes} bytes were copied`);
    await expectSound(cluster, cluster.legPaths);
  });
});

Deno.test("a leg that works and may be the last good one is not replaced by a node that reaches no other", async () => {
  await withLegBehind(async (cluster) => {
    await cluster.startNode(1);
    const fresh = `${cluster.directory}/fresh.img`;
    const args = ["replace", "vol1", "--leg", "1", "--device", fresh, "--node", cluster.addresses[1]];
    const refused = await cluster.brmr(args);
    assert.equal(refused.code, 4, refused.stdout + refused.stderr);
    assert.match(refused.stderr, /leg 0 .* may have gone on without leg 1/);
    await assert.rejects(Deno.stat(fresh), Deno.errors.NotFound);
    await cluster.startNode(0);
    await expectSound(cluster, cluster.legPaths);
  });
});
