/**
 * Whether the legs of a world hold themselves to be whole, and whether they are.
 *
 * @module
 */

import type { ClientSnapshot } from "../../lib/core/snapshot.ts";
import { maskOf } from "./checks.ts";
import type { LegProcess } from "./leg_process.ts";
import { nameValue } from "./oracle.ts";
import { SlotOwner } from "./slots.ts";
import { Violation } from "./violation.ts";
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
    // A leg that has lost its intent log counts no extents, and is compared in full, and flushed, before it is equal again.
    if (atRest && world.checks.hasLostIntents(leg.disk) && !isSettled(world, tableMask)) {
      return `${leg.name} has lost its intent log`;
    }
    for (const dirty of snapshot.dirty) {
      if (dirty.dirtyChunks > 0) return `${leg.name} has ${dirty.dirtyChunks} dirty chunks of leg ${dirty.legIndex}`;
    }
  }
  return "";
}

/** Whether the disks of all legs of the table hold the same, on stable storage. */
function isSettled(world: World, tableMask: number): boolean {
  const members = world.legs.filter((leg) => (tableMask & (1 << leg.legIndex)) !== 0);
  const first = members[0].disk.current;
  return members.every(({ disk: { current, stable } }) =>
    current.every((value, sector) => value === first[sector] && value === stable[sector])
  );
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

/** What is in a sector of each leg, in words. */
export function describeSector(legs: readonly LegProcess[], sector: number): string {
  return legs.map(({ name, disk }) => {
    const [now, stable] = [disk.current[sector], disk.stable[sector]];
    return `${name}: ${nameValue(now)}${now === stable ? "" : ` (stable: ${nameValue(stable)})`}`;
  }).join("; ");
}

/** The first leg of the table that holds memory, and for what; "" when none does. */
export function heldSlots(world: World): string {
  const mask = maskOf(world.table.newest(false)!);
  for (const leg of world.legs) {
    if ((mask & (1 << leg.legIndex)) === 0) continue;
    const used = world.slots.usedBy(leg.id).filter((slot) => slot.owner === SlotOwner.CORE && slot.sends === 0);
    if (used.length === 0) continue;
    const names = used.map((slot) => `${slot.index} of ${nameValue(slot.values[0])}`).join(", ");
    return `${leg.name} holds ${used.length} slots at rest: ${names}`;
  }
  return "";
}

/** Every leg of the table holds the same, on stable storage. */
export function expectIdentical(world: World): void {
  const mask = maskOf(world.table.newest(false)!);
  const members = world.legs.filter((leg) => (mask & (1 << leg.legIndex)) !== 0);
  const first = members[0].disk;
  for (const leg of members) {
    const disk = leg.disk;
    for (let sector = 0; sector < world.oracle.sectorCount; sector++) {
      if (disk.current[sector] !== first.current[sector]) {
        throw new Violation(
          "identical",
          `sector ${sector} holds ${nameValue(first.current[sector])} on ${members[0].name} and ` +
            `${nameValue(disk.current[sector])} on ${leg.name}`,
        );
      }
      if (disk.stable[sector] !== disk.current[sector]) {
        throw new Violation(
          "flushed",
          `after detaching, sector ${sector} of ${leg.name} is ${
            nameValue(disk.stable[sector])
          } on stable storage, not ` +
            nameValue(disk.current[sector]),
        );
      }
    }
  }
}
