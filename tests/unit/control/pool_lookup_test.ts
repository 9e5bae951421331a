import assert from "node:assert/strict";
import { findAllPools, findPool } from "../../../lib/control/pool_lookup.ts";
import { deletePool, setResync } from "../../../lib/control/pool_operations.ts";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";
import { syncStatusOf } from "../../../lib/control/sync_status.ts";
import { FakeCluster, testRecord, testSnapshot, testUuid } from "./fake_node.ts";

const NOTHING = { permissions: "none" } as const;
const ADDRESSES = ["10.0.0.1:7701", "10.0.0.2:7701", "10.0.0.3:7701"];

/** Three nodes with a leg each of vol1. */
function threeLegs(): FakeCluster {
  const cluster = new FakeCluster(...ADDRESSES);
  const record = testRecord(ADDRESSES);
  cluster.nodes.forEach((node, index) => node.addLeg(testSnapshot(index, record)));
  return cluster;
}

async function rejectsWith(work: Promise<unknown>, code: ControlErrorCode, pattern: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof ControlError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("findPool() needs any one node and finds the others through the leg table", NOTHING, async () => {
  for (const start of ADDRESSES) {
    const cluster = threeLegs();
    const pool = await cluster.with((nodes) => findPool("vol1", [start], nodes));
    assert.equal(pool.poolUuid, testUuid(1));
    assert.deepEqual(pool.legs.map((leg) => leg.status?.path), ["/legs/0", "/legs/1", "/legs/2"]);
    assert.deepEqual([...cluster.dialled].sort(), ADDRESSES);
    assert.deepEqual(pool.unreachable, []);
  }
});

Deno.test("findPool() goes by name or UUID, and dials one address once however it is spelled", NOTHING, async () => {
  const cluster = threeLegs();
  const spellings = [ADDRESSES[0], `tcp://${ADDRESSES[0]}`, ADDRESSES[0]];
  const pool = await cluster.with((nodes) => findPool(testUuid(1), spellings, nodes));
  assert.equal(pool.poolName, "vol1");
  assert.equal(cluster.dialled.filter((address) => address === ADDRESSES[0]).length, 1);
});

Deno.test("nodes that are away are reported with their leg, not left out", NOTHING, async () => {
  const cluster = threeLegs();
  cluster.nodes[0].isDown = true;
  cluster.nodes[2].isDown = true;
  const pool = await cluster.with((nodes) => findPool("vol1", ADDRESSES, nodes));
  assert.deepEqual(pool.legs.map((leg) => leg.status === null), [true, false, true]);
  assert.match(pool.legs[0].problem ?? "", /10\.0\.0\.1:7701 cannot be reached/);
  assert.deepEqual(pool.unreachable.map((failure) => failure.address), [ADDRESSES[0], ADDRESSES[2]]);
});

Deno.test("the highest-ranked record counts, whoever holds it", NOTHING, async () => {
  const cluster = threeLegs();
  const newer = testRecord(ADDRESSES, { generation: 1, epoch: 2, inSyncMask: 0b010 });
  cluster.nodes[1].legs.clear();
  cluster.nodes[1].addLeg(
    testSnapshot(1, newer, { session: { clientName: "host:1", generation: 1, isCaretaker: false, isOrdered: false } }),
  );
  const pool = await cluster.with((nodes) => findPool("vol1", [ADDRESSES[0]], nodes));
  assert.equal(pool.record.epoch, 2);
  assert.deepEqual(pool.legs.map((leg) => leg.isInSyncMember), [false, true, false]);
  assert.equal(pool.heldBy, "host:1");
});

Deno.test("a caretaker is nobody who has the pool attached", NOTHING, async () => {
  const session = { clientName: "the caretaker of leg 1", generation: 2, isCaretaker: true, isOrdered: false };
  const cluster = threeLegs();
  cluster.nodes[1].legs.clear();
  cluster.nodes[1].addLeg(testSnapshot(1, testRecord(ADDRESSES), { session }));
  const pool = await cluster.with((nodes) => findPool("vol1", [ADDRESSES[0]], nodes));
  assert.equal(pool.heldBy, null);
  assert.equal(pool.isCaredFor, true);
  const result = await cluster.with(async (nodes) =>
    deletePool(await findPool("vol1", ADDRESSES, nodes), false, nodes)
  );
  assert.equal(result.deleted.length, 3);
});

Deno.test("a node that answers without the leg says so", NOTHING, async () => {
  const cluster = threeLegs();
  cluster.nodes[1].legs.clear();
  const pool = await cluster.with((nodes) => findPool("vol1", [ADDRESSES[0]], nodes));
  assert.match(pool.legs[1].problem ?? "", /does not have this leg/);
});

Deno.test("a node that cannot serve its leg tells why", NOTHING, async () => {
  const cluster = threeLegs();
  const legUuid = [...cluster.nodes[1].legs.keys()][0];
  cluster.nodes[1].legs.clear();
  const broken = [{ path: "/dev/x", legUuid, message: "Both copies are bad." }];
  cluster.nodes[1].handlers.set("node.info", () => ({ legs: [], broken }));
  const wanted = `The storage node ${ADDRESSES[1]} cannot serve it: Both copies are bad.`;
  const pool = await cluster.with((nodes) => findPool("vol1", [ADDRESSES[0]], nodes));
  assert.deepEqual(pool.legs.map(({ problem }) => problem), [null, wanted, null]);
  const { pools: [listed] } = await cluster.with((nodes) => findAllPools([ADDRESSES[0]], nodes));
  assert.deepEqual(listed.legs.map(({ problem }) => problem), [null, wanted, null]);
});

Deno.test("no node, no such pool, and nobody or not everybody answers are different errors", NOTHING, async () => {
  const cluster = threeLegs();
  await rejectsWith(cluster.with((nodes) => findPool("vol1", [], nodes)), "bad-request", /--node/);
  await rejectsWith(cluster.with((nodes) => findPool("vol2", ADDRESSES, nodes)), "not-found", /"vol2".*pool list/);
  cluster.nodes[2].isDown = true;
  await rejectsWith(
    cluster.with((nodes) => findPool("vol2", ADDRESSES, nodes)),
    "unreachable",
    /No reachable.*10\.0\.0\.3:7701 did not answer/,
  );
  for (const node of cluster.nodes) node.isDown = true;
  await rejectsWith(cluster.with((nodes) => findPool("vol1", ADDRESSES, nodes)), "unreachable", /10\.0\.0\.2/);
});

Deno.test("a name that stands for two pools is not guessed at", NOTHING, async () => {
  const cluster = new FakeCluster(ADDRESSES[0], ADDRESSES[1]);
  cluster.nodes.forEach((node, index) => {
    const record = testRecord([ADDRESSES[index]]);
    node.addLeg(testSnapshot(0, record, { poolUuid: testUuid(10 + index), legUuid: record.legs[0]!.uuid }));
  });
  const asked = [ADDRESSES[0], ADDRESSES[1]];
  await rejectsWith(cluster.with((nodes) => findPool("vol1", asked, nodes)), "bad-request", /two|Give the UUID/);
  const one = await cluster.with((nodes) => findPool(testUuid(11), asked, nodes));
  assert.equal(one.poolUuid, testUuid(11));
});

Deno.test("findAllPools() lists pools by name, broken legs, and who did not answer", NOTHING, async () => {
  const cluster = threeLegs();
  const other = testRecord([ADDRESSES[1]]);
  cluster.nodes[1].addLeg(
    testSnapshot(0, { ...other, legs: [{ ...other.legs[0]!, uuid: testUuid(77) }] }, {
      poolUuid: testUuid(2),
      poolName: "archive",
    }),
  );
  const info = cluster.nodes[1].handlers.get("node.info")!;
  cluster.nodes[1].handlers.set(
    "node.info",
    (request) => ({
      ...info(request) as object,
      broken: [{ path: "/dev/x", legUuid: testUuid(9), message: "Both copies are bad." }],
    }),
  );
  cluster.nodes[2].isDown = true;
  const found = await cluster.with((nodes) => findAllPools([ADDRESSES[0]], nodes));
  assert.deepEqual(found.pools.map((pool) => pool.poolName), ["archive", "vol1"]);
  const told = { path: "/dev/x", legUuid: testUuid(9), message: "Both copies are bad.", address: ADDRESSES[1] };
  assert.deepEqual(found.broken, [told]);
  assert.deepEqual(found.unreachable.map((failure) => failure.address), [ADDRESSES[2]]);
});

Deno.test("deletePool() deletes every leg", NOTHING, async () => {
  const cluster = threeLegs();
  const result = await cluster.with(async (nodes) =>
    deletePool(await findPool("vol1", ADDRESSES, nodes), false, nodes)
  );
  assert.deepEqual(cluster.nodes.map((node) => node.legs.size), [0, 0, 0]);
  assert.deepEqual(result.deleted.map((leg) => leg.legIndex), [0, 1, 2]);
  assert.deepEqual(result.left, []);
});

Deno.test(
  "deletePool() refuses an attached pool and one with a leg away, and then deletes nothing",
  NOTHING,
  async () => {
    const attached = threeLegs();
    attached.nodes[0].legs.clear();
    const session = { clientName: "host:42", generation: 3, isCaretaker: false, isOrdered: false };
    attached.nodes[0].addLeg(testSnapshot(0, testRecord(ADDRESSES), { session }));
    const remove = (cluster: FakeCluster, force: boolean) =>
      cluster.with(async (nodes) => deletePool(await findPool("vol1", ADDRESSES, nodes), force, nodes));
    await rejectsWith(remove(attached, false), "in-use", /host:42.*brmr detach vol1/);
    const away = threeLegs();
    away.nodes[2].isDown = true;
    await rejectsWith(remove(away, false), "unreachable", /Leg 2 .*--force/);
    assert.deepEqual([...attached.nodes, ...away.nodes].map((node) => node.legs.size), [1, 1, 1, 1, 1, 1]);
    const forced = await remove(away, true);
    assert.deepEqual(forced.deleted.map((leg) => leg.legIndex), [0, 1]);
    assert.deepEqual(forced.left.map((leg) => leg.legIndex), [2]);
  },
);

Deno.test("deletePool() reports a leg that would not go", NOTHING, async () => {
  const cluster = threeLegs();
  cluster.nodes[1].fail("leg.delete", new ControlError("device", "Read-only."));
  const result = await cluster.with(async (nodes) =>
    deletePool(await findPool("vol1", ADDRESSES, nodes), false, nodes)
  );
  assert.deepEqual(result.left, [{ legIndex: 1, address: ADDRESSES[1], message: "Read-only." }]);
});

Deno.test(
  "deletePool() deletes what an interrupted leg add or an unreachable leg remove has left",
  NOTHING,
  async () => {
    const stray = { legUuid: testUuid(400), legIndex: 3 };
    const lowest = testRecord(ADDRESSES, { generation: 0, epoch: 0 });
    const cluster = threeLegs();
    cluster.nodes[2].addLeg(testSnapshot(3, lowest, stray), "/stray.img");
    const remove = (from: string, force = false) =>
      cluster.with(async (nodes) => deletePool(await findPool("vol1", [from], nodes), force, nodes));
    const found = await cluster.with((nodes) => findPool("vol1", ADDRESSES, nodes));
    assert.deepEqual(syncStatusOf(found).strays.map(({ path, legUuid }) => [path, legUuid]), [
      ["/stray.img", stray.legUuid],
    ]);
    const result = await remove(ADDRESSES[0]);
    assert.deepEqual(result.deleted.map((leg) => leg.path), ["/legs/0", "/legs/1", "/legs/2", "/stray.img"]);
    assert.deepEqual(cluster.nodes.map((node) => node.legs.size), [0, 0, 0]);
    // The pool is gone elsewhere, and a node that was away then knows it by the stray alone.
    cluster.nodes[2].addLeg(testSnapshot(3, lowest, stray), "/stray.img");
    const alone = await remove(ADDRESSES[2]);
    assert.deepEqual(alone.deleted.map((leg) => leg.path), ["/stray.img"]);
    assert.deepEqual(alone.gone.map((leg) => leg.legIndex), [0, 1, 2]);
    assert.deepEqual(alone.left, []);
  },
);

Deno.test(
  "deletePool() finishes what a deletion has begun, and leaves no broken leg behind unsaid",
  NOTHING,
  async () => {
    const cluster = threeLegs();
    cluster.nodes[0].legs.clear();
    cluster.nodes[1].legs.clear();
    const info = cluster.nodes[1].handlers.get("node.info")!;
    const broken = [{ path: "/dev/x", legUuid: testUuid(101), message: "Both copies are bad." }];
    cluster.nodes[1].handlers.set("node.info", (request) => ({ ...info(request) as object, broken }));
    const remove = (force: boolean) =>
      cluster.with(async (nodes) => deletePool(await findPool("vol1", [ADDRESSES[2]], nodes), force, nodes));
    await rejectsWith(remove(false), "unreachable", /^Leg 1 \(10\.0\.0\.2:7701: .*Both copies are bad.*\) of pool/);
    cluster.nodes[1].handlers.set("node.info", info);
    const result = await remove(false);
    assert.deepEqual(result.deleted.map((leg) => leg.legIndex), [2]);
    assert.deepEqual(result.gone.map((leg) => leg.legIndex), [0, 1]);
    assert.deepEqual(result.left, []);
  },
);

Deno.test("setResync() reaches every node of the pool and names those it missed", NOTHING, async () => {
  const cluster = threeLegs();
  const seen: unknown[] = [];
  for (const node of cluster.nodes) {
    node.handlers.set("resync.set", (request) => {
      seen.push(request);
      return { legs: 1 };
    });
  }
  cluster.nodes[1].isDown = true;
  const result = await cluster.with(async (nodes) =>
    setResync(await findPool("vol1", ADDRESSES, nodes), { rateBytesPerSecond: 1000 }, nodes)
  );
  assert.deepEqual(result.set.map((node) => node.address), [ADDRESSES[0], ADDRESSES[2]]);
  assert.deepEqual(result.missed.map((node) => node.address), [ADDRESSES[1]]);
  assert.deepEqual(seen, [{ pool: testUuid(1), rateBytesPerSecond: 1000 }, {
    pool: testUuid(1),
    rateBytesPerSecond: 1000,
  }]);
});
