/**
 * Notices that nothing comes of a resync any more: a disk may hang under a process that still answers heartbeats, and two legs may be cut
 * from each other while the client reaches both. Nobody else would notice, for the client asks nothing of the legs meanwhile.
 *
 * @module
 */

import type { ResyncJob } from "./resync_job.ts";
import { LEG_TIMEOUT_MS } from "./slow_legs.ts";

/** That nothing comes of it, and why. */
export interface Stall {
  /** Whether it is the source that does not answer, not this leg's own disk. */
  readonly isOfSource: boolean;
  /** For people. */
  readonly text: string;
}

/** Until legs that cannot reach each other are given up, if not longer: a few attempts to connect. */
const UNREACHABLE_MS = 5000;
/** Most that counts between two looks: while this process is stopped, that nothing happens says nothing. */
const MOST_STEP_MS = 1000;

/** Watches the resync of one leg. */
export class ResyncStall {
  readonly #job: ResyncJob;
  #quietMs = 0;
  #lookedMs = 0;
  #run = -1;
  #pullMark = 0;
  #writeMark = 0;

  constructor(job: ResyncJob) {
    this.#job = job;
  }

  /**
   * Time passes. Tells once that nothing comes of it any more; then it counts anew. A reconciliation is going to fail then: `unreadableLeg` is
   * the source if it is at fault.
   */
  tick(): Stall | null {
    const job = this.#job;
    const { leg, source } = job;
    const stepMs = Math.min(MOST_STEP_MS, leg.nowMs - this.#lookedMs);
    this.#lookedMs = leg.nowMs;
    // A resync may be told to wait, or have nothing to ask for. To ask the same leg again would only fill its memory.
    const isAwaited = job.phase === "pull" &&
      (job.mode === "reconcile" || (job.pulls.count > 0 && job.hasOtherSource));
    this.#quietMs = this.#hasMoved || !isAwaited ? 0 : this.#quietMs + stepMs;
    const isOwn = job.busyOperations > 0 || job.todo.count === 0 || !leg.ownSuspects.isCheckpointDone;
    const isUp = job.links.isUp(source);
    const limitMs = isOwn || isUp ? LEG_TIMEOUT_MS : Math.max(UNREACHABLE_MS, job.links.roundMs(source));
    if (this.#quietMs < limitMs) return null;
    this.#quietMs = 0;
    if (isOwn) return { isOfSource: false, text: `Its disk has not answered for ${LEG_TIMEOUT_MS} ms` };
    if (job.mode === "reconcile") job.unreadableLeg = source;
    const text = isUp
      ? `Leg ${source} has not answered leg ${leg.legIndex} for ${LEG_TIMEOUT_MS} ms`
      : `Leg ${source} cannot be reached from leg ${leg.legIndex}`;
    return { isOfSource: true, text };
  }

  /** Whether anything has come of it since the last look. */
  get #hasMoved(): boolean {
    const { run, todo, differing, leg } = this.#job;
    // Falls with every chunk that is compared, and again when it is equal.
    const pullMark = 2 * todo.count - differing.count;
    const writeMark = leg.counters.metadataWrites;
    const hasMoved = this.#run !== run || this.#pullMark !== pullMark || this.#writeMark !== writeMark;
    this.#run = run;
    this.#pullMark = pullMark;
    this.#writeMark = writeMark;
    return hasMoved;
  }
}
