/**
 * The epoch records that a client makes, as pure functions of the one before: a founding one after a start, then legs that leave and join.
 *
 * @module
 */

import { compareRank, type LegEntry, type SharedEpoch } from "../disk_format/records.ts";
import type { Grant } from "../wire/bodies.ts";
import { decideForced, type ForceOrder, forceRiskText } from "./forced_start.ts";
import { incarnationBefore, wholly } from "./incarnations.ts";
import { bitCount, decideStart, indicesOf, type LegEvidence, type StartDecision } from "./start_rule.ts";

/** A leg that has granted our claim. */
export interface GrantedLeg {
  readonly legIndex: number;
  readonly legUuid: string;
  readonly grant: Grant;
}

/** How a pool starts. */
export type StartPlan =
  | {
    readonly ok: true;
    /** The newest record found. */
    readonly record: SharedEpoch;
    readonly memberMask: number;
    /**
     * Not to be served yet: fewer are to be in the set than in the newest record. First all that are here get a record of ours with that one's
     * set. Otherwise some could start with legs that are absent, or by themselves: by what they hold, or by a record that such a leg holds and
     * that leaves out others than ours does. None of those outranks ours.
     */
    readonly isOnlySpread: boolean;
    /** Legs whose own record has them in sync, but which cannot say what they may have been writing. */
    readonly doubtMask: number;
    /** No member can say that: whatever others may lack, it may be anything. */
    readonly isAllUnknown: boolean;
    /** Extents that may differ between the members. */
    readonly suspects: number[];
    /** The start rule refused, and an operator had it start all the same: the history that begins. */
    readonly forced: { readonly historyId: string; readonly historyNumber: number; readonly isMixture: boolean } | null;
  }
  | {
    readonly ok: false;
    readonly reason: string;
    /** What `--force` would do, as a sentence. */
    readonly risk?: string;
  };

/** An epoch record on its way to the legs. */
export interface Proposal {
  readonly shared: SharedEpoch;
  readonly droppedMask: number;
  /** Legs that have not confirmed it. */
  waitMask: number;
  readonly sentMs: number;
  /** Extents that it names as suspect. */
  readonly suspectCount: number;
}

/** Most extents of one epoch change or resync order. */
const MAX_LISTED_EXTENTS = 65_536;

/**
 * Plans a start from the legs that have granted the claim; those in `distrustMask`, and those that cannot say what they were writing, only if
 * it cannot be done without. `extentCount`: extents of the pool. `force` counts only where the start rule refuses, or the
 * minimum cannot be had without one of `distrustMask`. `spread`: the record that this claim has given to all that are here, if it has.
 */
