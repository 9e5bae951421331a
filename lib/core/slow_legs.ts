/**
 * Which legs keep requests for too long.
 *
 * @module
 */

import type { ClientContext } from "./client_context.ts";
import { RequestState, type RequestTable } from "./request_table.ts";
import { bitCount, indicesOf } from "./start_rule.ts";

/** How long a leg may keep a request unless told otherwise. */
export const LEG_TIMEOUT_MS = 20_000;

/** What the I/O path asks of the membership. */
export interface LegFailure {
  /** This leg has failed: it must leave the active legs. */
  failLeg(legIndex: number, reason: string): void;
  /** The last in-sync leg has failed a write, which legs under resync may have done. */
  writeFailed(): void;
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

/** A leg that keeps a request for too long is dropped, as long as others remain. */
export function dropSlowLegs(pool: ClientContext, requests: RequestTable, failure: LegFailure | null): void {
  const limitMs = pool.options.legTimeoutMs ?? LEG_TIMEOUT_MS;
  for (const index of indicesOf(slowLegs(requests, pool.nowMs - limitMs) & ~pool.lostMask)) {
    const remaining = bitCount(pool.inSyncMask & ~pool.lostMask & ~(1 << index));
    if (remaining < Math.max(1, pool.record?.minInSync ?? 1)) continue;
    failure?.failLeg(index, `it has not answered for ${limitMs} ms`);
  }
}
