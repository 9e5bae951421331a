/**
 * How long a pool has been waiting for legs to start from.
 *
 * What a leg has said when it greeted grows old: its record changes when other legs or another client deal with it, and nobody tells those
 * that have merely greeted. So while nothing can be decided the legs are asked again from time to time, all of them: a decision without
 * one that is being asked could ignore a history that it is known to hold.
 *
 * @module
 */

/** How long greetings are good for at first, and at most: each time twice as long. */
const FIRST_ROUND_MS = 5_000;
const MOST_ROUND_MS = 60_000;
/** How long to wait for the last legs when those at hand would do. */
const GRACE_MS = 1500;
/** How long to wait for legs without which the pool may not start, unless told otherwise. */
const DEFAULT_TIMEOUT_MS = 5_000;

/** See the module's description. */
export class AssemblyClock {
  readonly #timeoutMs: number;
  #overdueAtMs = 0;
  #roundStartedMs = 0;
  #roundMs = FIRST_ROUND_MS;
  #hasTold = false;

  constructor(timeoutMs: number | undefined) {
    this.#timeoutMs = timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  /** The pool begins to be assembled. */
  begin(nowMs: number): void {
    this.#overdueAtMs = nowMs + this.#timeoutMs;
    this.#roundStartedMs = nowMs;
    this.#roundMs = FIRST_ROUND_MS;
    this.#hasTold = false;
  }

  /** Whether it is time to say what is waited for: once. */
  tellsOfWaiting(): boolean {
    const isFirst = !this.#hasTold;
    this.#hasTold = true;
    return isFirst;
  }

  /** Whether legs that have not greeted are waited for no longer, if those at hand would do. */
  isGraceOver(nowMs: number): boolean {
    return nowMs - this.#roundStartedMs >= GRACE_MS;
  }

  /** Whether it has taken longer than whoever wants the pool is to wait. */
  isOverdue(nowMs: number): boolean {
    return nowMs >= this.#overdueAtMs;
  }

  /** Whether the legs are to be asked again now: then a new round has begun. */
  beginsAnew(nowMs: number): boolean {
    if (nowMs - this.#roundStartedMs < this.#roundMs) return false;
    this.#roundStartedMs = nowMs;
    this.#roundMs = Math.min(MOST_ROUND_MS, this.#roundMs * 2);
    return true;
  }
}
