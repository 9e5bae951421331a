import assert from "node:assert/strict";
import { type MetricsView, renderMetrics } from "../../../cli/render_metrics.ts";
import type { AttachedClient } from "../../../cli/render_status.ts";
import { findAllPools, type FoundPools } from "../../../lib/control/pool_lookup.ts";
import type { ResyncSnapshot } from "../../../lib/core/snapshot.ts";
import { FakeCluster, testRecord, testSnapshot, testUuid } from "../control/fake_node.ts";
import { BUSY_CLIENT } from "./client_fixture.ts";
import { readExposition } from "./exposition_grammar.ts";
import { assertGolden } from "./golden.ts";

const NODES = ["10.0.0.1:7701", "10.0.0.2:7701", "10.0.0.3:7701"];
const NOTHING_FOUND: FoundPools = { pools: [], nodes: [], broken: [], unreachable: [] };

const CLIENT: AttachedClient = {
  ...BUSY_CLIENT,
  uri: "/dev/ublkb0",
  residentBytes: 165 << 20,
  snapshot: {
    ...BUSY_CLIENT.snapshot,
    legs: [0, 1].map((legIndex) => ({
      legIndex,
      legUuid: testUuid(100 + legIndex),
      address: NODES[legIndex],
      state: legIndex === 0 ? "in-sync" : "resyncing",
      inFlight: 16,
      isDrained: false,
      readErrors: legIndex * 5,
      repairedBytes: legIndex * 4096,
      resync: null,
    })),
    counters: { ...BUSY_CLIENT.snapshot.counters, readRepairs: 4 },
    verify: {
      ...BUSY_CLIENT.snapshot.verify,
      state: "done",
      verifiedBytes: 1 << 30,
      comparedMask: 1,
      differingBytes: 8192,
      unreadableBytes: 4096,
      differences: 2,
    },
  },
};

const RESYNC: ResyncSnapshot = {
  resyncSession: 1,
  mode: "dirty",
  state: "running",
  missingBytes: 301 << 20,
  totalBytes: 640 << 20,
  copiedBytes: 300 << 20,
  skippedBytes: 39 << 20,
  rateBytesPerSecond: 80 << 20,
  etaMs: 3650,
  sourceLegIndex: 0,
  limitBytesPerSecond: 100 << 20,
  message: "",
};

/** vol1 on three nodes: in sync, resyncing, and on a node that is down and about which nobody knows what it lacks. */
function degraded(): FakeCluster {
  const cluster = new FakeCluster(...NODES);
  const inForce = testRecord(NODES, { generation: 3, epoch: 7, inSyncMask: 0b001 });
  const legs = inForce.legs.map((entry, at) => entry && { ...entry, outSinceMs: at === 0 ? 0 : 1_700_000_000_500 });
  const counters = {
    reads: 10,
    writes: 20,
    flushes: 3,
    readBytes: 40_960,
    writtenBytes: 81_920,
    metadataWrites: 5,
    pullsServed: 6,
  };
  const session = { clientName: "host-a", generation: 3, isCaretaker: false, isOrdered: false };
  const load = { counters, session, unflushedBytes: 65_536, hotExtents: 17 };
  cluster.nodes[0].addLeg(testSnapshot(0, { ...inForce, legs }, load));
  // It still has the record by which all were in sync.
  cluster.nodes[1].addLeg(testSnapshot(1, testRecord(NODES), { state: "resyncing", resync: RESYNC }));
  cluster.nodes[2].isDown = true;
  return cluster;
}

const find = (cluster: FakeCluster, addresses = NODES) => cluster.with((nodes) => findAllPools(addresses, nodes));

function render(change: Partial<MetricsView>): string {
  return renderMetrics({ version: "1.2.3", found: NOTHING_FOUND, clients: [], silentClients: [], ...change });
}

