/**
 * The flushes that a client makes by itself: when one is due, whether one is under way, how the last one ended.
 *
 * They come at an interval, which is longer where flushes take long: many a disk does little else while it flushes. Not much
 * longer: a flush mostly takes the longer the more there is to flush, so that little is gained, and it has to be waited for when
 * a leg is dropped.
 *
 * @module
 */

const INTERVAL_MS = 2000;
/** The interval is this many times as long as a flush takes, */
const TIMES_AS_LONG = 16;
/** and at most this many times as long as it would be if flushes took no time. */
const MOST_STRETCH = 2.5;

/** One at a time. */
export class OwnFlush {
  readonly #leastIntervalMs: number;
  #intervalMs: number;
  /** What a flush takes. */
  #durationMs = 0;
  inFlight = false;
  /** A leg has asked for one. */
  isWanted = false;
  /** The one under way, or the last, was for a leg that had asked. */
  isForLeg = false;
  /** The last flush, of the client's own or of an application's, has failed on every leg. */
  hasFailed = false;
  /**
   * What was acknowledged may be lost, and no application has been told: one of the client's own has failed, of which many a disk tells once
   * only; or all legs have lost power since.
   */
  #isUntold = false;
  /** When the pool was served last, something was acknowledged and not flushed. */
  #hadUnflushed = false;
  /** Since it is served, one of its legs has surely held all that was acknowledged before. */
  #isSure = true;
  #lastMs = 0;

  constructor(intervalMs: number | undefined) {
    this.#leastIntervalMs = intervalMs ?? INTERVAL_MS;
    this.#intervalMs = this.#leastIntervalMs;
  }

  /** How long after the last one the next is due. */
  get intervalMs(): number {
    return this.#intervalMs;
  }

  isDue(nowMs: number): boolean {
    return !this.inFlight && (this.isWanted || nowMs - this.#lastMs >= this.#intervalMs);
  }

  begin(nowMs: number): void {
    this.inFlight = true;
    this.isForLeg = this.isWanted;
    this.isWanted = false;
    this.#lastMs = nowMs;
  }

  /** A flush has ended. `isOwn`: it was the client's. */
  ended(status: number, isOwn: boolean, nowMs: number): void {
    if (isOwn) {
      this.inFlight = false;
      // One that had little to flush was quick, which says little of the next: what was learnt fades slowly. But one that waited
      // until a silent leg was dropped is soon forgotten.
      const mostMs = MOST_STRETCH * this.#leastIntervalMs / TIMES_AS_LONG;
      this.#durationMs = Math.min(mostMs, Math.max(nowMs - this.#lastMs, this.#durationMs / 2));
      this.#intervalMs = Math.max(this.#leastIntervalMs, TIMES_AS_LONG * this.#durationMs);
    }
    if (isOwn || status === 0) this.hasFailed = status !== 0;
    if (isOwn && status !== 0) this.#isUntold = true;
  }

  /** What was acknowledged may be lost. */
  lost(): void {
    this.#isUntold = true;
  }

  /** The pool is not served any more. */
  suspended(hasUnflushed: boolean): void {
    this.#hadUnflushed = hasUnflushed;
  }

  /** It is again. */
  resumed(isSure: boolean): void {
    if (this.#hadUnflushed && !isSure) this.#isUntold = true;
    this.#hadUnflushed = false;
    this.#isSure = isSure;
  }

  /** The application is that of a client before this one, and knows of no loss. */
  tookOver(): void {
    if (!this.#isSure) this.#isUntold = true;
  }

  /** An application is told how its flush has ended. Whether it has to be told of a failure before it, of which nobody has heard. */
  takeUntold(): boolean {
    const wasUntold = this.#isUntold;
    this.#isUntold = false;
    return wasUntold;
  }

  /** A new session. */
  reset(nowMs: number): void {
    this.inFlight = false;
    this.isForLeg = false;
    this.isWanted = false;
    this.#lastMs = nowMs;
  }
}
