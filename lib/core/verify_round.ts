/**
 * Verify: the in-sync legs compared with each other, range by range, while the pool is in use.
 *
 * A range is locked against writes as a reader would lock it, so every leg has done the same writes to it; each in-sync leg then
 * hashes it chunk by chunk. Where they differ, what most legs have is taken for right, or, where no more than one other would have to
 * agree, what the first in-sync leg has. With repair, and still under the lock, that leg's data is read and written to all legs by an
 * ordinary write. A range that a leg cannot read is gone through chunk by chunk; a chunk that it cannot read counts as different.
 *
 * One range at a time is locked, for as long as the legs take to read it; a rate limit leaves pauses in between. What the legs have said
 * holds for the record under which they were asked: a leg that has left the set and is back may have fetched what it has now from the one
 * that differed. This file has the order of things and the account; client_io.ts has the requests.
 *
 * @module
 */

import type { ClientContext } from "./client_context.ts";
import { OutputKind } from "./output.ts";
import type { VerifyDifference, VerifySnapshot } from "./snapshot.ts";
import { bitCount, indicesOf } from "./start_rule.ts";

/** Bytes compared under one lock: one read of a leg. */
const RANGE_BYTES = 1 << 20;
/** Differences told one by one; more are only counted. */
const MOST_TOLD = 256;
/** A leg that says "not now" (the pool is changing) is asked again after this long. */
const AGAIN_MS = 100;
const ESTALE = -116;
const EAGAIN = -11;
const EINVAL = -22;

/** What a verify asks of the requests. */
export interface VerifyIo {
  /** Locks a range, then has it hashed by every in-sync leg. `compared` follows, or `aborted`. */
  compare(offset: number, lengthBytes: number): void;
  /** Under the lock of `compare`: copies a range from one leg to all, through `slot`. `repairDone` follows, or `aborted`. */
  copy(offset: number, lengthBytes: number, legIndex: number, slot: number): void;
  /** Lets the lock go. */
  unlock(): void;
}

/** Chunks of the locked range that want repair. */
interface Run {
  readonly offset: number;
  lengthBytes: number;
  readonly source: number;
  readonly difference: VerifyDifference;
}

/** One verify, or none. */
export class VerifyRound {
  readonly #pool: ClientContext;
  readonly #io: VerifyIo;
  #state: VerifySnapshot["state"] = "off";
  #message = "";
  #repair = false;
  #rate = 0;
  #allowance = 0;
  #lastMs = 0;
  #cursor = 0;
  /** Up to here chunk by chunk, since a leg could not read the range as a whole. */
  #fineUntil = 0;
  #waitUntilMs = 0;
  #isBusy = false;
  /** Whether the range under way is of a verify that was stopped before this one began. */
  #isLeftOver = false;
  readonly #hashes: (Uint32Array | null)[] = [];
  readonly #statuses: number[] = [];
  #answeredMask = 0;
  #rangeBytes = 0;
  #rangeEpoch = 0;
  #runs: Run[] = [];
  #slot = -1;
  #wantsSlot = false;
  #comparedMask = 0;
  /** The first ones, and the last, which may yet grow. */
  #differences: VerifyDifference[] = [];
  #last: VerifyDifference | null = null;
  #counts = { verifiedBytes: 0, differingBytes: 0, unreadableBytes: 0, repairedBytes: 0, lostBytes: 0, differences: 0 };

  constructor(pool: ClientContext, io: VerifyIo) {
    this.#pool = pool;
    this.#io = io;
  }

