/**
 * What `pool create`, `pool list` and `pool delete` show. Pure.
 *
 * @module
 */

import { formatBytes } from "../lib/base/units.ts";
import type { CreatedPool } from "../lib/control/pool_creation.ts";
import type { FoundPool } from "../lib/control/pool_lookup.ts";
import type { DeletedPool } from "../lib/control/pool_operations.ts";
import { formatTable, type Paint } from "./paint.ts";

/** A pool just made, and how to go on. */
export function renderCreatedPool(pool: CreatedPool, paint: Paint): string {
  const { poolName } = pool;
  let text = `${paint("bold", poolName)}  ${formatBytes(pool.sizeBytes)}  ${paint("green", "created")}\n`;
  text += `  UUID         ${pool.poolUuid}\n`;
  text += `  blocks       logical ${formatBytes(pool.logicalBlockBytes)}, chunk ${formatBytes(pool.chunkBytes)}\n`;
  text += `  min-in-sync  ${pool.minInSync}\n\n`;
  const rows = [["LEG", "NODE", "PATH", "STARTS"]];
  for (const leg of pool.legs) {
    rows.push([String(leg.legIndex), leg.address, leg.path, leg.isInSync ? "in-sync" : "all missing"]);
  }
  text += formatTable(rows, paint, { right: [0], indent: "  " });
  for (const warning of pool.warnings) text += paint("yellow", `Note: ${warning}`) + "\n";
  const node = pool.legs[0].address;
  return text + `\nAttach it with: brmr attach ${poolName} --node ${node} --nbd /run/${poolName}.sock\n`;
}

/** Pools, a line each, without asking how they stand. */
export function renderPoolList(pools: readonly FoundPool[], paint: Paint): string {
  if (pools.length === 0) return 'No pools. Make one with "brmr pool create".\n';
  const rows = [["POOL", "SIZE", "CHUNK", "LEGS", "UUID"]];
  for (const pool of pools) {
    rows.push([
      pool.poolName,
      formatBytes(pool.sizeBytes),
      formatBytes(pool.chunkBytes),
      pool.legs.map((leg) => leg.address).join(" "),
      pool.poolUuid,
    ]);
  }
  return formatTable(rows, paint, { right: [1, 2] });
}

/** What became of each leg. */
export function renderDeletedPool(result: DeletedPool, paint: Paint): string {
  let text = `${result.poolName} is ${result.left.length === 0 ? "deleted" : "deleted in part"}\n`;
  for (const leg of result.deleted) text += `  leg ${leg.legIndex}  ${leg.address}:${leg.path}  deleted\n`;
  for (const leg of result.gone) text += `  leg ${leg.legIndex}  ${leg.address}  was gone already\n`;
  for (const leg of result.left) {
    text += paint("yellow", `  leg ${leg.legIndex}  ${leg.address}  left behind: ${leg.message}`) + "\n";
  }
  return text;
}
