/**
 * The flushes that a client makes by itself: when one is due, whether one is under way, how the last one ended.
 *
 * They come at an interval, which is longer where flushes take long: many a disk does nothing else while it flushes, so that
 * they are kept to a small part of the time. What is gained on the one hand is unflushed for longer on the other, hence the
 * limit.
 *
 * @module
 */

const INTERVAL_MS = 2000;
/** The interval is this many times as long as a flush takes, */
const TIMES_AS_LONG = 32;
/** and at most this many times as long as it would be if flushes took no time. */
const MOST_STRETCH = 5;

/** One at a time. */
export class OwnFlush {
  readonly #leastIntervalMs: number;
  #intervalMs: number;
  /** What a flush takes. */
  #durationMs = 0;
  inFlight = false;
  /** A leg has asked for one. */
  isWanted = false;
  /** The last flush, of the client's own or of an application's, has failed on every leg. */
  hasFailed = false;
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
    this.isWanted = false;
    this.#lastMs = nowMs;
  }

  /** A flush has ended. `isOwn`: it was the client's. */
  ended(status: number, isOwn: boolean, nowMs: number): void {
    if (isOwn) {
      this.inFlight = false;
      // One that had little to flush was quick, which says little of the next: what was learnt fades slowly.
      this.#durationMs = Math.max(nowMs - this.#lastMs, this.#durationMs / 2);
      const intervalMs = Math.max(this.#leastIntervalMs, TIMES_AS_LONG * this.#durationMs);
      this.#intervalMs = Math.min(intervalMs, MOST_STRETCH * this.#leastIntervalMs);
    }
    if (isOwn || status === 0) this.hasFailed = status !== 0;
  }

  /** A new session. */
  reset(nowMs: number): void {
    this.inFlight = false;
    this.isWanted = false;
    this.#lastMs = nowMs;
  }
}
