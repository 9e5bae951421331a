/**
 * The start rule, as a pure function: may a pool be served from these legs? ARCHITECTURE.md has the argument.
 *
 * @module
 */

import { compareRank, MAX_LEGS, type SharedEpoch } from "../disk_format/records.ts";

/** What one reachable leg tells about itself. */
export interface LegEvidence {
  readonly legIndex: number;
  readonly legUuid: string;
  readonly shared: SharedEpoch;
  /** Whether it surely holds all that it ever acked, on stable storage or not. */
  readonly isWhole: boolean;
}

/** Whether and from what a pool may start. */
export type StartDecision =
  | { readonly ok: true; readonly record: SharedEpoch; readonly memberMask: number }
  | { readonly ok: false; readonly reason: string };

/** Decides by the newest record among `evidence`. */
export function decideStart(evidence: readonly LegEvidence[]): StartDecision {
  const newest = newestOf(evidence);
  if (newest === null) return { ok: false, reason: "No leg of the pool is reachable" };
  const split = splitOf(evidence);
  if (split !== null) return { ok: false, reason: splitText(split) };
  let memberMask = 0;
  let wholeMask = 0;
  for (const leg of evidence) {
    const bit = 1 << leg.legIndex;
    if (isMemberOf(newest, leg)) memberMask |= bit;
    if (leg.isWhole) wholeMask |= bit;
  }
  const least = Math.max(1, newest.minInSync);
  const absentMask = newest.inSyncMask & ~memberMask;
  const present = bitCount(memberMask);
  if (present >= least && bitCount(absentMask) < least) {
    // What was acked and never flushed may be on the absent members alone.
    if (absentMask === 0 || (memberMask & wholeMask) !== 0) return { ok: true, record: newest, memberMask };
    return { ok: false, reason: unflushedText(newest, memberMask, absentMask) };
  }
  return { ok: false, reason: refusalText(newest, memberMask, absentMask, least) };
}

/**
 * Whether `leg` is an in-sync leg of `record`. One of an older history may be: the record that founds a history, or takes the leg in, may not
 * have reached it before its client ended. A leg that went on in the older history since has done so under a later generation: it had
 * promised the one of `record`.
 */
export function isMemberOf(record: SharedEpoch, leg: LegEvidence): boolean {
  if (!isInSyncIn(record, leg)) return false;
  if (leg.shared.historyId === record.historyId) return true;
  return leg.shared.historyNumber < record.historyNumber && leg.shared.generation < record.generation;
}

/** Whether `leg` would be one of {@link isMemberOf}, had it not gone on in an older history since. */
function hasGoneOn(record: SharedEpoch, leg: LegEvidence): boolean {
  return isInSyncIn(record, leg) && leg.shared.historyNumber < record.historyNumber &&
    leg.shared.generation >= record.generation;
}

function isInSyncIn(record: SharedEpoch, { legIndex, legUuid }: LegEvidence): boolean {
  return (record.inSyncMask & (1 << legIndex)) !== 0 && record.legs[legIndex]?.uuid === legUuid;
}

function newestOf(evidence: readonly LegEvidence[]): SharedEpoch | null {
  let newest: SharedEpoch | null = null;
  for (const { shared } of evidence) if (newest === null || compareRank(shared, newest) > 0) newest = shared;
  return newest;
}

/**
 * The legs of each of the histories that went on apart from one another, a start by force having begun one of them; null when there is but
 * one to go on from. Histories of one number are apart. So is an older one if an in-sync leg of the newest record has gone on in it: that
 * record has reached only some of its legs, and the others were started without those.
 */
export function splitOf(evidence: readonly LegEvidence[]): readonly LegEvidence[][] | null {
  const newest = newestOf(evidence);
  if (newest === null) return null;
  const apart = new Set<string>();
  for (const leg of evidence) {
    const { shared } = leg;
    if (shared.historyNumber === newest.historyNumber || hasGoneOn(newest, leg)) apart.add(shared.historyId);
  }
  if (apart.size < 2) return null;
  return [...apart].map((historyId) => evidence.filter(({ shared }) => shared.historyId === historyId));
}