Deno.test("metrics: a pool with a leg in sync, one resyncing and one away; a client that answers and one that does not", async () => {
  const cluster = degraded();
  cluster.nodes[1].handlers.set("node.info", () => ({
    nodeName: 'the "second"',
    version: "1.2.4",
    address: NODES[1],
    pid: 78,
    residentBytes: 170 << 20,
    bufferBytes: 64 << 20,
    legs: [...cluster.nodes[1].legs.values()],
    broken: [{ path: "/dev/sdx", legUuid: testUuid(7), message: "Both superblocks are damaged." }],
  }));
  const text = render({ found: await find(cluster), clients: [CLIENT], silentClients: ["web"] });
  assertGolden("metrics.txt", text);
  const samples = readExposition(text);
  assert.equal(samples.get('brmr_pool_legs_in_sync{pool="vol1"}'), 1);
  const away = 'pool="vol1",leg="2",node="10.0.0.3:7701"';
  assert.equal(samples.get(`brmr_leg_state{${away},state="away"}`), 1);
  assert.equal(samples.has(`brmr_leg_missing_bytes{${away}}`), false, "what nobody knows is not 0");
});

Deno.test("metrics: the alerts of the README look at metrics and states that there are", () => {
  const readme = Deno.readTextFileSync(new URL("../../../README.md", import.meta.url));
  const golden = Deno.readTextFileSync(new URL("../../golden/metrics.txt", import.meta.url));
  const named = [...readme.matchAll(/\b(brmr_[a-z_]+)(?:\{(state="[a-z-]+")\})?/g)];
  assert(named.length > 10, `${named.length} names`);
  for (const [text, name, state = ""] of named) {
    assert(golden.split("\n").some((line) => line.startsWith(`${name}{`) && line.includes(state)), text);
  }
});

Deno.test("metrics: the same text whatever order nodes are asked in, and by how many addresses they are found", async () => {
  const expected = render({ found: await find(degraded()) });
  assert.equal(render({ found: await find(degraded(), [...NODES].reverse()) }), expected);
  assert.equal(render({ found: await find(degraded(), [NODES[1]]) }), expected);
});

Deno.test("metrics: no node answers, none has a pool, nothing is attached", () => {
  const unreachable = NODES.map((address) => ({ address, message: "It cannot be reached." }));
  const down = readExposition(render({ found: { ...NOTHING_FOUND, unreachable } }));
  assert.deepEqual([...down], [
    ['brmr_build_info{version="1.2.3"}', 1],
    ...NODES.map((address) => [`brmr_node_up{node="${address}"}`, 0]),
  ]);
  assert.deepEqual([...readExposition(render({}))], [['brmr_build_info{version="1.2.3"}', 1]]);
});

Deno.test("metrics: two pools of one name are told apart by their UUIDs, others keep their names", async () => {
  const cluster = new FakeCluster(...NODES);
  for (const [at, poolName] of [[1, "vol1"], [2, "vol1"], [3, "web"]] as const) {
    const record = testRecord([NODES[0]]);
    const legs = record.legs.map((entry) => entry && { ...entry, uuid: testUuid(100 + at) });
    cluster.nodes[0].addLeg(testSnapshot(0, { ...record, legs }, { poolUuid: testUuid(at), poolName }));
  }
  const samples = readExposition(render({ found: await find(cluster), clients: [CLIENT] }));
  const pools = [...samples.keys()].filter((key) => key.startsWith("brmr_pool_legs{"));
  assert.deepEqual(pools, [testUuid(1), testUuid(2), "web"].map((pool) => `brmr_pool_legs{pool="${pool}"}`));
  assert.equal(samples.get(`brmr_client_up{pool="${testUuid(1)}"}`), 1);
});

Deno.test("metrics: a client that does not tell whether it is read-only, and has compared nothing", () => {
  const { isReadOnly: _, ...snapshot } = {
    ...CLIENT.snapshot,
    verify: { ...CLIENT.snapshot.verify, state: "off" as const },
  };
  const samples = readExposition(render({ clients: [{ ...CLIENT, snapshot }] }));
  assert.equal(samples.get('brmr_client_read_only{pool="vol1"}'), 0);
  assert.deepEqual([...samples.keys()].filter((key) => key.includes("verify")), []);
});
