/**
 * Forced starts, as pure functions: going on from what is here although the start rule refuses, as a new history of the pool.
 *
 * A forced start makes a new history id and a history number above all that are known. Legs that did not found it belong to an older
 * history and are wholly dirty, however new their own records are. Two histories that were forced apart carry the same number: neither is
 * newer, and only an operator can say which one goes.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../disk_format/records.ts";
import { bitCount, isMemberOf, type LegEvidence, legNames, splitOf, splitText } from "./start_rule.ts";

/** An operator's order to start in spite of the start rule. It founds one history: however that goes, it is spent then. */
export interface ForceOrder {
  /** Random UUID: the id of the history that begins. */
  readonly historyId: string;
  /** Legs whose data is to be given up. */
  readonly withoutMask: number;
}

/** What a forced start goes on from. */
export type ForcedDecision =
  | {
    readonly ok: true;
    /** The newest record of those that are not given up. */
    readonly record: SharedEpoch;
    readonly memberMask: number;
    /** Above the number of every history that is known here. */
    readonly historyNumber: number;
    /** No leg that is here was in sync: what it holds may be older in one place than in another. */
    readonly isMixture: boolean;
  }
  | { readonly ok: false; readonly reason: string };

/** Decides what a forced start goes on from. */
export function decideForced(evidence: readonly LegEvidence[], withoutMask: number): ForcedDecision {
  const kept = evidence.filter(({ legIndex }) => (withoutMask & (1 << legIndex)) === 0);
  if (kept.length === 0) return { ok: false, reason: "No leg to start from is reachable, and no force helps there" };
  const split = splitOf(kept);
  if (split !== null) return { ok: false, reason: splitText(split) };
  const best = kept.reduce((a, b) => compareRank(b.shared, a.shared) > 0 ? b : a);
  const record = best.shared;
  let memberMask = 0;
  for (const leg of kept) if (isMemberOf(record, leg)) memberMask |= 1 << leg.legIndex;
  const isMixture = memberMask === 0;
  if (isMixture && record.legs[best.legIndex]?.uuid !== best.legUuid) {
    return { ok: false, reason: `Leg ${best.legIndex} is not the one of its own leg table; it cannot found a history` };
  }
  const historyNumber = evidence.reduce((most, { shared }) => Math.max(most, shared.historyNumber), 0) + 1;
  return { ok: true, record, memberMask: isMixture ? 1 << best.legIndex : memberMask, historyNumber, isMixture };
}

/** What `--force` would do with these legs, for whom a start was refused; "" when it would not help. */
export function forceRiskText(evidence: readonly LegEvidence[]): string {
  const forced = decideForced(evidence, 0);
  if (!forced.ok) return "";
  const lostMask = forced.record.inSyncMask & ~forced.memberMask;
  const from = `With --force the pool would start from ${legNames(forced.memberMask)} as it is`;
  if (lostMask === 0) return ` ${from}.`;
  return ` ${from}: writes that were acknowledged and are only on ${legNames(lostMask)} would be lost.`;
}

/** What an operator must read of a forced start. */
export function forcedText(record: SharedEpoch, memberMask: number, minInSync: number, isMixture: boolean): string {
  const others = record.legs.reduce((mask, entry, index) => entry === null ? mask : mask | (1 << index), 0) &
    ~memberMask;
  return `The pool is started by force from ${legNames(memberMask)}, as a new history` +
    (others === 0 ? "" : `; ${legNames(others)} ${bitCount(others) === 1 ? "is" : "are"} overwritten whole when back`) +
    (isMixture ? "; no leg that is here was in sync, so its data may be older in one place than in another" : "") +
    (minInSync === record.minInSync ? "" : `; legs that must be in sync: ${minInSync} instead of ${record.minInSync}`);
}

/** Whether `shared` may not be overwritten on the strength of `latest`: its history is not older. */
export function isRivalHistory(shared: SharedEpoch | undefined, latest: SharedEpoch): boolean {
  return shared !== undefined && shared.historyId !== latest.historyId && shared.historyNumber >= latest.historyNumber;
}
