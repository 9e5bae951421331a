/**
 * The first half of the short run, and the promise that a seed always goes the same way.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runSeed } from "./run_seed.ts";
import { testWorldsFrom } from "./short_run.ts";

testWorldsFrom(1);
testWorldsFrom(501);

Deno.test("a seed goes the same way every time, traced or not", () => {
  for (const seed of [7, 42, 4711]) {
    const first = runSeed(seed, Infinity);
    const second = runSeed(seed, Infinity);
    const untraced = runSeed(seed);
    assert.deepEqual(second.trace, first.trace);
    assert.equal(untraced.virtualMs, first.virtualMs);
    assert.equal(untraced.events, first.events);
  }
});
