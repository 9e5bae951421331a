/**
 * What `metrics` tells: nodes, pools, legs and the clients of this machine as metrics for Prometheus. Pure.
 *
 * A value that nobody reachable knows has no sample: absent is never 0. What is in force of a pool is what the newest record
 * among its reachable legs says, as in `status`; so a pool is there once, however many nodes have it.
 *
 * The names are an interface: alerts and dashboards rely on them.
 *
 * @module
 */

import type { LegStatus } from "../lib/control/control_api.ts";
import { canonicalNodeAddress } from "../lib/control/node_address.ts";
import type { FoundPool, FoundPools } from "../lib/control/pool_lookup.ts";
import { type LegSync, type SyncStatus, syncStatusOf } from "../lib/control/sync_status.ts";
import type { LegState } from "../lib/core/snapshot.ts";
import { Exposition, type Labels } from "./exposition.ts";
import type { AttachedClient } from "./render_status.ts";

/** What is known at one moment. */
export interface MetricsView {
  /** Of the brmr that looks. */
  readonly version: string;
  readonly found: FoundPools;
  /** Clients on this machine. */
  readonly clients: readonly AttachedClient[];
  /** Pools with a control socket here on which nobody answers. */
  readonly silentClients: readonly string[];
}

const LEG_STATES: readonly LegState[] = ["in-sync", "resyncing", "stale", "away"];
const CLIENT_STATES = ["assembling", "ready", "waiting", "refused", "detaching", "detached"];

/** The metrics of `view` as text. */
export function renderMetrics(view: MetricsView): string {
  const text = new Exposition();
  const labelOf = poolLabels(view);
  text.family("brmr_build_info", "gauge", "The brmr that wrote these metrics; always 1")
    .add({ version: view.version }, 1);
  addNodes(text, view.found);
  const pools = [...view.found.pools]
    .sort((a, b) => compareText(a.poolName, b.poolName) || compareText(a.poolUuid, b.poolUuid))
    .map((pool) => ({ pool, sync: syncStatusOf(pool), labels: { pool: labelOf(pool) } }));
  addPools(text, pools);
  const legs = pools.flatMap(({ pool, sync, labels }) =>
    sync.legs.map((leg, at) => ({
      leg,
      status: pool.legs[at].status,
      isDrained: pool.record.legs[leg.legIndex]?.isDrained ?? false,
      labels: legLabels(labels, leg),
    }))
  );
  addLegs(text, legs);
  addResyncs(text, legs);
  const clients = view.clients.map((client) => ({ client, labels: { pool: labelOf(client.snapshot) } }));
  addClients(text, clients, view.silentClients);
  addClientLegs(text, clients);
  addVerifies(text, clients);
  return text.toString();
}

interface PoolName {
  readonly poolUuid: string;
  readonly poolName: string;
}

/** How commands name a pool: by its name or, where that stands for two, by its UUID. */
function poolLabels(view: MetricsView): (pool: PoolName) => string {
  const uuidsOf = new Map<string, Set<string>>();
  for (const { poolName, poolUuid } of [...view.found.pools, ...view.clients.map(({ snapshot }) => snapshot)]) {
    uuidsOf.set(poolName, (uuidsOf.get(poolName) ?? new Set()).add(poolUuid));
  }
  return ({ poolName, poolUuid }) => (uuidsOf.get(poolName)?.size ?? 0) > 1 ? poolUuid : poolName;
}

function legLabels(pool: Labels, leg: { readonly legIndex: number; readonly address: string }): Labels {
  return { ...pool, leg: String(leg.legIndex), node: canonicalNodeAddress(leg.address) };
}

