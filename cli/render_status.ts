/**
 * What `status` and `pool show` show. Pure.
 *
 * @module
 */

import { formatBytes, formatDuration } from "../lib/base/units.ts";
import type { ClientOperations } from "../lib/control/control_api.ts";
import { removalOf } from "../lib/control/leg_changes.ts";
import type { NodeFailure } from "../lib/control/node_connections.ts";
import type { FoundPool, FoundPools } from "../lib/control/pool_lookup.ts";
import { type SyncStatus, syncStatusOf } from "../lib/control/sync_status.ts";
import { formatCount, formatTable, hueOfState, type Paint } from "./paint.ts";
import { formatMissing, headingOf, renderOrders, stateTextOf } from "./render_sync.ts";

/** A client on this machine that has a pool attached. */
export type AttachedClient = ClientOperations["client.status"]["result"];

/** One pool in detail; `made`: and what was fixed when it was created. */
export function renderPoolStatus(
  sync: SyncStatus,
  client: AttachedClient | null,
  paint: Paint,
  made?: Pick<FoundPool, "chunkBytes" | "logicalBlockBytes" | "extentBytes" | "hotExtentCount" | "record">,
): string {
  let text = headingOf(sync, paint);
  text += `  UUID         ${sync.poolUuid}\n`;
  if (made !== undefined) {
    text += `  blocks       logical ${formatBytes(made.logicalBlockBytes)}, chunk ${formatBytes(made.chunkBytes)}\n`;
    text += `  intent log   ${formatCount(made.hotExtentCount)} extents of ${formatBytes(made.extentBytes)}\n`;
    text += `  I/O timeout  ${formatDuration(made.record.ioTimeoutMs)}\n`;
  }
  text += `  record       generation ${sync.generation}, epoch ${sync.epoch}, min-in-sync ${sync.minInSync}\n`;
  text += `  attached     ${client === null ? holderOf(sync) : renderClientLine(client)}\n\n`;
  const rows = [["LEG", "NODE", "STATE", "MISSING", "PATH"]];
  for (const leg of sync.legs) {
    rows.push([
      String(leg.legIndex),
      leg.address,
      paint(hueOfState(leg.state), stateTextOf(leg)),
      formatMissing(leg.missingBytes),
      leg.path ?? "-",
    ]);
  }
  text += formatTable(rows, paint, { right: [0, 3], indent: "  " });
  for (const leg of sync.legs) {
    const orders = renderOrders(sync.poolName, leg, paint);
    if (orders !== "") text += orders.replace(/^/gm, "  ").trimEnd() + "\n";
    if (leg.message !== "") text += `  leg ${leg.legIndex}: ${leg.message}\n`;
  }
  for (const stray of sync.strays) {
    // A disk that waits to be taken in place of a leg is told with that leg.
    if (sync.legs.some((leg) => leg.legUuid === stray.replacesUuid)) continue;
    const what = `${stray.address}:${stray.path} is no leg of the pool any more, or not yet, and is never trusted`;
    text += paint("yellow", `  stray: ${what}; "${removalOf(sync.poolName, stray)}" erases it`) + "\n";
  }
  if (client !== null) text += renderClientDetail(client, paint);
  return text;
}

/** All pools in a line each, and what could not be asked. */
export function renderOverview(
  found: FoundPools,
  clients: readonly AttachedClient[],
  paint: Paint,
): string {
  let text = "";
  if (found.pools.length === 0) {
    text += 'No pools. Make one with "brmr pool create".\n';
  } else {
    const rows = [["POOL", "SIZE", "LEGS", "STATE", "MISSING", "ATTACHED"]];
    for (const pool of found.pools) {
      const sync = syncStatusOf(pool);
      const client = clients.find((candidate) => candidate.snapshot.poolUuid === pool.poolUuid);
      rows.push([
        pool.poolName,
        formatBytes(pool.sizeBytes),
        String(sync.legs.length),
        stateWord(sync, paint),
        missingOf(sync),
        client?.uri ?? holderOf(sync),
      ]);
    }
    text += formatTable(rows, paint, { right: [1, 2, 4] });
  }
  for (const leg of found.broken) text += paint("red", `leg ${leg.path} on ${leg.address}: ${leg.message}`) + "\n";
  return text + renderFailures(found.unreachable, paint);
}

