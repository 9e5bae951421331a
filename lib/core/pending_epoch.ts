/**
 * An epoch record that a leg is writing, and what must be on its disk besides before the client is told: that the record is in force means that
 * what the dropped legs may lack, or may have too much, is known here for good.
 *
 * @module
 */

import type { LegContext } from "./leg_context.ts";

/** An epoch record being written. */
export interface PendingEpoch {
  readonly purpose: number;
  readonly connection: number;
  readonly requestId: number;
  isWritten: boolean;
  /** Whether suspicions came with it that no intent of ours covers: then the dirty pages must be on disk too. */
  needsPages: boolean;
  /**
   * It drops a leg, so what was asked of us and is not flushed is suspected; what had been added to the intent log by then (see
   * `IntentLog.additions`) must be durable in it. Null: nothing is, or the pages are to have it.
   */
  additions: Float64Array | null;
}

/** The intent log cannot be written: the suspicions that it was to cover must be in the dirty pages. */
export function coverByPages(pendingEpochs: readonly PendingEpoch[], leg: LegContext): void {
  const uncovered = pendingEpochs.filter(({ additions }) => additions !== null);
  for (const pending of uncovered) {
    pending.additions = null;
    pending.needsPages = true;
  }
  if (uncovered.length > 0) { for (const map of leg.maps) map?.beginCheckpoint(); }
}