function addNodes(text: Exposition, { nodes, unreachable, broken }: FoundPools): void {
  const answered = [...nodes].sort((a, b) => compareText(a.address, b.address));
  const up = text.family("brmr_node_up", "gauge", "Whether the storage node answers");
  const all = [
    ...nodes.map(({ address }) => ({ address, isUp: true })),
    ...unreachable.map(({ address }) => ({
      address,
      isUp: false,
    })),
  ];
  for (const { address, isUp } of all.sort((a, b) => compareText(a.address, b.address))) {
    up.add({ node: address }, isUp);
  }
  const info = text.family("brmr_node_info", "gauge", "Name and version of the storage node; always 1");
  const brokenLegs = text.family("brmr_node_broken_legs", "gauge", "Legs that the storage node knows and cannot serve");
  const resident = text.family("brmr_node_resident_memory_bytes", "gauge", "Resident memory of the storage node");
  const buffers = text.family("brmr_node_buffer_bytes", "gauge", "Memory of the storage node's payload buffers");
  for (const { address, nodeName, version, residentBytes, bufferBytes } of answered) {
    info.add({ node: address, name: nodeName, version }, 1);
    brokenLegs.add({ node: address }, broken.filter((leg) => leg.address === address).length);
    resident.add({ node: address }, residentBytes);
    buffers.add({ node: address }, bufferBytes);
  }
}

interface PoolRow {
  readonly pool: FoundPool;
  readonly sync: SyncStatus;
  readonly labels: Labels;
}

function addPools(text: Exposition, rows: readonly PoolRow[]): void {
  const info = text.family("brmr_pool_info", "gauge", "UUID of the pool; always 1");
  const gauge = (name: string, help: string, value: (row: PoolRow) => number | boolean) => {
    const family = text.family(`brmr_pool_${name}`, "gauge", help);
    for (const row of rows) family.add(row.labels, value(row));
  };
  for (const { labels, pool } of rows) info.add({ ...labels, uuid: pool.poolUuid }, 1);
  gauge("size_bytes", "Size of the pool as an application sees it", ({ sync }) => sync.sizeBytes);
  gauge("legs", "Legs in the pool's leg table", ({ sync }) => sync.legs.length);
  gauge("legs_in_sync", "Legs that are in sync and whose storage nodes answer", ({ sync }) => {
    return sync.legs.filter((leg) => leg.state === "in-sync").length;
  });
  gauge("min_in_sync", "Fewest legs in sync that may complete I/O", ({ sync }) => sync.minInSync);
  gauge("generation", "Generation of the record in force", ({ sync }) => sync.generation);
  gauge("epoch", "Epoch of the record in force: changes whenever the in-sync set does", ({ sync }) => sync.epoch);
  gauge("attached", "Whether a client has the pool attached, here or elsewhere", ({ sync }) => sync.heldBy !== null);
  gauge("caretaker", "Whether the legs repair themselves, without a client", ({ sync }) => sync.isCaredFor);
}

interface LegRow {
  readonly leg: LegSync;
  /** What its node says; null when it does not answer. */
  readonly status: LegStatus | null;
  readonly isDrained: boolean;
  readonly labels: Labels;
}

function addLegs(text: Exposition, rows: readonly LegRow[]): void {
  const state = text.family("brmr_leg_state", "gauge", "1 for the state that the leg is in, as its pool's nodes know");
  const missing = text.family(
    "brmr_leg_missing_bytes",
    "gauge",
    "Bytes that the leg lacks; absent while nobody reachable knows",
  );
  const outSince = text.family(
    "brmr_leg_out_since_timestamp_seconds",
    "gauge",
    "When the leg left the in-sync set, in seconds since 1970; absent while it is in it",
  );
  const drained = text.family("brmr_leg_drained", "gauge", "Whether an operator keeps the leg out of the in-sync set");
  for (const { leg, isDrained, labels } of rows) {
    for (const each of LEG_STATES) state.add({ ...labels, state: each }, leg.state === each);
    missing.add(labels, leg.missingBytes);
    outSince.add(labels, leg.outSinceMs === null ? null : leg.outSinceMs / 1000);
    drained.add(labels, isDrained);
  }
  const since = "since its node opened it";
  addCounts(
    text,
    { name: "brmr_leg", since },
    rows.flatMap(({ status, labels }) => status === null ? [] : [{ labels, counters: status.snapshot.counters }]),
  );
  const metadata = text.family(
    "brmr_leg_metadata_writes_total",
    "counter",
    `Blocks of records, intent log and dirty maps that the leg has written, ${since}`,
  );
  const pulls = text.family(
    "brmr_leg_pulls_served_total",
    "counter",
    `Reads for the resync of other legs that the leg has answered, ${since}`,
  );
  const unflushed = text.family("brmr_leg_unflushed_bytes", "gauge", "Bytes written and not flushed since");
  const hot = text.family("brmr_leg_hot_extents", "gauge", "Extents in the leg's intent log");
  const hotLimit = text.family("brmr_leg_hot_extent_limit", "gauge", "Most extents that the leg's intent log takes");
  for (const { status, labels } of rows) {
    if (status === null) continue;
    const { counters, unflushedBytes, hotExtents, hotExtentLimit } = status.snapshot;
    metadata.add(labels, counters.metadataWrites);
    pulls.add(labels, counters.pullsServed);
    unflushed.add(labels, unflushedBytes);
    hot.add(labels, hotExtents);
    hotLimit.add(labels, hotExtentLimit);
  }
}

