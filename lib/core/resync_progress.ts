/**
 * Counts what a resync has moved, and how fast lately.
 *
 * @module
 */

const SAMPLE_MS = 250;

/** Progress of one resync. */
export class ResyncProgress {
  /** Bytes missing when it began. */
  total = 0;
  copied = 0;
  skipped = 0;
  #rate = 0;
  #sampledMs: number;
  #sampledBytes = 0;

  constructor(nowMs: number) {
    this.#sampledMs = nowMs;
  }

  /** Time passes. */
  tick(nowMs: number): void {
    const elapsedMs = nowMs - this.#sampledMs;
    if (elapsedMs < SAMPLE_MS) return;
    const done = this.copied + this.skipped;
    const rate = Math.max(0, done - this.#sampledBytes) * 1000 / elapsedMs;
    this.#rate = this.#rate === 0 ? rate : this.#rate * 0.7 + rate * 0.3;
    this.#sampledMs = nowMs;
    this.#sampledBytes = done;
  }

  get rateBytesPerSecond(): number {
    return Math.round(this.#rate);
  }
}
