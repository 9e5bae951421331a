import assert from "node:assert/strict";
import { createPool } from "../../../lib/control/pool_creation.ts";
import { checkPoolName, defaultMinInSync, type PoolPlan } from "../../../lib/control/pool_rules.ts";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";
import { FakeCluster, testUuid } from "./fake_node.ts";

const NOTHING = { permissions: "none" } as const;
const A = "127.0.0.1:7701";
const B = "127.0.0.1:7702";
const C = "127.0.0.1:7703";

function plan(change: Partial<PoolPlan> = {}): PoolPlan {
  return {
    poolName: "vol1",
    sizeBytes: 1 << 30,
    legs: [{ address: A, path: "/data/a.img" }, { address: B, path: "/data/b.img" }],
    ...change,
  };
}

function sources() {
  let n = 0;
  return { newUuid: () => testUuid(++n), nowMs: () => 1_700_000_000_000 };
}

async function refuses(
  cluster: FakeCluster,
  asked: PoolPlan,
  code: ControlErrorCode,
  pattern: RegExp,
): Promise<void> {
  await assert.rejects(cluster.with((nodes) => createPool(asked, nodes, sources())), (error) => {
    assert(error instanceof ControlError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("createPool() makes all legs from one record, in sync when every file is new", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  const created = await cluster.with((nodes) => createPool(plan(), nodes, sources()));
  const legs = cluster.nodes.flatMap((node) => [...node.legs.values()]);
  assert.equal(legs.length, 2);
  assert.deepEqual(legs.map((leg) => leg.path), ["/data/a.img", "/data/b.img"]);
  const [first, second] = legs.map((leg) => leg.snapshot);
  assert.deepEqual(first.record.shared, second.record.shared);
  assert.equal(first.poolUuid, created.poolUuid);
  assert.notEqual(first.legUuid, second.legUuid);
  const { shared } = first.record;
  assert.equal(shared.inSyncMask, 0b11);
  assert.equal(shared.minInSync, 1);
  assert.equal(shared.ioTimeoutMs, 30_000);
  assert.deepEqual(shared.legs.map((leg) => [leg?.uuid, leg?.address, leg?.mapDefaultDirty, leg?.outSinceMs]), [
    [first.legUuid, A, false, 0],
    [second.legUuid, B, false, 0],
  ]);
  assert.equal(created.chunkBytes, 4096);
  assert.deepEqual(created.warnings, []);
});

Deno.test(
  "createPool() takes the largest logical block, and two legs in sync of three by default",
  NOTHING,
  async () => {
    const cluster = new FakeCluster(A, B, C);
    cluster.nodes[1].probes.set("/b", { logicalBlockBytes: 4096 });
    const legs = [{ address: A, path: "/a" }, { address: B, path: "/b" }, { address: C, path: "/c" }];
    const created = await cluster.with((nodes) => createPool(plan({ legs }), nodes, sources()));
    assert.equal(created.logicalBlockBytes, 4096);
    assert.equal(created.minInSync, 2);
    assert.deepEqual([1, 2, 3, 8].map(defaultMinInSync), [1, 1, 2, 2]);
  },
);

Deno.test(
  "of devices whose content is unknown, leg 0 is the source and the others are all dirty",
  NOTHING,
  async () => {
    const cluster = new FakeCluster(A, B, C);
    const legs = [{ address: A, path: "/a" }, { address: B, path: "/dev/b" }, { address: C, path: "/c" }];
    cluster.nodes[1].probes.set("/dev/b", { kind: "block-device", sizeBytes: 2 ** 31, found: null });
    const created = await cluster.with((nodes) => createPool(plan({ legs }), nodes, sources()));
    assert.deepEqual(created.legs.map((leg) => leg.isInSync), [true, false, false]);
    assert.equal(created.minInSync, 1, "With one leg in sync a higher limit would keep the pool from ever starting");
    const { shared } = [...cluster.nodes[0].legs.values()][0].snapshot.record;
    assert.deepEqual(shared.legs.map((leg) => leg?.mapDefaultDirty), [false, true, true]);
    assert.deepEqual(shared.legs.map((leg) => (leg?.outSinceMs ?? 0) > 0), [false, true, true]);
    assert.match(created.warnings.join(), /Leg 0 is the source/);
    await refuses(cluster, plan({ poolName: "vol2", legs, minInSync: 2 }), "refused", /min-in-sync 2/);
  },
);

Deno.test("an empty file counts as new, a filled one does not", NOTHING, async () => {
  for (const [sizeBytes, isInSync] of [[0, true], [4096, false]] as const) {
    const cluster = new FakeCluster(A, B);
    cluster.nodes[1].probes.set("/data/b.img", { kind: "file", sizeBytes, found: null });
    const created = await cluster.with((nodes) => createPool(plan(), nodes, sources()));
    assert.equal(created.legs[1].isInSync, isInSync);
    assert.equal(/b\.img.*was a file of 4 KiB and was made larger/.test(created.warnings.join()), !isInSync);
  }
});

Deno.test("a device with data is refused before anything is made; --force takes it", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  cluster.nodes[1].probes.set("/data/b.img", { kind: "file", sizeBytes: 1, found: "an ext4 file system" });
  await refuses(cluster, plan(), "foreign-data", /an ext4 file system.*--force/);
  assert(cluster.nodes.every((node) => node.legs.size === 0 && !node.calls.includes("leg.create")));
  const created = await cluster.with((nodes) => createPool(plan({ force: true }), nodes, sources()));
  assert.deepEqual(created.legs.map((leg) => leg.isInSync), [true, false]);
});

Deno.test("an unreachable node refuses the whole before anything is made", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  cluster.nodes[1].isDown = true;
  await refuses(cluster, plan(), "unreachable", /7702/);
  assert.equal(cluster.nodes[0].legs.size, 0);
});

Deno.test("when the n-th leg fails, for every n, nothing is left behind", NOTHING, async () => {
  const addresses = [A, B, C];
  const legs = addresses.map((address) => ({ address, path: "/leg" }));
  for (let n = 0; n < legs.length; n++) {
    const cluster = new FakeCluster(...addresses);
    cluster.nodes[n].fail("leg.create", new ControlError("device", "No space left."));
    await refuses(cluster, plan({ legs }), "device", new RegExp(`Leg ${n} .*No space left`));
    assert.equal(cluster.nodes.reduce((sum, node) => sum + node.legs.size, 0), 0, `Failure of leg ${n}`);
  }
});

Deno.test("a leg whose answer was lost is deleted too", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  const make = cluster.nodes[1].handlers.get("leg.create")!;
  cluster.nodes[1].handlers.set("leg.create", (request) => {
    make(request);
    throw new ControlError("timeout", "No answer.");
  });
  await refuses(cluster, plan(), "timeout", /No answer/);
  assert.deepEqual(cluster.nodes.map((node) => node.legs.size), [0, 0]);
});

