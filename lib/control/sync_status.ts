/**
 * Where each leg of a pool stands: its state, what it lacks, how fast that shrinks.
 *
 * The legs of the in-sync set know best what another leg lacks; a leg under resync knows best how far it is. A number that
 * nobody reachable knows is null, never a guess.
 *
 * @module
 */

import { compareRank } from "../disk_format/records.ts";
import type { LegSnapshot, LegState } from "../core/snapshot.ts";
import type { FoundLeg, FoundPool, StrayLeg } from "./pool_lookup.ts";

/** One leg's standing. */
export interface LegSync {
  readonly legIndex: number;
  readonly legUuid: string;
  readonly address: string;
  /** Null when its node does not answer. */
  readonly path: string | null;
  readonly state: LegState;
  /** Bytes it lacks; null when no reachable leg knows. */
  readonly missingBytes: number | null;
  /** Bytes that were missing when its resync began; null without one. */
  readonly totalBytes: number | null;
  readonly copiedBytes: number | null;
  readonly skippedBytes: number | null;
  readonly rateBytesPerSecond: number;
  readonly etaMs: number | null;
  /** Whether an operator has paused its resync. */
  readonly isPaused: boolean;
  /** Kept out by an operator, until "leg undrain". */
  readonly isDrained: boolean;
  /** Operator's limit, 0 for none. */
  readonly limitBytesPerSecond: number;
  readonly sourceLegIndex: number | null;
  /** Wall clock when it left the in-sync set; null while it is in it, or when the time is not known. */
  readonly outSinceMs: number | null;
  /** What an operator should know; "" when all is well. */
  readonly message: string;
}

/** All legs' standing. */
export interface SyncStatus {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly sizeBytes: number;
  readonly generation: number;
  readonly epoch: number;
  readonly minInSync: number;
  readonly heldBy: string | null;
  /** Nobody has it attached, and its legs reconcile or resync by themselves. */
  readonly isCaredFor: boolean;
  readonly legs: readonly LegSync[];
  /** What nodes have of the pool besides its legs: never trusted, and to be erased. */
  readonly strays: readonly StrayLeg[];
  /** All legs of the table are in sync and answer. */
  readonly isWhole: boolean;
  /** It is whole, and there is more than one: the loss of a leg loses nothing. */
  readonly isRedundant: boolean;
}

/** Works out the standing of `pool`'s legs from what its nodes said. */
export function syncStatusOf(pool: FoundPool): SyncStatus {
  const legs = pool.legs.map((leg) => legSyncOf(leg, pool));
  const isWhole = legs.every((leg) => leg.state === "in-sync");
  return {
    poolUuid: pool.poolUuid,
    poolName: pool.poolName,
    sizeBytes: pool.sizeBytes,
    generation: pool.record.generation,
    epoch: pool.record.epoch,
    minInSync: pool.record.minInSync,
    heldBy: pool.heldBy,
    isCaredFor: pool.isCaredFor,
    legs,
    strays: pool.strays,
    isWhole,
    isRedundant: isWhole && legs.length > 1,
  };
}

/** Snapshots of the reachable legs whose word on other legs counts: members of the newest in-sync set that hold its record. */
export function witnessesOf(pool: FoundPool): LegSnapshot[] {
  const witnesses: LegSnapshot[] = [];
  for (const leg of pool.legs) {
    if (leg.status === null || !leg.isInSyncMember) continue;
    if (compareRank(leg.status.snapshot.record.shared, pool.record) === 0) witnesses.push(leg.status.snapshot);
  }
  return witnesses;
}

function legSyncOf(leg: FoundLeg, pool: FoundPool): LegSync {
  const snapshot = leg.status?.snapshot ?? null;
  const resync = leg.isInSyncMember ? null : snapshot?.resync ?? null;
  const isActive = resync !== null && (resync.state === "running" || resync.state === "paused");
  return {
    legIndex: leg.legIndex,
    legUuid: leg.legUuid,
    address: leg.address,
    path: leg.status?.path ?? null,
    state: stateOf(leg),
    missingBytes: isActive ? resync.missingBytes : missingBytesOf(leg, pool),
    totalBytes: resync?.totalBytes ?? null,
    copiedBytes: resync?.copiedBytes ?? null,
    skippedBytes: resync?.skippedBytes ?? null,
    rateBytesPerSecond: isActive ? resync.rateBytesPerSecond : 0,
    etaMs: isActive ? resync.etaMs : null,
    isPaused: resync?.state === "paused",
    isDrained: pool.record.legs[leg.legIndex]?.isDrained ?? false,
    limitBytesPerSecond: resync?.limitBytesPerSecond ?? 0,
    sourceLegIndex: isActive ? resync.sourceLegIndex : null,
    outSinceMs: leg.isInSyncMember ? null : knownTime(pool.record.legs[leg.legIndex]?.outSinceMs ?? 0),
    message: leg.problem ?? resync?.message ?? "",
  };
}

/** A client that has no wall clock at hand writes 1: out, since when nobody knows. */
function knownTime(outSinceMs: number): number | null {
  return outSinceMs > 1 ? outSinceMs : null;
}

function stateOf(leg: FoundLeg): LegState {
  if (leg.status === null) return "away";
  if (leg.isInSyncMember) return "in-sync";
  return leg.status.snapshot.state === "resyncing" ? "resyncing" : "stale";
}

function missingBytesOf(leg: FoundLeg, pool: FoundPool): number | null {
  if (leg.isInSyncMember) return leg.status === null ? null : 0;
  let most: number | null = null;
  for (const witness of witnessesOf(pool)) {
    const entry = witness.dirty.find((dirty) => dirty.legIndex === leg.legIndex);
    if (entry !== undefined && (most === null || entry.dirtyBytes > most)) most = entry.dirtyBytes;
  }
  return most;
}