  /** Begins. Returns why it cannot, or "". `rateBytesPerSecond` 0: no limit. */
  start(repair: boolean, rateBytesPerSecond: number): string {
    if (this.#state === "running") return "A verify of this pool is running already";
    const pool = this.#pool;
    if (pool.phase !== "ready") return `The pool is not being served now (${pool.phase})`;
    if (bitCount(pool.inSyncMask & ~pool.lostMask) < 2) return "Fewer than two legs are in sync: nothing to compare";
    this.#state = "running";
    this.#message = "";
    this.#repair = repair;
    this.#rate = rateBytesPerSecond;
    this.#allowance = RANGE_BYTES;
    this.#lastMs = pool.nowMs;
    this.#cursor = 0;
    this.#fineUntil = 0;
    this.#waitUntilMs = 0;
    this.#comparedMask = 0;
    this.#isLeftOver = this.#isBusy;
    if (this.#wantsSlot) this.#giveUp();
    this.#differences = [];
    this.#last = null;
    this.#counts = {
      verifiedBytes: 0,
      differingBytes: 0,
      unreadableBytes: 0,
      repairedBytes: 0,
      lostBytes: 0,
      differences: 0,
    };
    pool.event("info", "verify-started", `The in-sync legs are compared${repair ? ", and repaired" : ""}`);
    this.pump();
    return "";
  }

  /** Ends it after the range under way. */
  stop(): void {
    if (this.#state === "running") this.#finish("stopped", "It was stopped");
  }

  /** Whether a range is locked or about to be. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  get isRunning(): boolean {
    return this.#state === "running";
  }

  /** Whether the set of legs is still the one that compared the range under way. */
  get isOfThisEpoch(): boolean {
    return this.#pool.record?.epoch === this.#rangeEpoch;
  }

  /** Starts the next range when it is time. */
  pump(): void {
    const pool = this.#pool;
    if (this.#wantsSlot) this.#askSlot();
    if (this.#state !== "running" || this.#isBusy || pool.phase !== "ready" || pool.nowMs < this.#waitUntilMs) return;
    if (pool.lostMask !== 0) return;
    if (this.#cursor >= pool.options.sizeBytes) return this.#finish("done", "");
    if (bitCount(pool.inSyncMask) < 2) return this.#finish("failed", "Fewer than two legs are in sync");
    if (this.#rate > 0) {
      const most = Math.max(RANGE_BYTES, this.#rate / 4);
      this.#allowance = Math.min(most, this.#allowance + this.#rate * (pool.nowMs - this.#lastMs) / 1000);
      this.#lastMs = pool.nowMs;
      if (this.#allowance <= 0) return;
    }
    const chunkBytes = this.#chunkBytes;
    const rangeBytes = Math.min(RANGE_BYTES, pool.maxPayloadBytes);
    const wanted = this.#cursor < this.#fineUntil ? chunkBytes : rangeBytes - this.#cursor % rangeBytes;
    this.#rangeBytes = Math.min(wanted, pool.options.sizeBytes - this.#cursor);
    this.#rangeEpoch = pool.record?.epoch ?? 0;
    this.#allowance -= this.#rangeBytes;
    this.#answeredMask = 0;
    this.#isBusy = true;
    this.#io.compare(this.#cursor, this.#rangeBytes);
  }

  /** A leg has hashed the range, or could not. */
  answered(legIndex: number, status: number, words: Uint32Array | null): void {
    this.#answeredMask |= 1 << legIndex;
    this.#hashes[legIndex] = words;
    const expected = 2 * Math.ceil(this.#rangeBytes / this.#chunkBytes);
    this.#statuses[legIndex] = status === 0 && words?.length !== expected ? EINVAL : status;
  }

  /** All legs that are still in the set have answered. */
  compared(): void {
    const answered = indicesOf(this.#answeredMask & this.#pool.inSyncMask & ~this.#pool.lostMask);
    const isChanging = (status: number) => status === ESTALE || status === EAGAIN || status === EINVAL;
    const good = answered.filter((index) => this.#statuses[index] === 0);
    const bad = answered.filter((index) => this.#statuses[index] !== 0);
    const hasChanged = bad.some((index) => isChanging(this.#statuses[index]));
    if (answered.length < 2 || hasChanged || !this.isOfThisEpoch || this.#isLeftOver) return this.#giveUp();
    for (const index of answered) this.#comparedMask |= 1 << index;
    if (bad.length > 0 && this.#rangeBytes > this.#chunkBytes) {
      this.#fineUntil = this.#cursor + this.#rangeBytes;
      this.#isBusy = false;
      this.#io.unlock();
      return;
    }
    this.#runs = [];
    this.#judge(good, bad);
    if (this.#runs.length === 0) this.#rangeDone();
    else this.#askSlot();
  }

  /** A buffer for repair, or -1 while there is none. */
  handleSlot(slot: number): void {
    if (slot < 0) return;
    if (!this.#wantsSlot) {
      this.#pool.outputs.push(OutputKind.FREE_SLOT).slot = slot;
      return;
    }
    this.#wantsSlot = false;
    this.#slot = slot;
    const run = this.#runs[0];
    this.#io.copy(run.offset, run.lengthBytes, run.source, slot);
  }

  /** A run has been written to all legs (status 0), or could not be read. */
  repairDone(status: number): void {
    this.#freeSlot();
    const run = this.#runs.shift() as Run;
    if (status === 0) {
      if (!this.#isLeftOver) this.#counts.repairedBytes += run.lengthBytes;
      run.difference.isRepaired = true;
      this.#pool.event(
        "warning",
        "verify-repaired",
        `${run.lengthBytes} bytes at ${run.offset} are repaired from leg ${run.source}`,
      );
    } else {
      this.#pool.event(
        "error",
        "verify-repair-failed",
        `${run.lengthBytes} bytes at ${run.offset} are not repaired (${status})`,
      );
    }
    if (this.#isLeftOver) this.#giveUp();
    else if (this.#runs.length > 0) this.#askSlot();
    else this.#rangeDone();
  }

  /** The lock is lost: the pool is being assembled anew. The range is gone through again. */
  aborted(): void {
    this.#isBusy = false;
    this.#isLeftOver = false;
    this.#runs = [];
    this.#wantsSlot = false;
    this.#freeSlot();
  }

  snapshot(): VerifySnapshot {
    return {
      state: this.#state,
      message: this.#message,
      isRepairing: this.#repair,
      rateBytesPerSecond: this.#rate,
      totalBytes: this.#pool.options.sizeBytes,
      comparedMask: this.#comparedMask,
      ...this.#counts,
      told: this.#differences.map((difference) => ({ ...difference })),
    };
  }

  /** The range under way is let go, and gone through again in a while. */
  #giveUp(): void {
    this.aborted();
    this.#waitUntilMs = this.#pool.nowMs + AGAIN_MS;
    this.#io.unlock();
  }

  get #chunkBytes(): number {
    return this.#pool.options.chunkBytes ?? 4096;
  }

  #askSlot(): void {
    this.#wantsSlot = true;
    const output = this.#pool.outputs.push(OutputKind.WANT_SLOT);
    output.lengthBytes = this.#runs[0].lengthBytes;
  }

  #freeSlot(): void {
    if (this.#slot >= 0) this.#pool.outputs.push(OutputKind.FREE_SLOT).slot = this.#slot;
    this.#slot = -1;
  }

  #rangeDone(): void {
    this.#counts.verifiedBytes += this.#rangeBytes;
    this.#cursor += this.#rangeBytes;
    this.#isBusy = false;
    this.#io.unlock();
  }

  /** Compares chunk by chunk; neighbours that differ alike become one run. */
  #judge(good: readonly number[], bad: readonly number[]): void {
    const chunkBytes = this.#chunkBytes;
    let badMask = 0;
    for (const index of bad) badMask |= 1 << index;
    for (let at = 0, chunk = 0; at < this.#rangeBytes; at += chunkBytes, chunk++) {
      const lengthBytes = Math.min(chunkBytes, this.#rangeBytes - at);
      const offset = this.#cursor + at;
      if (good.length === 0) {
        this.#counts.lostBytes += lengthBytes;
        this.#note(offset, lengthBytes, badMask, -1, false, true);
        continue;
      }
      const votes = good.map((index) => good.filter((other) => this.#isEqual(index, other, chunk)).length);
      const most = Math.max(...votes);
      const source = good[votes.indexOf(most)];
      let differingMask = 0;
      for (const index of good) if (!this.#isEqual(index, source, chunk)) differingMask |= 1 << index;
      if (differingMask === 0 && badMask === 0) continue;
      if (differingMask !== 0) this.#counts.differingBytes += lengthBytes;
      if (badMask !== 0) this.#counts.unreadableBytes += lengthBytes;
      const isMajority = most * 2 > good.length && good.length > 2;
      this.#note(offset, lengthBytes, differingMask | badMask, source, isMajority, differingMask === 0);
    }
  }

  /** A difference that begins: the first ones are told one by one, all are counted. */
  #tell(difference: VerifyDifference): void {
    this.#last = difference;
    this.#counts.differences++;
    if (this.#differences.length >= MOST_TOLD) return;
    this.#differences.push(difference);
    const { offset, legMask, isUnreadable, sourceLegIndex } = difference;
    this.#pool.event(
      "error",
      "verify-difference",
      `From ${offset} on, ${indicesOf(legMask).map((index) => `leg ${index}`).join(" and ")} ` +
        (isUnreadable ? "cannot be read" : `differ${bitCount(legMask) === 1 ? "s" : ""} from leg ${sourceLegIndex}`),
    );
  }

  #note(
    offset: number,
    lengthBytes: number,
    legMask: number,
    source: number,
    isMajority: boolean,
    isUnreadable: boolean,
  ): void {
    const last = this.#last;
    const isSame = last !== null && last.offset + last.lengthBytes === offset && last.legMask === legMask &&
      last.sourceLegIndex === source && last.isUnreadable === isUnreadable && last.isMajority === isMajority &&
      !last.isRepaired;
    let difference: VerifyDifference;
    if (isSame) {
      last.lengthBytes += lengthBytes;
      difference = last;
    } else {
      difference = {
        offset,
        lengthBytes,
        legMask,
        sourceLegIndex: source,
        isMajority,
        isUnreadable,
        isRepaired: false,
      };
      this.#tell(difference);
    }
    if (!this.#repair || source < 0) return;
    const run = this.#runs.at(-1);
    if (run !== undefined && run.offset + run.lengthBytes === offset && run.source === source) {
      if (run.difference === difference) {
        run.lengthBytes += lengthBytes;
        return;
      }
    }
    this.#runs.push({ offset, lengthBytes, source, difference });
  }

  #isEqual(a: number, b: number, chunk: number): boolean {
    const [left, right] = [this.#hashes[a] as Uint32Array, this.#hashes[b] as Uint32Array];
    return left[2 * chunk] === right[2 * chunk] && left[2 * chunk + 1] === right[2 * chunk + 1];
  }

  #finish(state: VerifySnapshot["state"], message: string): void {
    this.#state = state;
    this.#message = message;
    const { differences, repairedBytes } = this.#counts;
    this.#pool.event(
      state === "done" && differences === 0 ? "info" : "warning",
      "verify-ended",
      `The verify is ${state}${
        message === "" ? "" : ` (${message})`
      }: ${differences} differences, ${repairedBytes} bytes repaired`,
    );
  }
}

/** Of who has never compared anything. */
export const NO_VERIFY: VerifySnapshot = {
  state: "off",
  message: "",
  isRepairing: false,
  rateBytesPerSecond: 0,
  totalBytes: 0,
  verifiedBytes: 0,
  comparedMask: 0,
  differingBytes: 0,
  unreadableBytes: 0,
  repairedBytes: 0,
  lostBytes: 0,
  differences: 0,
  told: [],
};
