/**
 * What the sets of legs in a client's context have to do with each other.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { ClientContext } from "./client_context.ts";

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
