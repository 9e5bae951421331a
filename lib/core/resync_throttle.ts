/**
 * How fast a resync may go: at full speed while the client is quiet, and at a share of the client's own traffic while it is
 * busy. The share follows what the client feels: it grows while the client's I/O takes about as long as without resync, and
 * shrinks when it takes longer, at this leg or at the source. An operator's limit caps all of it.
 *
 * allowed bytes per second = max(floor, share × foreground bytes per second), as a token bucket.
 *
 * The control law is that of congestion control, additive increase and multiplicative decrease (AIMD), once a sample. What I/O
 * takes without resync cannot be known while there is resync, so every few seconds the resync rests for a moment, and the
 * second half of that rest is the measure (its first half drains what is on the way). Between the bounds of the share
 * both goals hold whatever is measured: the resync goes on, and the client keeps most of its rate.
 *
 * Pure: time and measurements are passed in.
 *
 * @module
 */

/** Bounds of the part of the foreground's traffic that resync may add, and where it begins. */
const LEAST_SHARE = 0.36;
const MOST_SHARE = 1;
const FIRST_SHARE = 0.42;
/** Additive increase and multiplicative decrease, once a sample. */
const SHARE_STEP = 0.02;
const SHARE_FACTOR = 0.8;
/** I/O may take so much longer than without resync. A closed loop of requests then keeps 1 / 1.25 = 80 % of its rate. */
const LATENCY_BOUND = 1.25;
/** Less than this, in microseconds, is the scatter of timers and not a queue. */
const LATENCY_SLACK_US = 50;
/** Never slower than this, or a resync under a trickle of tiny writes would take for ever. Bytes per second. */
const FLOOR_BYTES_PER_SECOND = 8 * 1024 * 1024;
/** The client is quiet when it has sent nothing for this long. */
const QUIET_AFTER_MS = 200;
/** How often the foreground's rate is measured. */
const SAMPLE_MS = 100;
/** Tokens that may pile up, in milliseconds of the allowed rate. */
const BURST_MS = 50;
/** How often, and for how long, the resync of a busy pool rests: 3 % of the time. */
const REST_EVERY_MS = 8_000;
const REST_MS = 250;
/** The first rest comes sooner, but not for a client that does a little and is done, or a resync that is over in a moment. */
const FIRST_REST_AFTER_MS = 1_000;

/** What clients have done so far at one leg. Counts only grow; where a leg begins anew they start over. */
export interface ForegroundCount {
  /** Bytes read and written. */
  readonly bytes: number;
  /** Mean time of a read or write at the device, in microseconds, lately; 0 when unknown. */
  readonly serviceUs: number;
}

/** How long I/O takes at one leg while the resync rests, and whether it takes too long now. */
class Latency {
  #baselineUs = 0;

  /** @returns whether `serviceUs` is beyond the bound; never so before a baseline is known. */
  isTooLong(serviceUs: number): boolean {
    return this.#baselineUs > 0 && serviceUs > this.#baselineUs * LATENCY_BOUND + LATENCY_SLACK_US;
  }

  /** Measured while the resync rests. */
  rest(serviceUs: number): void {
    if (serviceUs > 0) this.#baselineUs = serviceUs;
  }

