/**
 * A seeded random number generator (xoshiro128**, public domain, by Blackman and Vigna; seeded by splitmix32): the same
 * seed gives the same numbers on every machine. For simulations, tests and jitter; never for secrets.
 *
 * @module
 */

import { assert } from "./assert.ts";

/** A deterministic stream of numbers. */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed any non-negative safe integer; all 53 bits count */
  constructor(seed: number) {
    assert(Number.isSafeInteger(seed) && seed >= 0, "A seed is a non-negative safe integer", seed);
    let state = seed >>> 0;
    const high = Math.floor(seed / 2 ** 32);
    const next = () => {
      state = (state + 0x9e3779b9) | 0;
      let z = state ^ Math.imul(high, 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1; // the all-zero state would stay zero for ever
  }

  /** A whole number of 32 bits, 0 .. 2^32 - 1. */
  next(): number {
    const times5 = Math.imul(this.#b, 5);
    const result = Math.imul((times5 << 7) | (times5 >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** A whole number of 53 bits, 0 .. 2^53 - 1. */
  next53(): number {
    return (this.next() >>> 11) * 2 ** 32 + this.next();
  }

  /** A fraction, 0 <= x < 1, of 53 bits. */
  fraction(): number {
    return this.next53() / 2 ** 53;
  }

  /** A whole number 0 .. limit - 1, all equally likely. `limit` is 1 .. 2^53 - 1. */
  below(limit: number): number {
    assert(Number.isSafeInteger(limit) && limit >= 1, "A positive safe integer", limit);
    const range = limit <= 2 ** 32 ? 2 ** 32 : 2 ** 53;
    // What is beyond the last whole multiple of `limit` would make small numbers likelier: draw again.
    const end = range - (range % limit);
    for (;;) {
      const value = range === 2 ** 32 ? this.next() : this.next53();
      if (value < end) return value % limit;
    }
  }

  /** True with probability `p` (0 .. 1). */
  chance(p: number): boolean {
    return this.fraction() < p;
  }

  /** One of `items`, which must not be empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** Brings `items` into random order, in place; returns them. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const item = items[i];
      items[i] = items[j];
      items[j] = item;
    }
    return items;
  }

  /** A generator of its own, seeded by this one: what one part of a simulation draws does not disturb another's. */
  fork(): Prng {
    return new Prng(this.next53());
  }
}
