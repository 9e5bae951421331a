import assert from "node:assert/strict";
import { formatCount, formatTable, painter, widthOf } from "../../../cli/paint.ts";
import { MAP_ROWS, mapColumns, renderDirtyMap } from "../../../cli/render_dirty_map.ts";
import {
  renderAddedLeg,
  renderRemovedLeg,
  renderReplacement,
  renderVerify,
  renderVerifyProgress,
} from "../../../cli/render_leg.ts";
import { exitCodeOfVerify } from "../../../cli/verify.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import type { VerifySnapshot } from "../../../lib/core/snapshot.ts";
import { renderCreatedPool, renderDeletedPool, renderPoolList } from "../../../cli/render_pool.ts";
import { type AttachedClient, renderOverview, renderPoolStatus } from "../../../cli/render_status.ts";
import { renderBar, renderSyncStatus } from "../../../cli/render_sync.ts";
import type { DirtyMapReport } from "../../../lib/control/dirty_map_report.ts";
import { findAllPools, type FoundPools } from "../../../lib/control/pool_lookup.ts";
import type { LegSync, SyncStatus } from "../../../lib/control/sync_status.ts";
import { FakeCluster, testRecord, testSnapshot, testUuid } from "../control/fake_node.ts";
import { BUSY_CLIENT } from "./client_fixture.ts";
import { assertGolden } from "./golden.ts";

const PLAIN = painter(false);
const COLOR = painter(true);
const NOW_MS = 1_700_000_000_000;
const NODES = ["10.0.0.1:7701", "10.0.0.2:7701", "10.0.0.3:7701"];

function leg(legIndex: number, change: Partial<LegSync> = {}): LegSync {
  return {
    legIndex,
    legUuid: testUuid(100 + legIndex),
    address: NODES[legIndex],
    path: `/data/${"abc"[legIndex]}.img`,
    state: "in-sync",
    missingBytes: 0,
    totalBytes: null,
    copiedBytes: null,
    skippedBytes: null,
    rateBytesPerSecond: 0,
    etaMs: null,
    isPaused: false,
    isDrained: false,
    limitBytesPerSecond: 0,
    sourceLegIndex: null,
    outSinceMs: null,
    message: "",
    ...change,
  };
}

function sync(legs: LegSync[], change: Partial<SyncStatus> = {}): SyncStatus {
  return {
    poolUuid: testUuid(1),
    poolName: "vol1",
    sizeBytes: 1 << 30,
    generation: 3,
    epoch: 7,
    minInSync: 1,
    heldBy: null,
    isCaredFor: false,
    legs,
    strays: [],
    isWhole: legs.every((each) => each.state === "in-sync"),
    isRedundant: legs.length > 1 && legs.every((each) => each.state === "in-sync"),
    ...change,
  };
}

const RESYNCING = leg(1, {
  state: "resyncing",
  missingBytes: 301 << 20,
  totalBytes: 640 << 20,
  copiedBytes: 300 << 20,
  skippedBytes: 39 << 20,
  rateBytesPerSecond: 82.4 * (1 << 20),
  etaMs: 3650,
  sourceLegIndex: 0,
  outSinceMs: NOW_MS - 65_000,
});
const AWAY = leg(2, {
  state: "away",
  path: null,
  missingBytes: null,
  outSinceMs: NOW_MS - 7_200_000,
  message: "The storage node 10.0.0.3:7701 cannot be reached (connection refused).",
});

Deno.test("sync-status: all in sync", () => {
  assertGolden(
    "sync_whole.txt",
    renderSyncStatus(sync([leg(0), leg(1)]), { paint: PLAIN, columns: 100, nowMs: NOW_MS }),
  );
});

