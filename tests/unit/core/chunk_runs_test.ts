/** Runs of chunks as legs tell them to each other. */

import assert from "node:assert/strict";
import { SparseBitmap } from "../../../lib/base/sparse_bitmap.ts";
import { RUNS_PER_FRAME, runsFrom } from "../../../lib/core/chunk_runs.ts";

/** Takes over what is told frame by frame; returns it and how many frames it took. */
function told(bits: SparseBitmap): [SparseBitmap, number] {
  const copy = new SparseBitmap(bits.bitCount);
  let frames = 0;
  for (let from = 0; from >= 0;) {
    const { runs, next } = runsFrom(bits, from);
    assert.ok(runs.length <= 2 * RUNS_PER_FRAME);
    frames++;
    from = next;
    for (let i = 0; i < runs.length; i += 2) {
      assert.ok(runs[i + 1] > 0);
      copy.set(runs[i], runs[i + 1]);
    }
  }
  return [copy, frames];
}

Deno.test("the largest map, all dirty, is told whole", () => {
  const [copy, frames] = told(new SparseBitmap(2 ** 32, true));
  assert.equal(copy.count, 2 ** 32);
  assert.equal(frames, 1);
});

Deno.test("a scattered map is told in as many frames as it takes", () => {
  const bits = new SparseBitmap(100_000);
  for (let chunk = 1; chunk < 2 * (RUNS_PER_FRAME + 10); chunk += 2) bits.set(chunk, 1);
  const [copy, frames] = told(bits);
  assert.equal(copy.count, bits.count);
  copy.keepOnly(bits);
  assert.equal(copy.count, bits.count);
  assert.equal(frames, 2);
});

Deno.test("of an empty map there is nothing to tell", () => {
  assert.deepEqual(runsFrom(new SparseBitmap(64), 0), { runs: new Uint32Array(0), next: -1 });
});
