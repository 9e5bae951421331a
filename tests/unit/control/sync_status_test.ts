import assert from "node:assert/strict";
import { findPool } from "../../../lib/control/pool_lookup.ts";
import { syncStatusOf } from "../../../lib/control/sync_status.ts";
import { gatherDirtyMaps, mergeDirtyMaps } from "../../../lib/control/dirty_map_report.ts";
import { ControlError } from "../../../lib/control/control_api.ts";
import type { ResyncSnapshot } from "../../../lib/core/snapshot.ts";
import { FakeCluster, testRecord, testSnapshot } from "./fake_node.ts";

const NOTHING = { permissions: "none" } as const;
const ADDRESSES = ["10.0.0.1:7701", "10.0.0.2:7701", "10.0.0.3:7701"];

function resync(change: Partial<ResyncSnapshot> = {}): ResyncSnapshot {
  return {
    resyncSession: 1,
    mode: "dirty",
    state: "running",
    missingBytes: 3 << 20,
    totalBytes: 10 << 20,
    copiedBytes: 6 << 20,
    skippedBytes: 1 << 20,
    rateBytesPerSecond: 1 << 20,
    etaMs: 3000,
    sourceLegIndex: 0,
    limitBytesPerSecond: 0,
    message: "",
    ...change,
  };
}

function dirty(legIndex: number, dirtyBytes: number) {
  return { legIndex, dirtyBytes, dirtyChunks: dirtyBytes / 4096, memoryBytes: 100 };
}

/** Legs 0 and 1 in sync, leg 2 out; 0 and 1 differ on what 2 lacks. */
function degraded(): FakeCluster {
  const cluster = new FakeCluster(...ADDRESSES);
  const record = testRecord(ADDRESSES, { epoch: 2, inSyncMask: 0b011 });
  cluster.nodes[0].addLeg(testSnapshot(0, record, { dirty: [dirty(2, 8192)] }));
  cluster.nodes[1].addLeg(testSnapshot(1, record, { dirty: [dirty(2, 4096)] }));
  cluster.nodes[2].addLeg(testSnapshot(2, testRecord(ADDRESSES), { state: "stale" }));
  return cluster;
}

const statusOf = (cluster: FakeCluster) =>
  cluster.with(async (nodes) => syncStatusOf(await findPool("vol1", ADDRESSES, nodes)));

Deno.test("all in sync is whole and lacks nothing", NOTHING, async () => {
  const cluster = new FakeCluster(...ADDRESSES);
  const record = testRecord(ADDRESSES);
  cluster.nodes.forEach((node, index) => node.addLeg(testSnapshot(index, record)));
  const status = await statusOf(cluster);
  assert.equal(status.isWhole, true);
  assert.deepEqual(status.legs.map((leg) => [leg.state, leg.missingBytes]), [
    ["in-sync", 0],
    ["in-sync", 0],
    ["in-sync", 0],
  ]);
});

Deno.test("a stale leg's missing bytes are the most that any in-sync leg knows", NOTHING, async () => {
  const status = await statusOf(degraded());
  assert.equal(status.isWhole, false);
  assert.deepEqual(status.legs.map((leg) => leg.state), ["in-sync", "in-sync", "stale"]);
  assert.equal(status.legs[2].missingBytes, 8192);
});

Deno.test("a leg that is away is told about by the others", NOTHING, async () => {
  const cluster = degraded();
  cluster.nodes[2].isDown = true;
  const status = await statusOf(cluster);
  assert.equal(status.legs[2].state, "away");
  assert.equal(status.legs[2].missingBytes, 8192);
  assert.match(status.legs[2].message, /cannot be reached/);
});

Deno.test("what nobody reachable knows is null, not zero", NOTHING, async () => {
  const cluster = degraded();
  cluster.nodes[0].isDown = true;
  cluster.nodes[1].isDown = true;
  const status = await statusOf(cluster);
  // Leg 2 holds an old record by which all are in sync; the others cannot contradict.
  assert.deepEqual(status.legs.map((leg) => [leg.state, leg.missingBytes]), [
    ["away", null],
    ["away", null],
    ["in-sync", 0],
  ]);
  assert.equal(status.isWhole, false);
});

Deno.test("a leg with an older record is no witness", NOTHING, async () => {
  const cluster = degraded();
  const stale = testRecord(ADDRESSES, { epoch: 1, inSyncMask: 0b111 });
  cluster.nodes[0].legs.clear();
  cluster.nodes[0].addLeg(testSnapshot(0, stale, { dirty: [dirty(2, 1 << 20)] }));
  assert.equal((await statusOf(cluster)).legs[2].missingBytes, 4096);
});

Deno.test("a resyncing leg tells for itself", NOTHING, async () => {
  const cluster = degraded();
  cluster.nodes[2].legs.clear();
  cluster.nodes[2].addLeg(testSnapshot(2, testRecord(ADDRESSES), { state: "resyncing", resync: resync() }));
  const leg = (await statusOf(cluster)).legs[2];
  assert.equal(leg.state, "resyncing");
  assert.equal(leg.missingBytes, 3 << 20);
  assert.equal(leg.totalBytes, 10 << 20);
  assert.equal(leg.rateBytesPerSecond, 1 << 20);
  assert.equal(leg.etaMs, 3000);
  assert.equal(leg.isPaused, false);
  assert.equal(leg.sourceLegIndex, 0);
});