Deno.test("sync-status: one resyncing, one away; plain and in colour", () => {
  const status = sync([leg(0), RESYNCING, AWAY]);
  assertGolden("sync_degraded.txt", renderSyncStatus(status, { paint: PLAIN, columns: 100, nowMs: NOW_MS }));
  assertGolden("sync_degraded_color.txt", renderSyncStatus(status, { paint: COLOR, columns: 60, nowMs: NOW_MS }));
});

Deno.test("a pool of one leg is whole and not redundant, and says so", () => {
  const one = sync([leg(0)]);
  const text = renderPoolStatus(one, null, PLAIN);
  assert.match(text, /in sync, but there is only one leg/);
});

Deno.test("pool show: what was fixed when the pool was made", () => {
  const record = { ioTimeoutMs: 30_000 } as SharedEpoch;
  const made = { chunkBytes: 4096, logicalBlockBytes: 512, extentBytes: 1 << 20, hotExtentCount: 2048, record };
  const text = renderPoolStatus(sync([leg(0), leg(1)]), null, PLAIN, made);
  assert.match(text, /^ {2}blocks +logical 512 B, chunk 4 KiB$/m);
  assert.match(text, /^ {2}intent log +2,048 extents of 1 MiB$/m);
  assert.match(text, /^ {2}I\/O timeout +30 s$/m);
});

Deno.test("what an operator has made of a leg is in status as in sync-status, with the way back", () => {
  const limited = leg(1, { ...RESYNCING, isPaused: true, limitBytesPerSecond: 50 << 20 });
  const drained = leg(2, { state: "stale", isDrained: true });
  const text = renderPoolStatus(sync([leg(0), limited, drained]), null, PLAIN);
  assert.match(text, /resyncing, paused/);
  assert.match(text, /leg 1 {2}limited to 50 MiB\/s by the operator/);
  assert.match(text, /leg 1 {2}paused: "brmr resync vol1 resume" lets it go on/);
  assert.match(text, /stale, drained/);
  assert.match(text, /leg 2 {2}drained: "brmr leg undrain vol1 2" lets it back/);
});

Deno.test("sync-status: paused and limited", () => {
  const paused = { ...RESYNCING, isPaused: true, rateBytesPerSecond: 0, etaMs: null, limitBytesPerSecond: 50 << 20 };
  const status = sync([leg(0), paused], { minInSync: 2 });
  assertGolden("sync_paused.txt", renderSyncStatus(status, { paint: PLAIN, columns: 80, nowMs: NOW_MS }));
});

Deno.test("renderBar() is as wide as asked, empty at 0 and full at 1 only", () => {
  for (let columns = 10; columns <= 61; columns += 17) {
    for (let share = 0; share <= 1; share += 0.01) assert.equal(widthOf(renderBar(share, columns)), columns);
  }
  assert.equal(renderBar(0, 10), "░".repeat(10));
  assert.equal(renderBar(1, 10), "█".repeat(10));
  assert.equal(renderBar(0.5, 10), "█████░░░░░");
  assert.equal(renderBar(1.5, 10), "█".repeat(10));
});

Deno.test("a bar says 100 % only when nothing is missing", () => {
  const nearly = { ...RESYNCING, missingBytes: 1, totalBytes: 1 << 30 };
  const text = renderSyncStatus(sync([leg(0), nearly]), { paint: PLAIN, columns: 100, nowMs: NOW_MS });
  assert.match(text, / 99 %/);
  assert.doesNotMatch(text, /100 %/);
});

function dirtyMap(change: Partial<DirtyMapReport> = {}): DirtyMapReport {
  const buckets = new Array<number>(mapColumns(80) * MAP_ROWS).fill(0);
  buckets[0] = 1;
  for (let i = 70; i < 90; i++) buckets[i] = 200 + i * 5;
  buckets[300] = 512;
  buckets[511] = 300;
  return {
    legIndex: 1,
    legUuid: testUuid(101),
    address: NODES[1],
    sizeBytes: 1 << 30,
    chunkBytes: 4096,
    dirtyChunks: 12_813,
    dirtyBytes: 12_813 * 4096,
    memoryBytes: 33_000,
    buckets,
    runCount: 5,
    runs: [{ offsetBytes: 0, lengthBytes: 4096 }, { offsetBytes: 146_800_640, lengthBytes: 41_943_040 }],
    toldBy: [0],
    ...change,
  };
}

