/**
 * Making progress stick: what is good here is flushed, then told to every source (CLEAR), batch by batch, so that a crash repeats
 * little. One batch is under way at a time.
 *
 * @module
 */

import { SparseBitmap } from "../base/sparse_bitmap.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import { MessageType } from "../wire/message.ts";
import { runsFrom } from "./chunk_runs.ts";
import { OperationKind } from "./operation_table.ts";
import { OutputKind } from "./output.ts";
import type { ResyncJob } from "./resync_job.ts";

/** A batch is due after this time or amount. */
const CLEAR_INTERVAL_MS = 1000;
const CLEAR_BYTES = 64 * 1024 * 1024;

/** Flushes and clears of one leg's resync. */
export class ResyncClear {
  readonly #job: ResyncJob;
  /** The batch under way, and after which write there is nothing in its data. */
  #clearing: SparseBitmap;
  #clearingSequence = 0;
  #flushOperation = -1;
  /** Whether the batch under way, or the one that ended last, was begun as the last one. */
  #isLast = false;
  /** CLEARs that each source has not answered, by leg index. */
  readonly #unanswered = new Uint32Array(MAX_LEGS);
  #lastMs = 0;

  constructor(job: ResyncJob) {
    this.#job = job;
    this.#clearing = new SparseBitmap(job.leg.chunkCount);
  }

  /** A new resync begins, or one ends: nothing is under way. */
  reset(): void {
    this.#clearing.clearAll();
    this.#flushOperation = -1;
    this.#isLast = false;
    this.#unanswered.fill(0);
    this.#lastMs = this.#job.leg.nowMs;
  }

  /** Starts a batch if one is due; with `isLast`, which says that all is on the disk but for a flush, in any case. */
  maybeStart(isLast: boolean): void {
    const job = this.#job;
    const { leg } = job;
    if (this.#flushOperation >= 0 || this.#isUnanswered) return;
    const isDue = leg.nowMs - this.#lastMs >= CLEAR_INTERVAL_MS || job.cleaned.count * leg.chunkBytes >= CLEAR_BYTES;
    if (!isLast && (!isDue || job.cleaned.count === 0)) return;
    const operation = leg.operations.allocate(OperationKind.RESYNC_FLUSH, -1, 0, 0);
    if (operation < 0) return;
    leg.operations.session[operation] = job.run;
    job.busyOperations++;
    this.#flushOperation = operation;
    this.#isLast = isLast;
    const empty = this.#clearing;
    this.#clearing = job.cleaned;
    this.#clearingSequence = leg.pulledSequence;
    job.cleaned = empty;
    this.#lastMs = leg.nowMs;
    leg.outputs.push(OutputKind.DISK_FLUSH).token = operation;
  }

  /** There is more to be put on the disk: what is under way is not the last batch. */
  expectMore(): void {
    this.#isLast = false;
  }

  /** Whether the batch that has ended was the last one: one that was begun before cannot vouch for what has been written since. */
  get isLast(): boolean {
    return this.#isLast;
  }

  /** Whether `operation` is the flush of the batch under way. */
  isFlush(operation: number): boolean {
    return operation === this.#flushOperation;
  }

  /** The flush is done. Returns whether the batch is over. */
  flushed(): boolean {
    const job = this.#job;
    this.#flushOperation = -1;
    if (job.mode === "dirty" && this.#clearing.count > 0) {
      for (const index of job.sources) if (job.links.isUp(index)) this.#tell(index);
    }
    return this.#endIfDone();
  }

  /** Source `legIndex` has answered a CLEAR. Returns whether the batch is over by it. */
  handleAck(legIndex: number): boolean {
    if (this.#unanswered[legIndex] === 0) return false;
    this.#unanswered[legIndex]--;
    return this.#endIfDone();
  }

  /** A source is gone: what it has not been told stays dirty there, which costs no more than time. Returns whether a batch ends by it. */
  sourceLost(legIndex: number): boolean {
    if (this.#unanswered[legIndex] === 0) return false;
    this.#unanswered[legIndex] = 0;
    return this.#endIfDone();
  }

  get #isUnanswered(): boolean {
    return this.#unanswered.some((count) => count > 0);
  }

  #endIfDone(): boolean {
    if (this.#isUnanswered) return false;
    this.#clearing.clearAll();
    return true;
  }

  #tell(source: number): void {
    const { leg, links, pulls, session } = this.#job;
    const connection = links.connectionOf(source);
    for (let from = 0; from >= 0;) {
      const { runs, next } = runsFrom(this.#clearing, from);
      from = next;
      const output = leg.send(connection, MessageType.CLEAR, pulls.nextRequestId());
      output.message.legIndex = leg.legIndex;
      output.message.resyncSession = session;
      output.message.watermark = this.#clearingSequence;
      output.body = runs;
      this.#unanswered[source]++;
    }
  }
}
