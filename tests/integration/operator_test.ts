/** What operators do to a pool that nobody has attached: its storage nodes carry it out. */

import assert from "node:assert/strict";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical, rot } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";
import { NbdSocket } from "./nbd_socket.ts";

const LIMIT_MS = 120_000;
const BLOCKS = 4096;

/** What the storage nodes say of the legs, by `status --json`. */
// deno-lint-ignore no-explicit-any -- what the command prints
async function shown(cluster: Cluster): Promise<any> {
  return JSON.parse(await cluster.expect(["status", cluster.poolName, "--json"], [0, 5]));
}

/** Waits until the legs of the table are as wanted, and nobody has the pool. */
async function untilAtRest(cluster: Cluster, what: string, legIndices: readonly number[]): Promise<void> {
  await waitFor(what, LIMIT_MS, async () => {
    const { legs, isCaredFor, heldBy } = await shown(cluster);
    assert.equal(heldBy, null);
    const isInSync = legs.every((leg: { state: string }) => leg.state === "in-sync");
    const indices = legs.map((leg: { legIndex: number }) => leg.legIndex);
    return isInSync && !isCaredFor && JSON.stringify(indices) === JSON.stringify(legIndices);
  });
}

/** A cluster with some data on it that nobody has attached, and the load that knows the data. */
async function withIdlePool(
  options: { nodeCount?: number; createArguments?: string[] },
  seed: number,
  body: (cluster: Cluster, load: BlockLoad) => Promise<void>,
): Promise<void> {
  await withCluster({ size: "64M", ...options }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, seed);
    load.start(8);
    await load.waitForWrites(300, LIMIT_MS);
    await load.stop();
    assert.equal(await cluster.detach(), 0);
    await body(cluster, load);
  });
}

/** The data is what was written, and every leg of the table has it. */
async function expectSound(cluster: Cluster, load: BlockLoad, legPaths: readonly string[]): Promise<void> {
  await cluster.attach();
  await load.check();
  assert.equal(await cluster.detach(), 0);
  for (const index of cluster.addresses.keys()) await cluster.stopNode(index, "SIGTERM");
  await expectLegsIdentical(legPaths);
}

Deno.test("legs are drained, undrained, added and removed while nobody has the pool attached", async () => {
  await withIdlePool({}, 31, async (cluster, load) => {
    await cluster.expect(["leg", "drain", "vol1", "1"]);
    const last = await cluster.brmr(["leg", "drain", "vol1", "0"]);
    assert.equal(last.code, 4, last.stderr);
    assert.match(last.stderr, /last one in sync/);
    await cluster.expect(["leg", "undrain", "vol1", "1"]);
    await untilAtRest(cluster, "the undrained leg to be in sync", [0, 1]);

    const third = `${cluster.directory}/third.img`;
    await cluster.expect(["leg", "add", "vol1", "--leg", `${cluster.addresses[0]}:${third}`]);
    await untilAtRest(cluster, "the new leg to be in sync", [0, 1, 2]);
    await cluster.expect(["leg", "remove", "vol1", "1"]);
    await untilAtRest(cluster, "the removed leg to be gone", [0, 2]);
    await expectSound(cluster, load, [cluster.legPaths[0], third]);
  });
});

Deno.test("a leg is replaced, and the legs are verified, while nobody has the pool attached", async () => {
  await withIdlePool({}, 32, async (cluster, load) => {
    const other = `${cluster.directory}/other.img`;
    await cluster.expect(["replace", "vol1", "--leg", "1", "--device", other]);
    await untilAtRest(cluster, "the old leg to be gone", [0, 2]);
    assert.equal((await cluster.brmr(["verify", "vol1", "--rate", "unlimited"])).code, 0);
    await expectSound(cluster, load, [cluster.legPaths[0], other]);
  });
});