Deno.test("dirty-map: a map with runs; plain and in colour", () => {
  assertGolden("dirty_map.txt", renderDirtyMap(dirtyMap(), PLAIN));
  assertGolden("dirty_map_color.txt", renderDirtyMap(dirtyMap(), COLOR));
});

Deno.test("dirty-map: nothing missing, and a leg that lacks all of a small pool", () => {
  assertGolden("dirty_map_clean.txt", renderDirtyMap(dirtyMap({ dirtyChunks: 0, dirtyBytes: 0, runs: [] }), PLAIN));
  const small = dirtyMap({
    sizeBytes: 1 << 20,
    dirtyChunks: 256,
    dirtyBytes: 1 << 20,
    runCount: 1,
    runs: [{ offsetBytes: 0, lengthBytes: 1 << 20 }],
    buckets: new Array<number>(mapColumns(40) * MAP_ROWS).fill(2),
  });
  assertGolden("dirty_map_full.txt", renderDirtyMap(small, PLAIN));
});

Deno.test("a single dirty chunk of a huge pool is seen on the map and is not 0 %", () => {
  const buckets = new Array<number>(mapColumns(100) * MAP_ROWS).fill(0);
  buckets[17] = 1;
  const one = dirtyMap({ sizeBytes: 2 ** 40, dirtyChunks: 1, dirtyBytes: 4096, runCount: 1, runs: [], buckets });
  const text = renderDirtyMap(one, PLAIN);
  assert.match(text, /< 0\.1 %/);
  // Once on the map, twice in the legend.
  assert.equal(text.split("░").length - 1, 2);
});

Deno.test("mapColumns() is a power of two that fits the screen", () => {
  for (let columns = 30; columns <= 300; columns++) {
    const cells = mapColumns(columns);
    assert.equal(Math.log2(cells) % 1, 0);
    assert(cells + 12 <= columns, `${cells} cells on ${columns} columns`);
  }
  assert.equal(mapColumns(5), 16);
});

Deno.test("status of one pool: attached here, held elsewhere, not attached", () => {
  assertGolden("status_attached.txt", renderPoolStatus(sync([leg(0), RESYNCING, AWAY]), BUSY_CLIENT, PLAIN));
  assertGolden("status_paths.txt", renderPoolStatus(sync([leg(0), leg(1)]), withPaths(BUSY_CLIENT), PLAIN));
  const stray = { address: NODES[2], path: "/data/c.img", legUuid: testUuid(9), legIndex: 2, replacesUuid: "" };
  const held = sync([leg(0), leg(1)], { heldBy: "host-b:77", strays: [stray] });
  assertGolden("status_held.txt", renderPoolStatus(held, null, PLAIN));
  const caredFor = sync([leg(0), RESYNCING], { isCaredFor: true });
  assert.match(renderPoolStatus(caredFor, null, PLAIN), /^ {2}attached +no, caretaker at work$/m);
  assert.match(
    renderSyncStatus(caredFor, { paint: PLAIN, columns: 80, nowMs: NOW_MS }),
    /^ {2}no client, caretaker at work$/m,
  );
  const lost = sync([leg(0, { state: "away", missingBytes: null }), AWAY]);
  assertGolden("status_lost_color.txt", renderPoolStatus(lost, null, COLOR));
});

