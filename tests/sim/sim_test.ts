/**
 * The short run of the simulator that belongs to every check of the source: two thousand worlds, and the promise that a seed
 * always goes the same way. `deno task sim` runs on from there.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runSeed } from "./run_seed.ts";

const SEEDS_PER_TEST = 500;

for (const first of [1, 501, 1001, 1501]) {
  Deno.test(`worlds ${first} to ${first + SEEDS_PER_TEST - 1} keep every promise`, () => {
    let operations = 0;
    for (let seed = first; seed < first + SEEDS_PER_TEST; seed++) {
      const outcome = runSeed(seed);
      operations += outcome.operations;
      if (outcome.violation !== null) {
        const { trace } = runSeed(seed, 60);
        assert.fail(
          `seed ${seed}: ${outcome.violation.stack}\n${trace.join("\n")}\nreplay: deno task sim --seed ${seed} --trace`,
        );
      }
    }
    assert.ok(operations > 50 * SEEDS_PER_TEST, `the worlds do something: ${operations} operations`);
  });
}

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
