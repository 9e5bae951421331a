/**
 * How long clients' reads and writes take at a leg's device: a running mean over short windows, measured by the driver and
 * passed in. It tells the resync throttle how deep the device's queue is.
 *
 * @module
 */

/** Length of a window: the throttle looks as often. */
const WINDOW_MS = 100;

/** The mean service time of one leg. */
export class ServiceTime {
  #windowStartMs: number;
  #sumMs = 0;
  #count = 0;
  #meanUs = 0;

  constructor(nowMs: number) {
    this.#windowStartMs = nowMs;
  }

  /** A client's read or write that ends now has taken so long at the device. */
  note(elapsedMs: number, nowMs: number): void {
    this.#roll(nowMs);
    this.#sumMs += elapsedMs;
    this.#count++;
  }

  /** Mean of the last whole window, in microseconds; 0 when nothing ended in it. */
  meanUs(nowMs: number): number {
    this.#roll(nowMs);
    return this.#meanUs;
  }

  // Windows end by the clock, whoever looks: what is told after a rest of the resync must not hold what was before it.
  #roll(nowMs: number): void {
    if (nowMs - this.#windowStartMs < WINDOW_MS) return;
    this.#meanUs = this.#count === 0 ? 0 : Math.round(this.#sumMs * 1000 / this.#count);
    this.#windowStartMs = nowMs;
    this.#sumMs = 0;
    this.#count = 0;
  }
}