/** The same client, with legs of two paths and of one. */
function withPaths(client: AttachedClient): AttachedClient {
  const base = {
    legUuid: testUuid(100),
    state: "in-sync",
    inFlight: 0,
    isDrained: false,
    readErrors: 0,
    repairedBytes: 0,
    resync: null,
  } as const;
  const told = ["rdma://10.0.0.1:7701", "tcp://10.0.1.1:7701"];
  const legs = [
    { ...base, legIndex: 0, address: "10.0.0.1:7701", paths: told, path: told[1] },
    { ...base, legIndex: 1, address: "10.0.0.2:7701", paths: ["10.0.0.2:7701"], path: "10.0.0.2:7701" },
    { ...base, legIndex: 2, address: "10.0.0.3:7701", paths: ["10.0.0.3:7701", "10.0.1.3:7701"], path: "" },
    { ...base, legIndex: 3, address: "10.0.0.4:7701", paths: ["10.0.0.4:7701"], path: "10.0.0.4:7701" },
  ];
  const rdma = {
    device: "mlx5_0",
    gid: "0:0:0:0:0:ffff:a00:9",
    mtuBytes: 4096,
    path: "10.0.0.9:41234 -> 10.0.0.4:7701",
    registeredBytes: 84 << 20,
  };
  const paths = [
    { legIndex: 0, transport: "tcp", reason: "the node cannot be reached within this machine" },
    { legIndex: 1, transport: "shared-memory" },
    { legIndex: 2, transport: "tcp" },
    { legIndex: 3, transport: "rdma", rdma },
  ] as const;
  return { ...client, paths, snapshot: { ...client.snapshot, legs } };
}

/** What a search over three nodes finds, of which one is away. */
async function foundPools(): Promise<FoundPools> {
  const cluster = new FakeCluster(...NODES);
  const record = testRecord(NODES.slice(0, 2));
  cluster.nodes[0].addLeg(testSnapshot(0, record));
  cluster.nodes[1].addLeg(testSnapshot(1, record));
  const legs = testRecord([NODES[0], NODES[2]], { inSyncMask: 1, epoch: 4 }).legs
    .map((entry, index) => entry && { ...entry, uuid: testUuid(200 + index) });
  const other = { ...testRecord([NODES[0]]), inSyncMask: 1, legs };
  const dirty = [{ legIndex: 1, dirtyBytes: 5 << 20, dirtyChunks: 1280, memoryBytes: 900 }];
  const archive = { poolUuid: testUuid(2), poolName: "archive", legUuid: testUuid(200), sizeBytes: 2 ** 41, dirty };
  cluster.nodes[0].addLeg(testSnapshot(0, other, archive));
  cluster.nodes[2].isDown = true;
  const found = await cluster.with((nodes) => findAllPools(NODES, nodes));
  return {
    ...found,
    broken: [{ path: "/dev/sdx", legUuid: "", message: "Both superblocks are damaged.", address: NODES[1] }],
  };
}

Deno.test("status of all pools", async () => {
  const found = await foundPools();
  assertGolden("overview.txt", renderOverview(found, [BUSY_CLIENT], PLAIN));
  assertGolden("overview_color.txt", renderOverview(found, [], COLOR));
  assertGolden("overview_empty.txt", renderOverview({ pools: [], nodes: [], broken: [], unreachable: [] }, [], PLAIN));
});

Deno.test("pool list, create and delete", async () => {
  assertGolden("pool_list.txt", renderPoolList((await foundPools()).pools, PLAIN));
  const created = {
    poolUuid: testUuid(1),
    poolName: "vol1",
    sizeBytes: 1 << 30,
    chunkBytes: 4096,
    logicalBlockBytes: 512,
    minInSync: 1,
    legs: [
      { legIndex: 0, legUuid: testUuid(100), address: NODES[0], path: "/data/a.img", isInSync: true },
      { legIndex: 1, legUuid: testUuid(101), address: NODES[1], path: "/dev/vdb", isInSync: false },
    ],
    warnings: ["Leg 0 is the source: the other legs copy all of it once the pool is attached."],
  };
  assertGolden("pool_created.txt", renderCreatedPool(created, PLAIN));
  const deleted = { legIndex: 0, address: NODES[0], path: "/data/a.img" };
  const left = { legIndex: 1, address: NODES[1], message: "It cannot be reached." };
  const result = {
    poolUuid: testUuid(1),
    poolName: "vol1",
    deleted: [deleted],
    gone: [{ legIndex: 2, address: NODES[2] }],
    left: [left],
  };
  assertGolden("pool_deleted.txt", renderDeletedPool(result, PLAIN));
});

