/**
 * Which legs keep requests for too long.
 *
 * @module
 */

import type { ClientContext } from "./client_context.ts";
import type { Proposal } from "./epoch_changes.ts";
import { isWriteKind } from "./request_frames.ts";
import { RequestState, type RequestTable } from "./request_table.ts";
import { bitCount, indicesOf } from "./start_rule.ts";

/** How long a leg may keep a request unless told otherwise. */
export const LEG_TIMEOUT_MS = 20_000;

/** A page of a dirty map in both its copies, on a disk that has to seek: each extent that a record names may be on one of its own. */
const PAGE_MS = 20;

/** What the I/O path asks of the membership. */
export interface LegFailure {
  /** This leg has failed: it must leave the active legs. */
  failLeg(legIndex: number, reason: string): void;
  /** The last in-sync leg has failed a write, which legs under resync may have done, or a flush of what they may keep. */
  writeFailed(): void;
  /** A leg has done a write while no further one is let through. */
  writeDone(): void;
}

/** The legs that have not answered a request sent before `sinceMs`, as a mask. */
export function slowLegs(requests: RequestTable, sinceMs: number): number {
  let mask = 0;
  for (let request = 0; request < requests.capacity; request++) {
    if (requests.state[request] !== RequestState.ACTIVE || requests.issuedMs[request] >= sinceMs) continue;
    mask |= requests.waitMask[request];
    if (requests.readLeg[request] >= 0) mask |= 1 << requests.readLeg[request];
  }
  return mask;
}

/** Of the legs in `mask` those that have yet to do a write that is in flight. */
export function owingLegs(requests: RequestTable, mask: number): number {
  let owing = 0;
  for (let request = 0; request < requests.capacity; request++) {
    if (requests.state[request] !== RequestState.ACTIVE || !isWriteKind(requests.kind[request])) continue;
    owing |= requests.waitMask[request];
  }
  return owing & mask;
}

/** A leg that keeps a request for too long is dropped, as long as others remain. */
export function dropSlowLegs(pool: ClientContext, requests: RequestTable, failure: LegFailure | null): void {
  const limitMs = pool.options.legTimeoutMs ?? LEG_TIMEOUT_MS;
  for (const index of indicesOf(slowLegs(requests, pool.nowMs - limitMs))) {
    if (mayDrop(pool, index)) failure?.failLeg(index, `it has not answered for ${limitMs} ms`);
  }
}

/**
 * So is one that does not confirm a record: nothing else might be asked of it meanwhile. When the pool is being established the start rule
 * judges what remains.
 */
export function dropSlowConfirmers(pool: ClientContext, proposal: Proposal, failure: LegFailure): void {
  const limitMs = (pool.options.legTimeoutMs ?? LEG_TIMEOUT_MS) + proposal.suspectCount * PAGE_MS;
  if (pool.nowMs - proposal.sentMs < limitMs) return;
  for (const index of indicesOf(proposal.waitMask)) {
    if (pool.phase !== "establish" && !mayDrop(pool, index)) continue;
    failure.failLeg(index, `it has not confirmed a record for ${limitMs} ms`);
  }
}

function mayDrop({ inSyncMask, lostMask, record }: ClientContext, index: number): boolean {
  if ((lostMask & (1 << index)) !== 0) return false;
  return bitCount(inSyncMask & ~lostMask & ~(1 << index)) >= Math.max(1, record?.minInSync ?? 1);
}
