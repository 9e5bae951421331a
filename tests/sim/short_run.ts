/**
 * The short run of the simulator that belongs to every check of the source: two thousand worlds. It is spread over several
 * files, which run side by side. `deno task sim` runs on from there.
 *
 * @module
 */

import assert from "node:assert/strict";
import { runSeed } from "./run_seed.ts";

const SEEDS_PER_TEST = 500;

/** A test that worlds of `SEEDS_PER_TEST` seeds, `first` and those after it, keep every promise. */
export function testWorldsFrom(first: number): void {
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
