/**
 * Which numbers of a range are taken: a chain through the free ones, so that taking one and giving it back are a few array
 * accesses, and the one given back last, whose data is still in the processor's cache, is taken first.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** Capacity after the first growth. */
const FIRST_CAPACITY = 256;
const END = -1;
/** In place of the next free number: this one is taken. */
const TAKEN = -2;

/** See the module's description. Begins without any number. */
export class NumberChain {
  #next = new Int32Array(0);
  #free = END;
  #takenCount = 0;

  /** How many are taken. */
  get takenCount(): number {
    return this.#takenCount;
  }

  /** None is left to take: `grow` first. */
  get isExhausted(): boolean {
    return this.#free === END;
  }

  /** Takes one. Some must be left. */
  take(): number {
    const number = this.#free;
    assert(number !== END, "a number is left to take", this.#takenCount);
    this.#free = this.#next[number];
    this.#next[number] = TAKEN;
    this.#takenCount++;
    return number;
  }

  /** Gives one back that is taken. */
  giveBack(number: number): void {
    assert(this.#next[number] === TAKEN, "a number is given back once", number);
    this.#next[number] = this.#free;
    this.#free = number;
    this.#takenCount--;
  }

  /** Adds as many numbers as there are. Returns how many there are then; numbers are below it. Only when none is left. */
  grow(): number {
    assert(this.isExhausted, "numbers are added when none is left", this.#takenCount);
    const from = this.#next.length;
    const capacity = Math.max(FIRST_CAPACITY, 2 * from);
    this.#next = grown(this.#next, new Int32Array(capacity));
    for (let i = from; i < capacity; i++) this.#next[i] = i + 1 < capacity ? i + 1 : END;
    this.#free = from;
    return capacity;
  }
}

/** `larger` with what `old` holds at its beginning. */
export function grown<T extends Float64Array | Int32Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}
