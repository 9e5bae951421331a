/**
 * What an application may see: a linearizability checker for every 512-byte sector, on line.
 *
 * Each sector keeps the writes whose value it may hold. All times here are ticks of a logical clock that advances with
 * every invocation and response, so that "before" is never in doubt. For a write e of a sector:
 *
 * - `certain`: e has taken effect by then (it was acked, or a read that ended then returned it);
 * - `dead`: no read that begins after then may return e;
 * - `covered`: by then e was certainly overwritten by an acked write, so a flush that begins later makes e's loss of
 *   force durable; `coverInvoke` is when the latest such write was invoked.
 *
 * Rule of writes: when x is acked, every e with `certain` before x's invocation is dead. Rule of reads: when a read R
 * returns x, every e with `certain` before R's invocation, or before x's, is dead: e took effect before R's moment, at which
 * the value was x, and a write takes effect once. A write that was never acked stays possible until one of the rules ends
 * it. Both rules only ever end what cannot be the value any more, so a complaint is never false.
 *
 * When all copies that hold unflushed data lost power, what a flush has not covered may come back: `losePower`.
 *
 * @module
 */

import { Violation } from "./violation.ts";

const NEVER = Infinity;
const NOTHING: ReadonlySet<number> = new Set();

/** What a checker knows, to go back to. */
export interface OracleState {
  readonly sectorCount: number;
  readonly head: Int32Array;
  readonly entries: readonly (Int32Array | Float64Array | Uint8Array)[];
  readonly spare: number;
  readonly used: number;
  readonly busy: readonly number[];
  readonly taintedAt: number;
}

/** The checker of one pool. Memory is kept from world to world. */
export class Oracle {
  sectorCount = 0;
  /** Logical clock. */
  clock = 0;
  /** Linked lists of entries; index 0 is "none". */
  #head = new Int32Array(0);
  #next = new Int32Array(1024);
  /** Not 32 bits: a long run writes more than two billion sectors. */
  #value = new Float64Array(1024);
  #invoke = new Float64Array(1024);
  #certain = new Float64Array(1024);
  #acked = new Uint8Array(1024);
  #dead = new Float64Array(1024);
  #covered = new Float64Array(1024);
  #coverInvoke = new Float64Array(1024);
  #spare = 0;
  #used = 1;
  /** Sectors with more than one entry, roughly. */
  #busy: number[] = [];
  #isBusy = new Uint8Array(0);
  /** A flush failed at this time: writes invoked before are promised to nobody. */
  #taintedAt = -1;

  /** A fresh pool, all zeroes. */
  reset(sectorCount: number): void {
    if (this.#head.length < sectorCount) {
      this.#head = new Int32Array(sectorCount);
      this.#isBusy = new Uint8Array(sectorCount);
    }
    this.sectorCount = sectorCount;
    this.#head.fill(0);
    this.#isBusy.fill(0);
    this.#busy.length = 0;
    this.#spare = 0;
    this.#used = 1;
    this.clock = 1;
    this.#taintedAt = -1;
    for (let sector = 0; sector < sectorCount; sector++) this.#addCertain(sector, 0);
  }

  /** Tick at which the oldest read began that is still without an answer: it may return what was over only after that. */
  oldestRead = NEVER;

  /** The next tick. */
  tick(): number {
    return ++this.clock;
  }

  /** A write begins at tick `invoke`: sector i will hold `firstValue + i`, or zero when `firstValue` is 0. */
  beginWrite(firstSector: number, sectorCount: number, firstValue: number, invoke: number): void {
    for (let i = 0; i < sectorCount; i++) {
      this.#add(firstSector + i, firstValue === 0 ? 0 : firstValue + i, invoke);
      this.#markBusy(firstSector + i);
    }
  }

