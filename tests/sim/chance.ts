/**
 * Distributions that the simulator draws from.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";

/** A whole number from `least` to `most`, both included. */
export function between(prng: Prng, least: number, most: number): number {
  return least + Math.floor(prng.fraction() * (most - least + 1));
}

/** A whole number from 0 to `limit - 1`: quicker than `Prng.below`, and even enough for small limits. */
export function under(prng: Prng, limit: number): number {
  return Math.floor((prng.next() / 4294967296) * limit);
}

/** True with this probability. */
export function happens(prng: Prng, probability: number): boolean {
  return prng.next() < probability * 4294967296;
}

/** A fraction from 0 up to, not including, 1. */
export function part(prng: Prng): number {
  return prng.next() / 4294967296;
}

/** Waiting time of events that come with this mean distance. */
export function exponential(prng: Prng, mean: number): number {
  return -Math.log(1 - prng.fraction()) * mean;
}