Deno.test("while a client has the pool, another machine's command is refused and says who has it", async () => {
  await withCluster({ size: "16M" }, async (cluster) => {
    const elsewhere = { BRMR_RUNTIME_DIR: `${cluster.directory}/elsewhere` };
    for (const args of [["leg", "drain", "vol1", "1"], ["verify", "vol1"], ["leg", "remove", "vol1", "1"]]) {
      const refused = await cluster.brmr(args, elsewhere);
      assert.equal(refused.code, 4, `${args.join(" ")}: ${refused.stderr}`);
      assert.match(refused.stderr, new RegExp(`attached by .*:${cluster.client.pid}\\b.*that machine`, "s"));
    }
    assert.equal(await cluster.detach(), 0);
    const nobody = await cluster.brmr(["leg", "drain", "vol1", "1"], { ...elsewhere, BRMR_NODES: "" });
    assert.equal(nobody.code, 3, nobody.stderr);
    assert.match(nobody.stderr, /no storage node is named/);
  });
});

Deno.test("a node dies in the middle of a replacement that nobody attended: the legs finish it", async () => {
  await withIdlePool({ nodeCount: 3, createArguments: ["--min-in-sync", "1"] }, 33, async (cluster, load) => {
    const other = `${cluster.directory}/other.img`;
    await cluster.expect(["replace", "vol1", "--leg", "1", "--device", other, "--no-wait"]);
    for (const index of cluster.addresses.keys()) await cluster.stopNode(index);
    for (const index of cluster.addresses.keys()) await cluster.startNode(index);
    await untilAtRest(cluster, "the replacement to be finished", [0, 2, 3]);
    await expectSound(cluster, load, [cluster.legPaths[0], cluster.legPaths[2], other]);
  });
});

Deno.test("verify without a client has the same exit codes, and other commands go on beside it", async () => {
  await withCluster({ size: "64M", nodeCount: 3 }, async (cluster) => {
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(1 << 20, new Uint8Array(65536).fill(0x42));
    await socket.flush();
    await socket.close();
    assert.equal(await cluster.detach(), 0);
    await rot(cluster.legPaths[1], 0x42);
    // Slow enough to be still at it when the other command comes.
    const slow = cluster.brmr(["verify", "vol1", "--rate", "8M", "--json"]);
    await waitFor("the verify to run", LIMIT_MS, () => {
      return Promise.resolve(cluster.logs().includes("The in-sync legs are compared"));
    });
    const twice = await cluster.brmr(["verify", "vol1"]);
    assert.equal(twice.code, 4, twice.stderr);
    assert.match(twice.stderr, /running already/);
    await cluster.expect(["leg", "drain", "vol1", "2"]);
    const found = await slow;
    assert.equal(found.code, 6, found.stderr);
    const [difference] = JSON.parse(found.stdout).told;
    assert.deepEqual([difference.offsetBytes, difference.legMask, difference.isMajority], [1 << 20, 2, true]);
    await cluster.expect(["leg", "undrain", "vol1", "2"]);
    await untilAtRest(cluster, "the undrained leg to be in sync", [0, 1, 2]);
    const repaired = await cluster.brmr(["verify", "vol1", "--repair", "--rate", "unlimited"]);
    assert.equal(repaired.code, 7, repaired.stdout + repaired.stderr);
    assert.equal((await cluster.brmr(["verify", "vol1", "--rate", "unlimited"])).code, 0);
    for (const index of cluster.addresses.keys()) await cluster.stopNode(index, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("a pool that is attached read-only only is changed by its storage nodes, and the reader goes on", async () => {
  await withIdlePool({}, 34, async (cluster, load) => {
    await cluster.attach(["--read-only"]);
    await cluster.expect(["leg", "drain", "vol1", "1"]);
    await cluster.expect(["leg", "undrain", "vol1", "1"]);
    await untilAtRest(cluster, "the undrained leg to be in sync", [0, 1]);
    assert.equal((await cluster.brmr(["verify", "vol1", "--rate", "unlimited"])).code, 0);
    await load.check();
    assert.equal(await cluster.detach(), 0);
    await expectSound(cluster, load, cluster.legPaths);
  });
});