Deno.test("what cannot be undone is said", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  cluster.nodes[0].fail("leg.delete", new ControlError("device", "Disk gone."));
  cluster.nodes[1].fail("leg.create", new ControlError("device", "No space left."));
  await refuses(cluster, plan(), "device", /could not be undone: 127\.0\.0\.1:7701:\/data\/a\.img \(Disk gone\.\)/);
});

Deno.test("a name that a node already has is refused", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  await cluster.with((nodes) => createPool(plan(), nodes, sources()));
  const legs = [{ address: A, path: "/x" }, { address: B, path: "/y" }];
  await refuses(cluster, plan({ legs }), "exists", /already has a pool called "vol1"/);
});

Deno.test("plans that break a rule are refused without dialling anybody", NOTHING, async () => {
  const cluster = new FakeCluster(A, B);
  const nine = Array.from({ length: 9 }, (_, i) => ({ address: A, path: `/${i}` }));
  const cases: [Partial<PoolPlan>, RegExp][] = [
    [{ poolName: "a b" }, /letters, digits/],
    [{ poolName: "" }, /letters, digits/],
    [{ poolName: "../x" }, /letters, digits/],
    [{ poolName: "x".repeat(64) }, /letters, digits/],
    [{ poolName: testUuid(5) }, /looks like a UUID/],
    [{ legs: [] }, /at least two legs/],
    [{ legs: [{ address: A, path: "/a" }] }, /at least two legs, 1 given/],
    [{ legs: nine }, /at most 8/],
    [{ legs: [{ address: A, path: "/a" }, { address: A, path: "/a" }] }, /given twice/],
    [{ sizeBytes: 0 }, /multiple of 4K/],
    [{ sizeBytes: 4097 }, /multiple of 4K/],
    [{ chunkBytes: 3 * 4096 }, /power of two/],
    [{ chunkBytes: 2048 }, /power of two/],
    [{ chunkBytes: 1 << 21 }, /power of two/],
    [{ sizeBytes: 2 ** 45 }, /--chunk 8192/],
    [{ sizeBytes: 2 ** 52 + 4096 }, /more than a pool can have/],
    [{ extentBytes: 4096 }, /extent/],
    [{ extentBytes: 65536, chunkBytes: 1 << 20 }, /extent/],
    [{ hotExtentCount: 1 }, /hot extents/],
    [{ hotExtentCount: 8193 }, /Choose 16 to 8192/],
    [{ minInSync: 0 }, /min-in-sync 0/],
    [{ minInSync: 3 }, /Choose 1 to 2/],
    [{ ioTimeoutMs: -1 }, /timeout/],
  ];
  for (const [change, pattern] of cases) await refuses(cluster, plan(change), "bad-request", pattern);
  assert.deepEqual(cluster.dialled, []);
});

Deno.test("names that are allowed are allowed, and legs on one node warned about", NOTHING, async () => {
  for (const name of ["a", "vol1", "Vol-1_x.y", "9", "x".repeat(63)]) checkPoolName(name);
  const cluster = new FakeCluster(A);
  const legs = [{ address: A, path: "/a" }, { address: A, path: "/b" }];
  const created = await cluster.with((nodes) => createPool(plan({ legs }), nodes, sources()));
  assert.match(created.warnings.join(), /same storage node/);
  assert.equal(cluster.nodes[0].legs.size, 2);
  const mixed = new FakeCluster(A, "10.0.0.2:7701");
  const apart = [{ address: A, path: "/a" }, { address: "10.0.0.2:7701", path: "/b" }];
  const warned = await mixed.with((nodes) => createPool(plan({ legs: apart }), nodes, sources()));
  assert.match(warned.warnings.join(), /Only this machine reaches 127\.0\.0\.1:7701/);
});
