/**
 * How fast a resync may go: at full speed while the client is quiet, and at a share of the client's own traffic while it is
 * busy, so that the foreground keeps its rate. An operator's limit caps both.
 *
 * The share follows what clients do at this leg and at the source: allowed bytes per second =
 * max(floor, share × foreground bytes per second). It is a token bucket; time is passed in.
 *
 * @module
 */

/** Part of the foreground's traffic that resync may add while there is any. */
const BUSY_SHARE = 0.42;
/** Never slower than this, or a resync under a trickle of tiny writes would take for ever. Bytes per second. */
const FLOOR_BYTES_PER_SECOND = 8 * 1024 * 1024;
/** The client is quiet when it has sent nothing for this long. */
const QUIET_AFTER_MS = 200;
/** How often the foreground's rate is measured. */
const SAMPLE_MS = 100;
/** Tokens that may pile up, in milliseconds of the allowed rate. */
const BURST_MS = 50;

/** A token bucket whose rate follows the foreground. */
export class ResyncThrottle {
  #limit = 0;
  #tokens = 0;
  #refilledMs: number;
  #sampledMs: number;
  #sampledBytes = 0;
  #sampledSourceBytes = 0;
  #foregroundBytesPerSecond = 0;
  #lastForegroundMs = -Infinity;

  constructor(nowMs: number) {
    this.#refilledMs = nowMs;
    this.#sampledMs = nowMs;
  }

  /** The operator's limit in bytes per second; 0 for none. */
  set limitBytesPerSecond(limit: number) {
    this.#limit = limit;
  }

  get limitBytesPerSecond(): number {
    return this.#limit;
  }

  /**
   * The foreground has moved so many bytes so far at this leg, and at the source. Call at every tick. Every write passes both, reads
   * only the source: what counts is the busier one.
   */
  observe(nowMs: number, ownBytes: number, sourceBytes: number): void {
    const elapsedMs = nowMs - this.#sampledMs;
    if (elapsedMs < SAMPLE_MS) return;
    // The source may have changed, or not have told yet: then its count starts over.
    const isSameSource = this.#sampledSourceBytes > 0 && sourceBytes >= this.#sampledSourceBytes;
    const movedAtSource = isSameSource ? sourceBytes - this.#sampledSourceBytes : 0;
    const moved = Math.max(ownBytes - this.#sampledBytes, movedAtSource);
    if (moved > 0) this.#lastForegroundMs = nowMs;
    this.#foregroundBytesPerSecond = this.#foregroundBytesPerSecond * 0.6 + (moved * 1000 / elapsedMs) * 0.4;
    this.#sampledMs = nowMs;
    this.#sampledBytes = ownBytes;
    this.#sampledSourceBytes = sourceBytes;
  }

  /** Bytes per second allowed now; Infinity when nothing limits. */
  rate(nowMs: number): number {
    const isQuiet = nowMs - this.#lastForegroundMs > QUIET_AFTER_MS;
    const adaptive = isQuiet ? Infinity : Math.max(FLOOR_BYTES_PER_SECOND, BUSY_SHARE * this.#foregroundBytesPerSecond);
    return this.#limit > 0 ? Math.min(this.#limit, adaptive) : adaptive;
  }

  /** Whether a transfer may start now. */
  mayStart(nowMs: number): boolean {
    const rate = this.rate(nowMs);
    if (rate === Infinity) return true;
    const burst = rate * BURST_MS / 1000;
    this.#tokens = Math.min(burst, this.#tokens + rate * (nowMs - this.#refilledMs) / 1000);
    this.#refilledMs = nowMs;
    return this.#tokens > 0;
  }

  /** A transfer of `bytes` starts. The bucket may go below zero: then the next one waits accordingly. */
  spend(bytes: number): void {
    this.#tokens -= bytes;
  }

  /** Milliseconds until `mayStart` can be true, given that it was false just now. */
  waitMs(nowMs: number): number {
    const rate = this.rate(nowMs);
    return rate === Infinity ? 0 : Math.max(1, -this.#tokens * 1000 / rate);
  }
}
