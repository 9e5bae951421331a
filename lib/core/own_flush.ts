/**
 * The flushes that a client makes by itself: when one is due, whether one is under way, how the last one ended.
 *
 * @module
 */

const INTERVAL_MS = 2000;

/** One at a time. */
export class OwnFlush {
  readonly #intervalMs: number;
  inFlight = false;
  /** A leg has asked for one. */
  isWanted = false;
  /** The last flush, of the client's own or of an application's, has failed on every leg. */
  hasFailed = false;
  #lastMs = 0;

  constructor(intervalMs: number | undefined) {
    this.#intervalMs = intervalMs ?? INTERVAL_MS;
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
  ended(status: number, isOwn: boolean): void {
    if (isOwn) this.inFlight = false;
    if (isOwn || status === 0) this.hasFailed = status !== 0;
  }

  /** A new session. */
  reset(nowMs: number): void {
    this.inFlight = false;
    this.isWanted = false;
    this.#lastMs = nowMs;
  }
}
