/**
 * Whether the legs of a world hold themselves to be whole.
 *
 * @module
 */

import type { ClientSnapshot } from "../../lib/core/snapshot.ts";
import type { World } from "./world.ts";

/** What keeps the legs from being whole as they see it themselves; "" when nothing does. `atRest`: nobody may have the pool, and nothing may be left to compare. `tableMask`: the legs of the table. */
export function legsUnwholeness(world: World, atRest: boolean, tableMask: number): string {
  for (const leg of world.legs) {
    if ((tableMask & (1 << leg.legIndex)) === 0) continue;
    if (leg.pausedUntilMs > world.nowMs) return `${leg.name} is stopped`;
    if (leg.core === null) return `${leg.name} is not up`;
    const snapshot = leg.core.snapshot();
    if (snapshot.state !== "in-sync") return `${leg.name} holds itself to be ${snapshot.state}`;
    if (atRest && snapshot.session !== null) return `${leg.name} is held by ${snapshot.session.clientName}`;
    if (atRest && snapshot.hotExtents > 0) return `${leg.name} has ${snapshot.hotExtents} hot extents`;
    if (atRest && snapshot.record.shared.inSyncMask !== tableMask) {
      return `${leg.name} has ${snapshot.record.shared.inSyncMask} in sync`;
    }
    for (const dirty of snapshot.dirty) {
      if (dirty.dirtyChunks > 0) return `${leg.name} has ${dirty.dirtyChunks} dirty chunks of leg ${dirty.legIndex}`;
    }
  }
  return "";
}

/** What keeps the pool from being whole as its client sees it; "" when nothing does. What an operator has left undone is done first. */
export function tableUnwholeness(world: World, { inSyncMask, legs, verify }: ClientSnapshot): string {
  const undone = world.table.finish();
  if (undone !== "") return undone;
  const all = legs.reduce((mask, leg) => mask | (1 << leg.legIndex), 0);
  if (inSyncMask !== all) return `the in-sync set is ${inSyncMask.toString(2)} of ${all.toString(2)}`;
  if (verify.state === "running") return "a verify is running";
  return legsUnwholeness(world, false, all);
}