Deno.test("leg add, leg remove, replace", () => {
  const leg = { poolName: "vol1", legIndex: 2, legUuid: testUuid(3), address: NODES[0], path: "/data/c.img" };
  const texts = [
    renderAddedLeg({ ...leg, note: "It copies everything from the legs that are in sync." }),
    renderRemovedLeg({ ...leg, note: "" }),
    renderRemovedLeg({ ...leg, note: "Its node could not erase it (it cannot be reached)." }),
    renderReplacement({
      ...leg,
      poolUuid: testUuid(9),
      isAlone: false,
      way: "hot",
      replacedIndex: 1,
      replacedUuid: testUuid(1),
      note: "Leg 1 stays until it is in sync.",
    }),
  ];
  assertGolden("leg_changes.txt", texts.join(""));
});

Deno.test("verify: equal, different, repaired, interrupted; and their exit codes", () => {
  const equal: VerifySnapshot = {
    ...BUSY_CLIENT.snapshot.verify,
    state: "done",
    verifiedBytes: 1 << 30,
    comparedMask: 0b11,
    rateBytesPerSecond: 64 << 20,
  };
  const difference = { offset: 1 << 20, lengthBytes: 8192, legMask: 0b10, sourceLegIndex: 0, isRepaired: false };
  const told = [
    { ...difference, isMajority: false, isUnreadable: false },
    { ...difference, offset: 5 << 20, isMajority: true, isUnreadable: false },
    { ...difference, offset: 9 << 20, isMajority: false, isUnreadable: true },
  ];
  const counts = { differences: 3, differingBytes: 16384, unreadableBytes: 8192 };
  const different: VerifySnapshot = { ...equal, ...counts, told };
  const repaired: VerifySnapshot = {
    ...different,
    isRepairing: true,
    repairedBytes: 24576,
    told: told.map((each) => ({ ...each, isRepaired: true })),
  };
  const stopped: VerifySnapshot = { ...equal, state: "stopped", message: "It was stopped", verifiedBytes: 300 << 20 };
  const lost: VerifySnapshot = {
    ...different,
    isRepairing: true,
    lostBytes: 4096,
    differences: 4,
    told: [...told, { ...told[2], offset: 12 << 20, legMask: 0b11, sourceLegIndex: -1 }],
  };
  const half: VerifySnapshot = { ...repaired, repairedBytes: repaired.repairedBytes - 4096 };
  assert.equal(exitCodeOfVerify(half), 6, "what is not repaired still differs");
  const all = [equal, different, repaired, stopped, lost];
  const progress = renderVerifyProgress({ ...stopped, state: "running" });
  assertGolden("verify.txt", `${all.map((verify) => renderVerify("vol1", verify)).join("")}${progress}\n`);
  assert.deepEqual(all.map(exitCodeOfVerify), [0, 6, 7, 130, 6]);
});

Deno.test("tables align whatever is coloured, and leave no blanks at the end", () => {
  const rows = [["A", "LONG HEADING"], [COLOR("red", "wide cell"), "x"], ["y", COLOR("green", "z")]];
  const lines = formatTable(rows, PLAIN).split("\n");
  assert.deepEqual(lines.map(widthOf), [23, 12, 12, 0]);
  assert(lines.every((line) => !line.endsWith(" ")));
});

Deno.test("formatCount() groups digits", () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(formatCount), ["0", "999", "1,000", "1,234,567"]);
});