export function planStart(
  granted: readonly GrantedLeg[],
  distrustMask: number,
  extentCount: number,
  force: ForceOrder | null,
  spread: SharedEpoch | null = null,
): StartPlan {
  const evidence = granted.map(({ legIndex, legUuid, grant }): LegEvidence => ({
    legIndex,
    legUuid,
    shared: grant.record.shared as SharedEpoch,
    isWhole: grant.unbroken || (grant.intents.length === 0 && !grant.intentsLost),
  }));
  const ordinary = decideStart(evidence);
  if (!ordinary.ok && force === null) return { ...ordinary, risk: forceRiskText(evidence) };
  // The minimum asks for a leg that could not be made equal to the others.
  const isStuck = ordinary.ok && ordinary.record.minInSync > 1 &&
    (membersToTrust(granted, evidence, ordinary, distrustMask) & distrustMask) !== 0;
  const forced = (ordinary.ok && !isStuck) || force === null ? null : decideForced(evidence, force.withoutMask);
  if (forced !== null && !forced.ok) return forced;
  // Who forces wants to go on with what is here.
  const decision = forced === null
    ? ordinary as StartDecision & { ok: true }
    : { ok: true as const, record: { ...forced.record, minInSync: 1 }, memberMask: forced.memberMask };
  const memberMask = membersToTrust(granted, evidence, decision, distrustMask);
  const isUnaware = ({ legIndex, shared }: LegEvidence) =>
    (decision.memberMask & (1 << legIndex)) !== 0 && compareRank(shared, decision.record) < 0;
  const { inSyncMask } = decision.record;
  const isSpread = spread !== null && compareRank(spread, decision.record) === 0;
  // A start by force gives up what those who are left out could go on with.
  if (forced === null && memberMask !== inSyncMask && !isSpread) {
    if (decision.memberMask !== inSyncMask || evidence.some(isUnaware)) return spreading(decision);
  }
  const members = granted.filter(({ legIndex }) => (memberMask & (1 << legIndex)) !== 0);
  const suspects = new Set<number>();
  for (const { grant } of members) for (const extent of grant.intents) suspects.add(extent);
  if (members.length > 1 && members.some(({ grant }) => grant.intentsLost)) {
    // Nobody knows where they differ, and the minimum forbids to begin with one of them.
    if (extentCount > MAX_LISTED_EXTENTS) return { ok: false, reason: incomparableText(members) };
    for (let extent = 0; extent < extentCount; extent++) suspects.add(extent);
  }
  if (suspects.size > MAX_LISTED_EXTENTS) {
    const reason =
      `The intent logs name ${suspects.size} extents that may differ; at most ${MAX_LISTED_EXTENTS} can be compared at a start`;
    return { ok: false, reason };
  }
  return {
    ok: true,
    record: forced?.record ?? decision.record,
    memberMask,
    isOnlySpread: false,
    doubtMask: decision.memberMask & ~memberMask,
    isAllUnknown: members.every(({ grant }) => grant.intentsLost),
    suspects: [...suspects],
    forced: forced === null || force === null
      ? null
      : { historyId: force.historyId, historyNumber: forced.historyNumber, isMixture: forced.isMixture },
  };
}

/** The plan that gives all members that are here a record with the set of the newest one. */
function spreading({ record, memberMask }: StartDecision & { ok: true }): StartPlan {
  const nothing = { doubtMask: 0, isAllUnknown: false, suspects: [], forced: null };
  return { ok: true, record, memberMask, isOnlySpread: true, ...nothing };
}

/**
 * The members to start with: of those that the start rule allows, the trusted ones, if they are enough and have all that was acked as surely
 * as any. Else one alone, the others being resynced whole, or, where the minimum forbids that, all.
 */
function membersToTrust(
  granted: readonly GrantedLeg[],
  evidence: readonly LegEvidence[],
  decision: StartDecision & { ok: true },
  distrustMask: number,
): number {
  let trustedMask = 0;
  for (const { legIndex, grant } of granted) {
    if (!grant.intentsLost && (distrustMask & (1 << legIndex)) === 0) trustedMask |= 1 << legIndex;
  }
  trustedMask &= decision.memberMask;
  let wholeMask = 0;
  for (const leg of evidence) if (leg.isWhole) wholeMask |= 1 << leg.legIndex;
  wholeMask &= decision.memberMask;
  const least = Math.max(1, decision.record.minInSync);
  const members = evidence.filter(({ legIndex }) => (decision.memberMask & (1 << legIndex)) !== 0);
  const sureMask = wholeMask !== 0 ? wholeMask : surestMask(members);
  const isSure = (trustedMask & sureMask) !== 0;
  if (bitCount(trustedMask) >= least && isSure) return trustedMask;
  if (least > 1) return decision.memberMask;
  return 1 << indicesOf(sureMask)[0];
}

/**
 * Of members none of which has been up since it acked, those that lack the least of what was acked, as a mask: those with the newest record,
 * for where it has dropped a member, they had flushed before; or, if the members were being made equal under it, the one they were made equal to.
 */
