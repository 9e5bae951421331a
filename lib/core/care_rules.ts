/**
 * When a caretaker has something to do, and when it is done: pure functions of what its legs have told.
 *
 * A caretaker is a client that serves no application. It makes the members equal, takes legs back in, and finishes what an operator began:
 * it takes up a disk that was made in place of a leg's, and removes a leg for which another has come into sync. It never gives up a member
 * for its silence, for without writes nothing is won by it; on any doubt it ends, and looks again later.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext } from "./client_context.ts";
import { removalDue } from "./leg_table_changes.ts";
import { legNames, type StartDecision } from "./start_rule.ts";

/** What a look at the greeted legs has found: everything as it should be, something to do, or that nothing can be done or said now. */
export type CareFinding = "well" | "work" | "later";

/** Whether a caretaker is to claim the legs that have greeted it. Notes if they need none. One with orders does not ask. */
export function mayCare(pool: ClientContext, decision: StartDecision): boolean {
  if (pool.isOrdered) return true;
  const finding = findCare(pool, decision);
  pool.foundAllWell = finding === "well";
  return finding === "work";
}

/** Judges the legs that have greeted a caretaker. */
export function findCare(pool: ClientContext, decision: StartDecision): CareFinding {
  const links = pool.links.filter((link) => link !== null);
  // Whoever holds it cares for it.
  if (links.some((link) => link.welcome?.heldBy !== undefined)) return "later";
  if (!decision.ok) return "later";
  const newest = decision.record;
  let areAllHere = true;
  for (const link of links) {
    const entry = newest.legs[link.legIndex] ?? null;
    if (entry === null || entry.isDrained) continue;
    const { legUuid, replacesUuid, record, unclean } = link.welcome ?? {};
    if (link.state !== "greeted" || record === undefined) areAllHere = false;
    else if (legUuid === entry.uuid) {
      const isMember = (newest.inSyncMask & (1 << link.legIndex)) !== 0;
      if (!isMember || unclean === true || compareRank(record.shared as SharedEpoch, newest) !== 0) return "work";
      if (removalDue(newest, link.legIndex) !== null) return "work";
    } else if (replacesUuid === entry.uuid) return "work";
    else areAllHere = false;
  }
  return areAllHere ? "well" : "later";
}

/** Whether a caretaker has done what it can, but for changes of the leg table: every leg that it reaches is in sync. */
export function isCareDone(pool: ClientContext): boolean {
  if (pool.phase !== "ready" || pool.lostMask !== 0) return false;
  for (const link of pool.links) {
    if (link === null || (pool.inSyncMask & (1 << link.legIndex)) !== 0) continue;
    if (link.state === "down" || link.state === "connecting") continue;
    // One of another history is for an operator to decide about.
    if (link.isRival) continue;
    if (pool.record?.legs[link.legIndex]?.isDrained !== true) return false;
  }
  return true;
}

/** Why a caretaker ends that has lost members. */
export function lostText(mask: number): string {
  return `The session has lost ${
    legNames(mask)
  }: its node is gone, or a client has taken the pool; whoever has it next finishes what is on record`;
}
