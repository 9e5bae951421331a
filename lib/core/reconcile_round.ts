/**
 * After an unclean end the members are made equal on every suspected extent, from one of them, before any I/O: what is suspected, who has yet to
 * report, and what went wrong before.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { orderReconcile, possibleSources, reconcileSource, type ResyncSessions } from "./resync_orders.ts";
import { indicesOf } from "./start_rule.ts";

/** Pause after a failure, longer with each. */
const BACKOFF_MS = 100;
const MOST_BACKOFF_MS = 10_000;

/** The reconciliations of one client. */
export class ReconcileRound {
  readonly #pool: ClientContext;
  readonly #sessions: ResyncSessions;
  /** Extents that may differ. */
  #suspects: number[] = [];
  /** Members that could not be made equal, to be left out if it can be done. */
  distrustMask = 0;
  #waitMask = 0;
  /** Members that could not read what they were the source of. */
  #unreadableMask = 0;
  #failures = 0;
  /** Since when the minimum asks for a member that cannot be made equal, for nobody else can read what it lacks; -1 when it does not. */
  #stuckSinceMs = -1;

  constructor(pool: ClientContext, sessions: ResyncSessions) {
    this.#pool = pool;
    this.#sessions = sessions;
  }

  /**
   * The member that the others are to be made equal to; undefined when there is nothing to compare. The record says so before anything is
   * copied, or the next start might take the copies for the original.
   */
  plan(suspects: number[]): number | undefined {
    this.#suspects = suspects;
    return suspects.length === 0 || this.#members().length === 1 ? undefined : this.source;
  }

  /** The member that the others would be made equal to. */
  get source(): number {
    return reconcileSource(this.#members(), this.#unreadableMask).legIndex;
  }

  /** Orders it, as the record says that all members have now. False when there is nothing to compare. */
  begin(shared: SharedEpoch): boolean {
    const pool = this.#pool;
    if (shared.sourceIndex === undefined) return false;
    pool.phase = "reconcile";
    const source = pool.links[shared.sourceIndex] as LegLink;
    this.#waitMask = orderReconcile(pool, this.#sessions, this.#members(), source, this.#suspects, shared);
    pool.event("info", "reconcile", `The last session ended uncleanly: ${this.#suspects.length} extents are compared`);
    return true;
  }

  /** A member has reported that it is equal. Returns whether all have. */
  isSettledBy(link: LegLink): boolean {
    this.#waitMask &= ~(1 << link.legIndex);
    return this.#waitMask === 0;
  }

  /**
   * A member could not be made equal. If that is because `unreadableLeg` (-1: none) could not be read, another that is as good is the source
   * next time. If there is none, or the member itself has failed, it is left out and resynced: what the source cannot read it will lack.
   * Returns how long to wait before the next start, in ms.
   */
  failed(target: LegLink, unreadableLeg: number): number {
    if (unreadableLeg >= 0) this.#unreadableMask |= 1 << unreadableLeg;
    const sources = possibleSources(this.#members());
    const hasOther = sources.some(({ legIndex }) => (this.#unreadableMask & (1 << legIndex)) === 0);
    const bit = 1 << target.legIndex;
    const isStuck = unreadableLeg >= 0 && !hasOther && (this.distrustMask & bit) !== 0;
    if (!isStuck) this.#stuckSinceMs = -1;
    else if (this.#stuckSinceMs < 0) this.#stuckSinceMs = this.#pool.nowMs;
    if (unreadableLeg < 0 || !hasOther) this.distrustMask |= bit;
    return Math.min(MOST_BACKOFF_MS, this.#failures++ * BACKOFF_MS);
  }

  /** Why the pool cannot start, when it has been tried for long enough; else "". `message`: what could not be read. */
  stuckText(message: string): string {
    const { nowMs, options, record } = this.#pool;
    const isOverdue = this.#stuckSinceMs >= 0 && nowMs - this.#stuckSinceMs >= (options.assembleTimeoutMs ?? 5000);
    if (!isOverdue) return "";
    return `No leg can give what all must hold alike: ${message}. Fewer than ${record?.minInSync} legs would be in sync ` +
      `without those that may lack it. With --force the pool would start from the leg that cannot give it: what it cannot ` +
      `read is an error until it is written anew`;
  }

  /** The pool is assembled anew. */
  abandon(): void {
    this.#waitMask = 0;
  }

  /** The members are equal. */
  done(): void {
    this.#suspects = [];
    this.distrustMask = 0;
    this.#unreadableMask = 0;
    this.#failures = 0;
    this.#stuckSinceMs = -1;
  }

  #members(): LegLink[] {
    return indicesOf(this.#pool.inSyncMask).map((index) => this.#pool.links[index] as LegLink);
  }
}