Deno.test("since when a leg is out is told only when it is known", NOTHING, async () => {
  for (const [outSinceMs, expected] of [[0, null], [1, null], [1_700_000_000_000, 1_700_000_000_000]] as const) {
    const cluster = new FakeCluster(...ADDRESSES);
    const record = testRecord(ADDRESSES, { inSyncMask: 0b011 });
    const legs = record.legs.map((entry, index) => entry && (index === 2 ? { ...entry, outSinceMs } : entry));
    cluster.nodes[0].addLeg(testSnapshot(0, { ...record, legs }));
    assert.equal((await statusOf(cluster)).legs[2].outSinceMs, expected);
  }
});

Deno.test("a failed resync leaves the leg stale with its reason, at no rate", NOTHING, async () => {
  const cluster = degraded();
  cluster.nodes[2].legs.clear();
  const failed = resync({ state: "failed", message: "Leg 0 went away" });
  cluster.nodes[2].addLeg(testSnapshot(2, testRecord(ADDRESSES), { state: "stale", resync: failed }));
  const leg = (await statusOf(cluster)).legs[2];
  assert.deepEqual([leg.state, leg.message, leg.rateBytesPerSecond, leg.missingBytes], [
    "stale",
    "Leg 0 went away",
    0,
    8192,
  ]);
});

function map(buckets: number[], runs: { offsetBytes: number; lengthBytes: number }[], runCount = runs.length) {
  const dirtyBytes = runs.reduce((sum, run) => sum + run.lengthBytes, 0);
  return {
    legIndex: 2,
    chunkBytes: 4096,
    sizeBytes: 1 << 30,
    dirtyChunks: dirtyBytes / 4096,
    dirtyBytes,
    memoryBytes: 500,
    buckets,
    runCount,
    runs,
  };
}

Deno.test("mergeDirtyMaps() unites runs: overlapping, touching and apart", NOTHING, () => {
  const merged = mergeDirtyMaps(
    [
      map([2, 0], [{ offsetBytes: 0, lengthBytes: 8192 }, { offsetBytes: 65536, lengthBytes: 4096 }]),
      map([1, 3], [{ offsetBytes: 4096, lengthBytes: 8192 }, { offsetBytes: 69632, lengthBytes: 4096 }]),
    ],
    2,
    10,
  );
  assert.deepEqual(merged.runs, [{ offsetBytes: 0, lengthBytes: 12288 }, { offsetBytes: 65536, lengthBytes: 8192 }]);
  assert.equal(merged.dirtyBytes, 20480);
  assert.equal(merged.dirtyChunks, 5);
  assert.equal(merged.runCount, 2);
  assert.deepEqual(merged.buckets, [2, 3]);
});

Deno.test("mergeDirtyMaps() takes the larger count when not all runs are listed", NOTHING, () => {
  const one = map([9], [{ offsetBytes: 0, lengthBytes: 4096 }], 7);
  const merged = mergeDirtyMaps([{ ...one, dirtyBytes: 40960, dirtyChunks: 10 }, map([1], [])], 1, 10);
  assert.equal(merged.dirtyBytes, 40960);
  assert.equal(merged.runCount, 7);
});

Deno.test("mergeDirtyMaps() equals a slow union on random maps", NOTHING, () => {
  let seed = 12345;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  for (let round = 0; round < 200; round++) {
    const union = new Set<number>();
    const maps = Array.from({ length: 1 + random(3) }, () => {
      const chunks = new Set(Array.from({ length: random(12) }, () => random(20)));
      for (const chunk of chunks) union.add(chunk);
      const runs: { offsetBytes: number; lengthBytes: number }[] = [];
      for (const chunk of [...chunks].sort((a, b) => a - b)) {
        const last = runs.at(-1);
        if (last !== undefined && last.offsetBytes + last.lengthBytes === chunk * 4096) last.lengthBytes += 4096;
        else runs.push({ offsetBytes: chunk * 4096, lengthBytes: 4096 });
      }
      return map([chunks.size], runs);
    });
    const merged = mergeDirtyMaps(maps, 1, 100);
    assert.equal(merged.dirtyChunks, union.size);
    const listed = merged.runs.flatMap((run) =>
      Array.from({ length: run.lengthBytes / 4096 }, (_, i) => run.offsetBytes / 4096 + i)
    );
    assert.deepEqual(listed, [...union].sort((a, b) => a - b));
  }
});

Deno.test("gatherDirtyMaps() asks the in-sync legs about the others", NOTHING, async () => {
  const cluster = degraded();
  const asked: unknown[] = [];
  cluster.nodes.forEach((node, index) =>
    node.handlers.set("pool.dirtyMap", (request) => {
      asked.push([index, request.legIndex]);
      return map([1, 0], [{ offsetBytes: index * 4096, lengthBytes: 4096 }]);
    })
  );
  const gather = (legIndex?: number) =>
    cluster.with(async (nodes) => {
      const pool = await findPool("vol1", ADDRESSES, nodes);
      return await gatherDirtyMaps(pool, { legIndex, buckets: 2, maxRuns: 10 }, nodes);
    });
  const [report] = await gather();
  assert.deepEqual(asked, [[0, 2], [1, 2]]);
  assert.equal(report.legIndex, 2);
  assert.deepEqual(report.toldBy, [0, 1]);
  assert.deepEqual(report.runs, [{ offsetBytes: 0, lengthBytes: 8192 }]);
  // A member of the set is not asked about itself.
  assert.deepEqual((await gather(1))[0].toldBy, [0]);
  await assert.rejects(gather(5), (error) => error instanceof ControlError && error.code === "not-found");
  cluster.nodes[0].isDown = true;
  cluster.nodes[1].isDown = true;
  // Leg 2 alone believes an old record; it counts itself in.
  assert.deepEqual(await gather(), []);
});
