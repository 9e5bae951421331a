/**
 * What the sets of legs in a client's context have to do with each other.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { ClientContext } from "./client_context.ts";
import type { SharedEpoch } from "../disk_format/records.ts";
import { bitCount, indicesOf } from "./start_rule.ts";

/** Asserts it. `isProposing`: an epoch record is on its way. */
export function checkMasks(pool: ClientContext, isProposing: boolean): void {
  assert((pool.inSyncMask & ~pool.activeMask) === 0, "In-sync legs are active", pool.inSyncMask, pool.activeMask);
  assert((pool.lostMask & ~pool.activeMask) === 0, "Lost legs leave with the next epoch", pool.lostMask);
  assert((pool.unreachableMask & ~pool.activeMask) === 0, "Legs that change paths are active", pool.unreachableMask);
  assert(pool.failedMask === 0 || pool.changingMask !== 0, "Failed legs wait for those that change paths");
  if (pool.phase !== "ready") return;
  assert(pool.inSyncMask !== 0, "A served pool has an in-sync leg");
  assert(pool.lostMask === 0 || isProposing, "A lost leg is being dropped", pool.lostMask);
}

/** Says which legs have come into the in-sync set and which have left the active legs, as of `epoch`. */
export function tellChanges(pool: ClientContext, epoch: number, joinedMask: number, droppedMask: number): void {
  noteServed(pool);
  for (const index of indicesOf(joinedMask)) {
    const text = `Leg ${index} (${pool.links[index]?.address}) is in sync at epoch ${epoch}`;
    pool.event("info", "leg-in-sync", text, index);
  }
  for (const index of indicesOf(droppedMask)) {
    const link = pool.links[index];
    const all = pool.record?.legs.filter((entry) => entry !== null).length;
    const text = `Leg ${index} (${link?.address}) is out of the set at epoch ${epoch}` +
      `${link?.lostReason ? `: ${link.lostReason}` : ""}; ${bitCount(pool.inSyncMask)} of ${all} legs in sync`;
    pool.event("warning", "leg-dropped", text, index);
  }
}

/** Why a pool that has lost legs is not served any more, and what becomes of its I/O. */
export function tooFewText(pool: ClientContext, minInSync: number): string {
  const lost = indicesOf(pool.lostMask).map((index) => {
    const link = pool.links[index];
    return `leg ${index} (${link?.address}${link?.lostReason ? `: ${link.lostReason}` : ""})`;
  });
  return `too few legs are in sync (min-in-sync ${minInSync}) without ${lost.join(", ")}; ` +
    `I/O waits up to ${pool.ioTimeoutMs / 1000} s`;
}

/** Takes note of the legs that are in sync now, and of no others. */
export function noteServed(pool: ClientContext): void {
  pool.lastServed.generation = pool.generation;
  pool.lastServed.hadCaretaker = false;
  pool.lastServed.boots.clear();
  for (const index of indicesOf(pool.inSyncMask)) {
    const uuid = pool.record?.legs[index]?.uuid;
    if (uuid !== undefined) pool.lastServed.boots.set(uuid, pool.links[index]?.grant?.bootId);
  }
}

/**
 * Whether a leg in sync has told, when it granted the claim, that it surely holds all that it ever acknowledged, and that its flushes have not failed.
 * Where a caretaker has had the legs meanwhile it has made them equal, also if all of them lacked the same, and told nobody: then it must be a leg
 * that served this client, on a machine that has not gone down since.
 */
export function isSureOf(pool: ClientContext): boolean {
  const { hadCaretaker, boots } = pool.lastServed;
  return indicesOf(pool.inSyncMask).some((index) => {
    const grant = pool.links[index]?.grant;
    if (grant?.unbroken !== true || grant.flushFailed === true) return false;
    return !hadCaretaker ||
      (grant.bootId !== undefined && boots.get(pool.record?.legs[index]?.uuid ?? "") === grant.bootId);
  });
}

/** A leg has granted a claim, and has told of its record. */
export function noteRecordOf(pool: ClientContext, { generation, clientGeneration }: SharedEpoch): void {
  const { lastServed } = pool;
  if (lastServed.generation > 0 && generation > lastServed.generation && generation > clientGeneration) {
    lastServed.hadCaretaker = true;
  }
  if (lastServed.generation === 0 && clientGeneration !== lastServed.made) {
    lastServed.byOthers = Math.max(lastServed.byOthers, clientGeneration);
  }
}