  forget(): void {
    this.#baselineUs = 0;
  }
}

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
  #share = FIRST_SHARE;
  #restStartMs = -Infinity;
  /** A rest is under way or just over, and the source has not told yet what I/O took meanwhile. */
  #awaitsSource = false;
  #ownIsMeasured = false;
  readonly #own = new Latency();
  readonly #source = new Latency();

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

  /** The part of the foreground's traffic that resync may add now. */
  get share(): number {
    return this.#share;
  }

  /**
   * What the foreground has done so far at this leg, and at the source. Call at every tick. Every write passes both, reads only the
   * source: what counts is the busier one, and the slower one.
   */
  observe(nowMs: number, own: ForegroundCount, source: ForegroundCount): void {
    const elapsedMs = nowMs - this.#sampledMs;
    if (elapsedMs < SAMPLE_MS) return;
    const restedMs = nowMs - this.#restStartMs;
    // The first sample of a rest still has what was on the way, and one that ends late has what came after.
    if (restedMs >= 2 * SAMPLE_MS && restedMs < REST_MS + SAMPLE_MS / 2 && !this.#ownIsMeasured) {
      this.#ownIsMeasured = true;
      this.#own.rest(own.serviceUs);
    }
    // The source tells with what is pulled from it: while nothing is, its silence says nothing.
    if (restedMs < REST_MS) return;
    // The source may have changed, or not have told yet: then its count starts over.
    const isSameSource = this.#sampledSourceBytes > 0 && source.bytes >= this.#sampledSourceBytes;
    const movedAtSource = isSameSource ? source.bytes - this.#sampledSourceBytes : 0;
    if (!isSameSource) this.#source.forget();
    const moved = Math.max(own.bytes - this.#sampledBytes, movedAtSource);
    this.#foregroundBytesPerSecond = this.#foregroundBytesPerSecond * 0.6 + (moved * 1000 / elapsedMs) * 0.4;
    this.#sampledMs = nowMs;
    this.#sampledBytes = own.bytes;
    this.#sampledSourceBytes = source.bytes;
    const wasQuiet = this.#isQuiet(nowMs);
    if (moved > 0) this.#lastForegroundMs = nowMs;
    if (wasQuiet && moved > 0) this.#becomesBusy(nowMs);
    else if (this.#awaitsSource) {
      // Its first answer after a rest tells of the rest.
      this.#awaitsSource = false;
      if (movedAtSource > 0) this.#source.rest(source.serviceUs);
    } else if (!this.#isQuiet(nowMs)) this.#control(nowMs, own.serviceUs, source.serviceUs);
  }

  /** Bytes per second allowed now; Infinity when nothing limits. */
  rate(nowMs: number): number {
    const adaptive = this.#isQuiet(nowMs)
      ? Infinity
      : Math.max(FLOOR_BYTES_PER_SECOND, this.#share * this.#foregroundBytesPerSecond);
    return this.#limit > 0 ? Math.min(this.#limit, adaptive) : adaptive;
  }

  /** Whether a transfer may start now. */
  mayStart(nowMs: number): boolean {
    if (this.#isResting(nowMs)) return false;
    const rate = this.rate(nowMs);
    if (rate === Infinity) {
      // What is moved at full speed is not held against it when there is a limit again: a transfer may start at once then.
      this.#tokens = 1;
      this.#refilledMs = nowMs;
      return true;
    }
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
    if (this.#isResting(nowMs)) return Math.max(1, this.#restStartMs + REST_MS - nowMs);
    const rate = this.rate(nowMs);
    return rate === Infinity ? 0 : Math.max(1, -this.#tokens * 1000 / rate);
  }

  #isQuiet(nowMs: number): boolean {
    return nowMs - this.#lastForegroundMs > QUIET_AFTER_MS;
  }

  #isResting(nowMs: number): boolean {
    return nowMs - this.#restStartMs < REST_MS;
  }

  /** Another kind of work may have begun: what was learnt of the former one is of no use. */
  #becomesBusy(nowMs: number): void {
    this.#own.forget();
    this.#source.forget();
    this.#share = FIRST_SHARE;
    // What was moved before is not held against it either.
    this.#tokens = 1;
    this.#refilledMs = nowMs;
    this.#restStartMs = nowMs + FIRST_REST_AFTER_MS - REST_EVERY_MS;
    this.#awaitsSource = false;
  }

  #rest(nowMs: number): void {
    this.#restStartMs = nowMs;
    this.#awaitsSource = true;
    this.#ownIsMeasured = false;
    // No news come meanwhile: until the first after the rest the client counts as busy.
    this.#lastForegroundMs = nowMs + REST_MS;
  }

  #control(nowMs: number, ownUs: number, sourceUs: number): void {
    if (this.#own.isTooLong(ownUs) || this.#source.isTooLong(sourceUs)) {
      this.#share = Math.max(LEAST_SHARE, this.#share * SHARE_FACTOR);
    } else this.#share = Math.min(MOST_SHARE, this.#share + SHARE_STEP);
    if (nowMs - this.#restStartMs >= REST_EVERY_MS) this.#rest(nowMs);
  }
}