/** Names all sides of a split, and the ways out: the legs of all but one are given up. */
export function splitText(sides: readonly LegEvidence[][]): string {
  const names = sides.map((legs) => legs.map(({ shared, legIndex }) => nameOf(shared, legIndex)).join(", "));
  const ways = sides.map((kept) => {
    const given = sides.filter((side) => side !== kept).flat().map(({ legIndex }) => legIndex).sort((a, b) => a - b);
    return `--force ${given.map((legIndex) => `--without ${legIndex}`).join(" ")}`;
  });
  return `The pool went on more than once, apart, after a start by force: ${
    names.join(" against ")
  }; each side may hold writes that the ` +
    `other lacks. Choose whose are given up: attach with ${ways.reverse().join(", or ")}`;
}

/**
 * Whether a client may go from the set `former`, which is in force, to `next`, of which some may have been about to join by a record that is
 * not: no legs that could start from the one may be without any of those that could start from the other. Somebody who has all that was
 * acknowledged has to be in both.
 */
export function maySetChange(former: number, next: number, minInSync: number): boolean {
  const least = Math.max(1, minInSync);
  if ((former & next) === 0 || bitCount(next) < least) return false;
  return fewestToStart(former, least) + fewestToStart(next, least) > bitCount(former | next);
}

/** How many legs of a set must be there to start from it: so many that fewer than the minimum are absent, and no less than that. */
function fewestToStart(inSyncMask: number, least: number): number {
  return Math.max(least, bitCount(inSyncMask) - least + 1);
}

/** Number of set bits. */
export function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** The leg indices in a mask, ascending. */
export function indicesOf(mask: number): number[] {
  const indices: number[] = [];
  for (let index = 0; index < MAX_LEGS; index++) if ((mask & (1 << index)) !== 0) indices.push(index);
  return indices;
}

/** "leg 0 and leg 2". */
export function legNames(mask: number): string {
  return indicesOf(mask).map((index) => `leg ${index}`).join(" and ");
}

function nameOf(record: SharedEpoch, index: number): string {
  const entry = record.legs[index] ?? null;
  const outSince = entry === null || entry.outSinceMs === 0
    ? ""
    : `, out since ${new Date(entry.outSinceMs).toISOString()}`;
  return `leg ${index} (${entry?.address ?? "unknown"}${outSince})`;
}

function unflushedText(record: SharedEpoch, memberMask: number, absentMask: number): string {
  const names = (mask: number) => indicesOf(mask).map((index) => nameOf(record, index)).join(" and ");
  const isOne = bitCount(absentMask) === 1;
  return `The machines of ${names(memberMask)} went down with writes that were acknowledged but not flushed; ` +
    `${names(absentMask)} may still hold them, so bring ${isOne ? "it" : "one of them"} back`;
}

function refusalText(record: SharedEpoch, memberMask: number, absentMask: number, least: number): string {
  const name = (index: number) => nameOf(record, index);
  const missed = indicesOf(absentMask).map(name).join(" and ");
  const present = indicesOf(memberMask);
  if (present.length === 0) {
    return `No reachable leg is in sync at epoch ${record.epoch}; ${missed} ${
      bitCount(absentMask) === 1 ? "was" : "were"
    } the last to be in sync and must come back`;
  }
  if (present.length < least) {
    return `Only ${present.map(name).join(" and ")} of ${least} legs that must be in sync ${
      present.length === 1 ? "is" : "are"
    } reachable; ${missed} must come back`;
  }
  return `${missed} may have gone on without ${present.map(name).join(" and ")} after epoch ${record.epoch}, ` +
    `so what is reachable may be old; bring ${bitCount(absentMask) === 1 ? "it" : "them"} back`;
}
