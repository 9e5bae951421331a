/**
 * What `dirty-map` shows: how much a leg lacks, and where, as a map of the address space. Pure.
 *
 * @module
 */

import { formatBytes } from "../lib/base/units.ts";
import type { DirtyMapReport } from "../lib/control/dirty_map_report.ts";
import { formatCount, formatTable, type Hue, type Paint } from "./paint.ts";

/** From nothing dirty to all dirty. Anything dirty at all shows at least the first shade. */
const SHADES = ["·", "░", "▒", "▓", "█"];
const SHADE_HUES: Hue[] = ["dim", "yellow", "yellow", "red", "red"];

/** Lines of the map. */
export const MAP_ROWS = 8;
/** Columns that the offset before each line takes. */
const LABEL_COLUMNS = 10;

/** Columns of the map on a screen of `columns`: a power of two, so that every cell stands for a round size. */
export function mapColumns(columns: number): number {
  return Math.max(16, Math.min(128, 2 ** Math.floor(Math.log2(Math.max(1, columns - LABEL_COLUMNS - 4)))));
}

/** Runs listed unless told otherwise. */
export const DEFAULT_RUN_LIMIT = 10;

/** One leg's map as text. `report.buckets` is to hold `mapColumns(columns) * MAP_ROWS` counts. */
export function renderDirtyMap(report: DirtyMapReport, paint: Paint): string {
  const { legIndex, address, sizeBytes, chunkBytes, dirtyBytes, dirtyChunks } = report;
  const place = `leg ${legIndex} (${address})`;
  const memory = `the map takes ${formatBytes(report.memoryBytes)} of memory`;
  if (dirtyChunks === 0) return `${place} ${paint("green", "lacks nothing")}; ${memory}\n`;
  let text = `${place} lacks ${paint("bold", formatBytes(dirtyBytes))}, ${formatShare(dirtyBytes / sizeBytes)} of ` +
    `${formatBytes(sizeBytes)}: ${formatCount(dirtyChunks)} chunks of ${formatBytes(chunkBytes)} in ` +
    `${formatCount(report.runCount)} ${report.runCount === 1 ? "run" : "runs"}; ${memory}\n\n`;
  text += renderHeatMap(report, paint);
  if (report.runs.length > 0) {
    const rows = [["OFFSET", "LENGTH", "AT"]];
    for (const run of report.runs) {
      rows.push([formatCount(run.offsetBytes), formatBytes(run.lengthBytes), formatShare(run.offsetBytes / sizeBytes)]);
    }
    text += "\n" + formatTable(rows, paint, { right: [0, 1, 2], indent: "  " });
    const rest = report.runCount - report.runs.length;
    if (rest > 0) text += paint("dim", `  and ${formatCount(rest)} more ${rest === 1 ? "run" : "runs"}`) + "\n";
  }
  return text;
}

function renderHeatMap(report: DirtyMapReport, paint: Paint): string {
  const { buckets, sizeBytes, chunkBytes } = report;
  const columns = Math.ceil(buckets.length / MAP_ROWS);
  const bucketBytes = sizeBytes / buckets.length;
  // A bucket may hold less than one chunk in a small pool; then a single dirty chunk fills it.
  const chunksPerBucket = Math.max(1, bucketBytes / chunkBytes);
  let text = "";
  for (let first = 0; first < buckets.length; first += columns) {
    const label = formatBytes(first * bucketBytes).padStart(LABEL_COLUMNS);
    text += `${paint("dim", label)}  ${renderRow(buckets.slice(first, first + columns), chunksPerBucket, paint)}\n`;
  }
  const legend = `${SHADES[0]} clean  ${SHADES[1]}${SHADES[2]}${SHADES[3]} partly  ${SHADES[4]} all missing`;
  return text + `${" ".repeat(LABEL_COLUMNS)}  ${paint("dim", `1 cell = ${formatBytes(bucketBytes)}   ${legend}`)}\n`;
}

/** Cells of one shade in one colour span: colour codes for every cell would make kilobytes of them. */
function renderRow(counts: readonly number[], chunksPerBucket: number, paint: Paint): string {
  let text = "";
  for (let i = 0; i < counts.length;) {
    const shade = shadeOf(counts[i] / chunksPerBucket);
    let end = i + 1;
    while (end < counts.length && shadeOf(counts[end] / chunksPerBucket) === shade) end++;
    text += paint(SHADE_HUES[shade], SHADES[shade].repeat(end - i));
    i = end;
  }
  return text;
}

function shadeOf(share: number): number {
  if (share <= 0) return 0;
  if (share >= 0.999) return 4;
  return share < 1 / 3 ? 1 : share < 2 / 3 ? 2 : 3;
}

/** "1.2 %"; what is not nothing is never shown as 0 %. */
function formatShare(share: number): string {
  const percent = share * 100;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent.toFixed(1)} %`;
}
