/**
 * How long a worker that is about to wait should let completions gather before it is woken for the first of them.
 *
 * A wake-up costs several microseconds, as much as handling a request. With many requests under way each of them
 * waits for others anyhow, so that a delay which is small beside the time a request takes costs nothing that anybody
 * sees, and saves wake-ups in every process of the chain. With few under way every delay shows: then none is made.
 *
 * The time a request takes follows from how many are under way and how many end a second (Little's law).
 *
 * @module
 */

/**
 * With fewer operations under way than this, nothing is delayed: the application waits for each of them before it sends the
 * next, so that what is saved in wake-ups is lost in rate.
 */
const FEW_OPERATIONS = 64;
/** What part of the time that an operation takes may be spent gathering. */
const DIVISOR = 32;
/** Shorter than this it is not worth the timer. */
const LEAST_US = 20;
const MOST_US = 1000;
/** How often the pace is measured. */
const WINDOW_MS = 5;

/** See the module's description. */
export class GatherTime {
  /** Operations that have ended so far. */
  endedCount = 0;
  #windowStartMs = 0;
  #windowCount = 0;
  #intervalUs = 0;

  /** An operation has ended. */
  note(): void {
    this.endedCount++;
    this.#windowCount++;
  }

  /** Microseconds to gather for, 0 for not at all. */
  us(nowMs: number, inFlightCount: number): number {
    const elapsedMs = nowMs - this.#windowStartMs;
    if (elapsedMs >= WINDOW_MS) {
      // A pause tells nothing of the pace.
      if (elapsedMs < 4 * WINDOW_MS && this.#windowCount > 0) this.#intervalUs = elapsedMs * 1000 / this.#windowCount;
      else this.#intervalUs = 0;
      this.#windowStartMs = nowMs;
      this.#windowCount = 0;
    }
    if (inFlightCount < FEW_OPERATIONS) return 0;
    const us = Math.min(MOST_US, inFlightCount * this.#intervalUs / DIVISOR) | 0;
    return us < LEAST_US ? 0 : us;
  }
}