  /** The write that began at `invoke` was acked; `durable`: with FUA. */
  ackWrite(firstSector: number, sectorCount: number, invoke: number, durable: boolean): void {
    const now = this.tick();
    for (let sector = firstSector; sector < firstSector + sectorCount; sector++) {
      for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
        if (this.#invoke[e] === invoke) {
          this.#acked[e] = 1;
          if (now < this.#certain[e]) this.#certain[e] = now;
        } else if (this.#certain[e] < invoke) {
          if (now < this.#dead[e]) this.#dead[e] = now;
          if (now < this.#covered[e]) this.#covered[e] = now;
          if (invoke > this.#coverInvoke[e]) this.#coverInvoke[e] = invoke;
          if (durable) this.#coverInvoke[e] = NEVER;
        }
      }
      if (durable) this.#prune(sector, -1);
    }
  }

  /** A read that began at tick `invoke` returned `value` for a sector. The caller ticks once after a whole read. */
  readSector(sector: number, value: number, invoke: number): void {
    let match = 0;
    let matches = 0;
    for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
      if (this.#value[e] === value && this.#dead[e] >= invoke) {
        match = e;
        matches++;
      }
    }
    if (matches === 0) {
      throw new Violation(
        "linearizable",
        `a read that began at tick ${invoke} and ended at ${this.clock} returned ${
          nameValue(value)
        } for sector ${sector}; ` +
          `possible were: ${this.describe(sector, invoke)}`,
      );
    }
    if (matches > 1) return; // zeroes of several writes: it cannot be told which was seen
    const now = this.clock;
    const matchInvoke = this.#invoke[match];
    if (now < this.#certain[match]) this.#certain[match] = now;
    if (this.#head[sector] === match && this.#next[match] === 0) return;
    for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
      if (e === match) continue;
      if (this.#certain[e] < invoke || this.#certain[e] < matchInvoke) {
        if (now < this.#dead[e]) this.#dead[e] = now;
        if (this.#acked[match] === 1) {
          if (now < this.#covered[e]) this.#covered[e] = now;
          if (matchInvoke > this.#coverInvoke[e]) this.#coverInvoke[e] = matchInvoke;
        }
      }
    }
  }

  /** A flush that began at tick `invoke` was acked: what was overwritten by then cannot come back. */
  ackFlush(invoke: number): void {
    this.tick();
    let kept = 0;
    for (let i = 0; i < this.#busy.length; i++) {
      const sector = this.#busy[i];
      this.#prune(sector, invoke);
      if (this.#next[this.#head[sector]] === 0) this.#isBusy[sector] = 0;
      else this.#busy[kept++] = sector;
    }
    this.#busy.length = kept;
  }

  /** A flush was answered with an error: what it should have covered, no later flush need cover. */
  failFlush(): void {
    this.#taintedAt = this.tick();
  }

  /**
   * What was invoked before tick `before` and never answered has taken effect by now, or never will: the client that asked for it
   * is fenced off, and another one serves.
   */
  settle(before: number): void {
    const now = this.tick();
    for (const sector of this.#busy) {
      for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
        if (this.#invoke[e] < before && now < this.#certain[e]) this.#certain[e] = now;
      }
    }
  }

  /**
   * Every copy of what is not flushed may be gone. What was invoked at the ticks of `waiting` is still asked for: it may have been seen, be
   * gone, and be done again.
   */
  losePower(waiting: ReadonlySet<number> = NOTHING): void {
    const now = this.tick();
    for (const sector of this.#busy) {
      for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
        if (this.#certain[e] === NEVER || this.#coverInvoke[e] === NEVER) continue;
        this.#certain[e] = this.#acked[e] === 0 && waiting.has(this.#invoke[e]) ? NEVER : now;
        this.#dead[e] = NEVER;
        this.#covered[e] = NEVER;
        this.#coverInvoke[e] = -1;
      }
    }
  }

  /** All that is known now. */
  save(): OracleState {
    return {
      sectorCount: this.sectorCount,
      head: this.#head.slice(0, this.sectorCount),
      entries: this.#arrays().map((array) => array.slice(0, this.#used)),
      spare: this.#spare,
      used: this.#used,
      busy: [...this.#busy],
      taintedAt: this.#taintedAt,
    };
  }

  /** What is kept of each entry; anew each time, for they grow. */
  #arrays() {
    return [
      this.#next,
      this.#value,
      this.#invoke,
      this.#certain,
      this.#acked,
      this.#dead,
      this.#covered,
      this.#coverInvoke,
    ];
  }

  /** What was known when `state` was saved is so again; the clock goes on. */
  restore(state: OracleState): void {
    while (this.#next.length < state.used) this.#grow();
    this.#head.set(state.head);
    this.#arrays().forEach((array, i) => array.set(state.entries[i]));
    this.#spare = state.spare;
    this.#used = state.used;
    this.#busy = [...state.busy];
    this.#isBusy.fill(0);
    for (const sector of state.busy) this.#isBusy[sector] = 1;
    this.#taintedAt = state.taintedAt;
  }

  /**
   * A new history begins: a sector has one of `current`; after a loss of power it may have one of `stable` until it is flushed. Of all
   * that is known, only the writes invoked at the ticks of `waiting` are still to come.
   */
  found(
    current: (sector: number) => readonly number[],
    stable: (sector: number) => readonly number[],
    waiting: ReadonlySet<number>,
  ): void {
    const now = this.tick();
    for (let sector = 0; sector < this.sectorCount; sector++) {
      this.#keepOnly(sector, waiting);
      const values = new Set(current(sector));
      for (const value of values) this.#addCertain(sector, value);
      for (const value of new Set(stable(sector))) {
        if (values.has(value)) continue;
        const entry = this.#addCertain(sector, value);
        this.#dead[entry] = this.#covered[entry] = this.#coverInvoke[entry] = now;
      }
      if (this.#next[this.#head[sector]] !== 0) this.#markBusy(sector);
    }
  }

  #keepOnly(sector: number, invokes: ReadonlySet<number>): void {
    let kept = 0;
    for (let e = this.#head[sector]; e !== 0;) {
      const next = this.#next[e];
      if (invokes.has(this.#invoke[e])) {
        this.#next[e] = kept;
        kept = e;
      } else {
        this.#next[e] = this.#spare;
        this.#spare = e;
      }
      e = next;
    }
    this.#head[sector] = kept;
  }

  /** Something that was there before anything else. */
  #addCertain(sector: number, value: number): number {
    const entry = this.#add(sector, value, 0);
    this.#certain[entry] = 0;
    this.#acked[entry] = 1;
    return entry;
  }

  /** The values a sector may have for a read that began at `invoke`, for people. */
  describe(sector: number, invoke: number): string {
    const words: string[] = [];
    for (let e = this.#head[sector]; e !== 0; e = this.#next[e]) {
      const state = this.#dead[e] >= invoke ? "" : ` [over since ${this.#dead[e]}]`;
      const acked = this.#acked[e] === 1 ? "acked" : this.#certain[e] === NEVER ? "unacked" : "unacked but seen";
      words.push(`${nameValue(this.#value[e])} (invoked ${this.#invoke[e]}, ${acked})${state}`);
    }
    return words.join("; ");
  }

  /** Forgets what was covered before `flushInvoke`, or by a durable write. */
  #prune(sector: number, flushInvoke: number): void {
    let previous = 0;
    for (let e = this.#head[sector]; e !== 0;) {
      const next = this.#next[e];
      if (
        this.#coverInvoke[e] === NEVER || (this.#covered[e] < flushInvoke && this.#coverInvoke[e] > this.#taintedAt)
      ) {
        if (this.#dead[e] >= this.oldestRead && this.oldestRead !== NEVER) {
          // It cannot come back, but an answer under way may still tell of it.
          this.#coverInvoke[e] = NEVER;
          previous = e;
        } else {
          if (previous === 0) this.#head[sector] = next;
          else this.#next[previous] = next;
          this.#next[e] = this.#spare;
          this.#spare = e;
        }
      } else {
        previous = e;
      }
      e = next;
    }
  }

  #markBusy(sector: number): void {
    if (this.#isBusy[sector] !== 0) return;
    this.#isBusy[sector] = 1;
    this.#busy.push(sector);
  }

  #add(sector: number, value: number, invoke: number): number {
    let entry = this.#spare;
    if (entry !== 0) this.#spare = this.#next[entry];
    else entry = this.#used++;
    if (entry >= this.#next.length) this.#grow();
    this.#value[entry] = value;
    this.#invoke[entry] = invoke;
    this.#certain[entry] = NEVER;
    this.#acked[entry] = 0;
    this.#dead[entry] = NEVER;
    this.#covered[entry] = NEVER;
    this.#coverInvoke[entry] = -1;
    this.#next[entry] = this.#head[sector];
    this.#head[sector] = entry;
    return entry;
  }

  #grow(): void {
    this.#next = grown(this.#next, Int32Array);
    this.#value = grown(this.#value, Float64Array);
    this.#acked = grown(this.#acked, Uint8Array);
    this.#invoke = grown(this.#invoke, Float64Array);
    this.#certain = grown(this.#certain, Float64Array);
    this.#dead = grown(this.#dead, Float64Array);
    this.#covered = grown(this.#covered, Float64Array);
    this.#coverInvoke = grown(this.#coverInvoke, Float64Array);
  }
}

/** Sectors that one write may cover; value = number of the write × this + place in the write. */
export const MAX_SECTORS_PER_WRITE = 2048;

/** A value as people read it. */
export function nameValue(value: number): string {
  if (value === 0) return "zeroes";
  if (value < 0) return "garbage";
  return `write ${Math.floor(value / MAX_SECTORS_PER_WRITE)} sector ${value % MAX_SECTORS_PER_WRITE}`;
}

function grown<T extends Int32Array | Uint8Array | Float64Array>(
  old: T,
  ArrayType: new (length: number) => T,
): T {
  const array = new ArrayType(old.length * 2);
  array.set(old);
  return array;
}