export function surestMask(members: readonly { readonly legIndex: number; readonly shared: SharedEpoch }[]): number {
  const newest = members.reduce((best, each) => compareRank(each.shared, best.shared) > 0 ? each : best).shared;
  let mask = 0;
  for (const { legIndex, shared } of members) if (compareRank(shared, newest) === 0) mask |= 1 << legIndex;
  const hasSource = members.some(({ legIndex }) => legIndex === newest.sourceIndex);
  return hasSource ? 1 << (newest.sourceIndex as number) : mask;
}

function incomparableText(members: readonly GrantedLeg[]): string {
  const lost = members.filter(({ grant }) => grant.intentsLost).map(({ legIndex }) => `leg ${legIndex}`).join(" and ");
  return `The intent log of ${lost} is lost and too few others are here to start without; bring the other legs of the pool back`;
}

/** The first record of a generation. `sourceIndex`: whom the members are to be made equal to, if they are. A caretaker's keeps the generation of the last client: it supersedes nobody. */
export function foundingRecord(
  plan: StartPlan & { ok: true },
  generation: number,
  isCaretaker: boolean,
  sourceIndex: number | undefined,
): SharedEpoch {
  const { memberMask, forced, isOnlySpread } = plan;
  const record = forced === null ? plan.record : {
    ...plan.record,
    historyId: forced.historyId,
    historyNumber: forced.historyNumber,
    minInSync: Math.min(plan.record.minInSync, bitCount(memberMask)),
  };
  const legs = record.legs.map((entry, index): LegEntry | null => {
    if (entry === null) return null;
    const bit = 1 << index;
    const isMember = (memberMask & bit) !== 0;
    if (isOnlySpread) return entry;
    const isUnknown = (plan.doubtMask & bit) !== 0 || ((plan.isAllUnknown || forced !== null) && !isMember);
    // Of a leg that is forced into the set nobody's map says anything any more: what it holds is what the pool is.
    const isForced = isMember && (plan.record.inSyncMask & bit) === 0;
    const anew = forced === null ? entry : { ...entry, mapIncarnation: incarnationBefore(forced.historyId) };
    const known = isUnknown ? wholly(anew, true) : isForced ? { ...wholly(anew, false), isDrained: false } : entry;
    return { ...known, outSinceMs: isMember ? 0 : entry.outSinceMs };
  });
  const clientGeneration = isCaretaker ? record.clientGeneration : generation;
  const epoch = record.epoch + 1;
  const inSyncMask = isOnlySpread ? record.inSyncMask : memberMask;
  return { ...record, generation, clientGeneration, epoch, inSyncMask, legs, sourceIndex };
}

/** The record in which the in-sync set is `inSyncMask` and the legs of `leftMask` are out since `wallMs`. */
export function withLegsLeft(latest: SharedEpoch, inSyncMask: number, leftMask: number, wallMs: number): SharedEpoch {
  const legs = latest.legs.map((entry, index): LegEntry | null => {
    const hasLeft = entry !== null && (leftMask & (1 << index)) !== 0 && entry.outSinceMs === 0;
    return hasLeft ? { ...entry, outSinceMs: wallMs } : entry;
  });
  return { ...latest, epoch: latest.epoch + 1, inSyncMask, legs };
}

/** The record in which the legs of `joinMask` are in sync: their dirty maps start over, clean. */
export function withLegsJoined(latest: SharedEpoch, joinMask: number): SharedEpoch {
  const legs = latest.legs.map((entry, index): LegEntry | null =>
    entry === null || (joinMask & (1 << index)) === 0 ? entry : { ...wholly(entry, false), outSinceMs: 0 }
  );
  return { ...latest, epoch: latest.epoch + 1, inSyncMask: latest.inSyncMask | joinMask, legs };
}

/** The record after `latest` with the same set, in which leg `unknownLeg` (or none: -1) may lack anything. */
export function withLegUnknown(latest: SharedEpoch, unknownLeg: number): SharedEpoch {
  const legs = latest.legs.map((entry, index): LegEntry | null =>
    entry !== null && index === unknownLeg ? wholly(entry, true) : entry
  );
  return { ...latest, epoch: latest.epoch + 1, legs };
}
