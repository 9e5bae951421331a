/**
 * What `sync-status` shows: per leg its state, what it lacks, and a bar while it resyncs. Pure.
 *
 * @module
 */

import { formatBytes, formatDuration, formatRate } from "../lib/base/units.ts";
import type { LegSync, SyncStatus } from "../lib/control/sync_status.ts";
import { formatTable, hueOfState, type Paint } from "./paint.ts";

/** Left-aligned blocks of one to eight eighths (Unicode "Block Elements"). */
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/** How it is drawn. */
export interface SyncRenderOptions {
  readonly paint: Paint;
  readonly columns: number;
  /** Wall clock, for "since". */
  readonly nowMs: number;
}

/** The standing of all legs as text. */
export function renderSyncStatus(status: SyncStatus, options: SyncRenderOptions): string {
  const { paint } = options;
  const hasTimes = status.legs.some((leg) => leg.outSinceMs !== null);
  const rows = [["LEG", "NODE", "STATE", "MISSING", "RATE", "ETA", ...hasTimes ? ["SINCE"] : []]];
  for (const leg of status.legs) {
    rows.push([
      String(leg.legIndex),
      leg.address,
      paint(hueOfState(leg.state), stateTextOf(leg)),
      formatMissing(leg.missingBytes),
      leg.rateBytesPerSecond > 0 ? formatRate(leg.rateBytesPerSecond) : "-",
      leg.etaMs === null ? "-" : formatSeconds(leg.etaMs),
      ...hasTimes ? [formatAge(leg.outSinceMs, options.nowMs)] : [],
    ]);
  }
  let text = headingOf(status, paint) + (status.isCaredFor ? "  no client, caretaker at work\n" : "");
  text += formatTable(rows, paint, { right: [0, 3, 4, 5] });
  for (const leg of status.legs) text += renderLegDetail(status.poolName, leg, options);
  return text;
}

/** The state of a leg, and what an operator has made of it. */
export function stateTextOf({ state, isPaused, isDrained }: LegSync): string {
  return `${state}${isPaused ? ", paused" : ""}${isDrained ? ", drained" : ""}`;
}

/** What an operator has asked for of a leg, a line each; "" for nothing. */
export function renderOrders(poolName: string, leg: LegSync, paint: Paint): string {
  const { legIndex, limitBytesPerSecond, isDrained, isPaused } = leg;
  const lines: string[] = [];
  if (limitBytesPerSecond > 0) lines.push(`limited to ${formatRate(limitBytesPerSecond)} by the operator`);
  if (isPaused) lines.push(`paused: "brmr resync ${poolName} resume" lets it go on`);
  if (isDrained) lines.push(`drained: "brmr leg undrain ${poolName} ${legIndex}" lets it back`);
  return lines.map((line) => `leg ${legIndex}  ${paint("dim", line)}\n`).join("");
}

/** One line that says how well the pool stands. */
export function headingOf(
  status: Pick<SyncStatus, "poolName" | "sizeBytes" | "legs" | "isWhole" | "isRedundant" | "minInSync">,
  paint: Paint,
): string {
  const inSync = status.legs.filter((leg) => leg.state === "in-sync").length;
  const verdict = status.isRedundant
    ? paint("green", "in sync")
    : status.isWhole
    ? paint("yellow", "in sync, but there is only one leg")
    : inSync < Math.max(1, status.minInSync)
    ? paint("red", `not available: ${inSync} of ${status.legs.length} legs in sync, ${status.minInSync} needed`)
    : paint("yellow", `degraded: ${inSync} of ${status.legs.length} legs in sync`);
  return `${paint("bold", status.poolName)}  ${formatBytes(status.sizeBytes)}  ${verdict}\n`;
}

/** What is missing, or "unknown": a number nobody reachable knows is not zero. */
export function formatMissing(missingBytes: number | null): string {
  return missingBytes === null ? "unknown" : formatBytes(missingBytes);
}

function formatAge(sinceMs: number | null, nowMs: number): string {
  return sinceMs === null ? "-" : `${formatSeconds(Math.max(0, nowMs - sinceMs))} ago`;
}

/** A duration in whole seconds, rounded up: an estimate is no finer, and time left is not "0 s" before it is over. */
function formatSeconds(ms: number): string {
  return formatDuration(Math.ceil(ms / 1000) * 1000);
}

/** A bar of `columns` columns, filled by `share` (0 .. 1) in steps of an eighth of a column. */
export function renderBar(share: number, columns: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * columns * 8);
  const filled = EIGHTHS[8].repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
  return filled + "░".repeat(columns - [...filled].length);
}

function renderLegDetail(poolName: string, leg: LegSync, options: SyncRenderOptions): string {
  const { paint } = options;
  let text = "";
  if (leg.state === "resyncing" && leg.totalBytes !== null && leg.totalBytes > 0 && leg.missingBytes !== null) {
    const share = 1 - leg.missingBytes / leg.totalBytes;
    // Never "100 %" while something is missing.
    const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
    const copied = `copied ${formatBytes(leg.copiedBytes ?? 0)}, not needed ${formatBytes(leg.skippedBytes ?? 0)}`;
    const source = leg.sourceLegIndex === null ? "" : `, from leg ${leg.sourceLegIndex}`;
    const barColumns = Math.max(10, Math.min(60, options.columns - 20));
    text += `leg ${leg.legIndex}  ${paint("cyan", renderBar(share, barColumns))} ${percent}\n`;
    text += `       ${paint("dim", copied + source)}\n`;
  }
  text += renderOrders(poolName, leg, paint);
  if (leg.message !== "") text += `leg ${leg.legIndex}  ${leg.message}\n`;
  return text;
}