function addResyncs(text: Exposition, rows: readonly LegRow[]): void {
  const gauge = (name: string, help: string, value: (leg: LegSync) => number | boolean | null) => {
    const family = text.family(`brmr_leg_resync_${name}`, "gauge", help);
    for (const { leg, labels } of rows) family.add(labels, value(leg));
  };
  const has = (leg: LegSync) => leg.totalBytes !== null;
  gauge("rate_bytes_per_second", "Rate of the leg's resync; 0 without one", (leg) => leg.rateBytesPerSecond);
  gauge("initial_bytes", "Bytes that were missing when the leg's resync began", (leg) => leg.totalBytes);
  gauge("copied_bytes", "Bytes that the leg's resync has copied", (leg) => leg.copiedBytes);
  gauge("skipped_bytes", "Bytes that the leg's resync need not copy", (leg) => leg.skippedBytes);
  gauge("remaining_seconds", "Estimated time until the leg is in sync", (leg) => {
    return leg.etaMs === null ? null : leg.etaMs / 1000;
  });
  gauge("paused", "Whether an operator has paused the leg's resync", (leg) => has(leg) ? leg.isPaused : null);
  gauge("limit_bytes_per_second", "An operator's limit on the rate of the leg's resync; 0 for none", (leg) => {
    return has(leg) ? leg.limitBytesPerSecond : null;
  });
}