/** Who has the pool: a client, by name; its legs' caretaker; or nobody. */
function holderOf(sync: SyncStatus): string {
  return sync.heldBy ?? (sync.isCaredFor ? "no, caretaker at work" : "no");
}

/** The nodes that did not answer, a line each. */
export function renderFailures(failures: readonly NodeFailure[], paint: Paint): string {
  return failures.map((failure) => paint("yellow", failure.message) + "\n").join("");
}

function stateWord(sync: SyncStatus, paint: Paint): string {
  if (sync.isRedundant) return paint("green", "in-sync");
  if (sync.isWhole) return paint("yellow", "one leg");
  const inSync = sync.legs.filter((leg) => leg.state === "in-sync").length;
  return inSync < Math.max(1, sync.minInSync) ? paint("red", "not available") : paint("yellow", "degraded");
}

/** The sum over legs; unknown as soon as one is. */
function missingOf(sync: SyncStatus): string {
  let sum = 0;
  for (const leg of sync.legs) {
    if (leg.missingBytes === null) return "unknown";
    sum += leg.missingBytes;
  }
  return formatBytes(sum);
}

function renderClientLine(client: AttachedClient): string {
  return `${client.uri} (process ${client.pid}, ${
    client.snapshot.isReadOnly ? "read-only, " : ""
  }${client.snapshot.state}, ${client.connections} ` +
    `${client.connections === 1 ? "connection" : "connections"})`;
}

/** A client of whose nodes none answers. */
export function renderLonelyClient(client: AttachedClient): string {
  const { waiting } = client.snapshot;
  const requests = waiting === 1 ? "1 request waits" : `${formatCount(waiting)} requests wait`;
  return `attached here: ${renderClientLine(client)}; ${requests} for legs\n`;
}

function renderClientDetail(client: AttachedClient, paint: Paint): string {
  const { counters, inFlight, waiting } = client.snapshot;
  let text = "\n";
  text += `  read         ${formatCount(counters.reads)} requests, ${formatBytes(counters.readBytes)}\n`;
  text += `  written      ${formatCount(counters.writes)} requests, ${formatBytes(counters.writtenBytes)}, ` +
    `${formatCount(counters.flushes)} flushes\n`;
  text += `  now          ${formatCount(inFlight)} in flight, ${formatCount(waiting)} waiting, ` +
    `${formatBytes(client.residentBytes)} of memory\n`;
  if (counters.failed > 0) text += "  " + paint("red", `failed       ${formatCount(counters.failed)} requests`) + "\n";
  if (counters.legDrops > 0) {
    const times = counters.legDrops === 1 ? "once" : `${formatCount(counters.legDrops)} times`;
    text += `  legs lost    ${times} since it was attached\n`;
  }
  for (const { legIndex, transport, reason, rdma } of client.paths ?? []) {
    if (rdma !== undefined) {
      text += `  path         leg ${legIndex} by RDMA on ${rdma.device} (GID ${rdma.gid}), MTU ${rdma.mtuBytes}, ` +
        `${rdma.path}, ${formatBytes(rdma.registeredBytes)} registered\n`;
    } else if (transport === "shared-memory") text += `  path         leg ${legIndex} by shared memory\n`;
    else if (transport === "tcp") {
      text += `  path         leg ${legIndex} by TCP${reason === undefined ? "" : `: ${reason}`}\n`;
    }
  }
  for (const { legIndex, paths = [], path = "" } of client.snapshot.legs) {
    const others = paths.filter((each) => each !== path).join(", ");
    if (paths.length < 2) continue;
    text += path === ""
      ? `  path         leg ${legIndex} by none; tried: ${others}\n`
      : `  path         leg ${legIndex} at ${path}; besides: ${others}\n`;
  }
  const { readRepairs } = counters;
  if (readRepairs > 0) {
    text += `  mended       ${formatCount(readRepairs)} reads that a leg could not answer: written anew to it\n`;
  }
  for (const leg of client.snapshot.legs) {
    if (leg.readErrors > 0) {
      text += "  " + paint("yellow", `leg ${leg.legIndex}: its disk failed ${formatCount(leg.readErrors)} reads`) +
        "\n";
    }
  }
  if (client.snapshot.refusal !== "") text += "  " + paint("red", client.snapshot.refusal) + "\n";
  return text;
}