interface Counters {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** Requests and bytes by kind: of legs and clients alike. */
function addCounts(
  text: Exposition,
  counted: { readonly name: string; readonly since: string },
  rows: readonly { readonly labels: Labels; readonly counters: Counters }[],
): void {
  const requests = text.family(`${counted.name}_requests_total`, "counter", `Requests by kind, ${counted.since}`);
  const bytes = text.family(`${counted.name}_bytes_total`, "counter", `Bytes read and written, ${counted.since}`);
  for (const { labels, counters } of rows) {
    requests.add({ ...labels, kind: "read" }, counters.reads);
    requests.add({ ...labels, kind: "write" }, counters.writes);
    requests.add({ ...labels, kind: "flush" }, counters.flushes);
    bytes.add({ ...labels, kind: "read" }, counters.readBytes);
    bytes.add({ ...labels, kind: "write" }, counters.writtenBytes);
  }
}

interface ClientRow {
  readonly client: AttachedClient;
  readonly labels: Labels;
}

function addClients(text: Exposition, rows: readonly ClientRow[], silent: readonly string[]): void {
  const up = text.family(
    "brmr_client_up",
    "gauge",
    "Whether the client that attached the pool on this machine answers; absent once the pool is detached",
  );
  for (const { labels } of rows) up.add(labels, 1);
  for (const pool of silent) up.add({ pool }, 0);
  const state = text.family("brmr_client_state", "gauge", "1 for the state that the client is in");
  for (const { client: { snapshot }, labels } of rows) {
    for (const each of CLIENT_STATES) state.add({ ...labels, state: each }, snapshot.state === each);
  }
  const gauge = (name: string, help: string, value: (client: AttachedClient) => number | boolean) => {
    const family = text.family(`brmr_client_${name}`, "gauge", help);
    for (const { client, labels } of rows) family.add(labels, value(client));
  };
  gauge("read_only", "Whether the pool is attached read-only", ({ snapshot }) => snapshot.isReadOnly ?? false);
  gauge("legs_in_sync", "Legs in the in-sync set, as the client knows", ({ snapshot: { legs, inSyncMask } }) => {
    return legs.filter(({ legIndex }) => (inSyncMask >> legIndex & 1) === 1).length;
  });
  gauge("in_flight", "Requests under way", ({ snapshot }) => snapshot.inFlight);
  gauge("waiting", "Requests that wait to begin", ({ snapshot }) => snapshot.waiting);
  gauge("connections", "Connections of applications", ({ connections }) => connections);
  gauge("resident_memory_bytes", "Resident memory of the client", ({ residentBytes }) => residentBytes);
  const since = "since the pool was attached";
  const withCounters = rows.map(({ client, labels }) => ({ labels, counters: client.snapshot.counters }));
  addCounts(text, { name: "brmr_client", since }, withCounters);
  const failed = text.family("brmr_client_failed_total", "counter", `Requests that failed, ${since}`);
  const drops = text.family("brmr_client_leg_drops_total", "counter", `How often a leg was dropped, ${since}`);
  const repairs = text.family(
    "brmr_client_read_repairs_total",
    "counter",
    `Reads that a leg could not answer and that were written anew to it, ${since}`,
  );
  for (const { labels, counters } of withCounters) {
    failed.add(labels, counters.failed);
    drops.add(labels, counters.legDrops);
    repairs.add(labels, counters.readRepairs);
  }
}

function addClientLegs(text: Exposition, clients: readonly ClientRow[]): void {
  const state = text.family(
    "brmr_client_leg_state",
    "gauge",
    "1 for the state that the leg is in, as the client sees it",
  );
  const inFlight = text.family("brmr_client_leg_reads_in_flight", "gauge", "Reads under way to the leg");
  const errors = text.family(
    "brmr_client_leg_read_errors_total",
    "counter",
    "Reads that the leg's disk could not answer, since the pool was attached",
  );
  const repaired = text.family(
    "brmr_client_leg_repaired_bytes_total",
    "counter",
    "Bytes written anew to the leg because its disk could not read them, since the pool was attached",
  );
  for (const { client, labels } of clients) {
    for (const leg of client.snapshot.legs) {
      const ofLeg = legLabels(labels, leg);
      for (const each of LEG_STATES) state.add({ ...ofLeg, state: each }, leg.state === each);
      inFlight.add(ofLeg, leg.inFlight);
      errors.add(ofLeg, leg.readErrors);
      repaired.add(ofLeg, leg.repairedBytes);
    }
  }
}

/** The verify under way, or the last one; nothing of clients that have not had one. */
function addVerifies(text: Exposition, clients: readonly ClientRow[]): void {
  const rows = clients.filter(({ client }) => client.snapshot.verify.state !== "off")
    .map(({ client, labels }) => ({ labels, verify: client.snapshot.verify }));
  const running = text.family("brmr_client_verify_running", "gauge", "Whether the legs are being compared");
  for (const { labels, verify } of rows) running.add(labels, verify.state === "running");
  const gauge = (name: string, help: string, value: (verify: typeof rows[number]["verify"]) => number) => {
    const family = text.family(`brmr_client_verify_${name}_bytes`, "gauge", `${help}, by the last verify`);
    for (const { labels, verify } of rows) family.add(labels, value(verify));
  };
  gauge("verified", "Bytes compared", (verify) => verify.verifiedBytes);
  gauge("differing", "Bytes on which legs differed", (verify) => verify.differingBytes);
  gauge("unreadable", "Bytes that some leg could not read", (verify) => verify.unreadableBytes);
  gauge("repaired", "Bytes written anew", (verify) => verify.repairedBytes);
  gauge("lost", "Bytes that no leg could read", (verify) => verify.lostBytes);
}

/** Code units, which are the same on every machine. */
function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
