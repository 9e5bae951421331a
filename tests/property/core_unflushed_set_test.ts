/**
 * The unflushed set against an exact one: it never lacks a chunk that was written above the watermark.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { UnflushedSet } from "../../lib/core/unflushed_set.ts";

const CHUNKS = 64;

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("write" as const),
      first: fc.nat(60),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rotate" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("flushed" as const), back: fc.nat(6) }) },
);

Deno.test("what was written above the watermark is in the unflushed set, and an idle set empties", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const set = new UnflushedSet(CHUNKS);
      const exact: { first: number; count: number; sequence: number }[] = [];
      let sequence = 0;
      let watermark = 0;
      for (const each of steps) {
        if (each.kind === "write") {
          exact.push({ first: each.first, count: each.count, sequence: ++sequence });
          set.add(each.first, each.count, sequence);
        } else if (each.kind === "rotate") set.rotate();
        else {
          watermark = Math.max(watermark, sequence - each.back);
          set.forget(watermark);
        }
        const held = chunksOf(set);
        for (const write of exact) {
          if (write.sequence <= watermark) continue;
          for (let chunk = write.first; chunk < write.first + write.count; chunk++) assert.ok(held.has(chunk));
        }
      }
      set.rotate();
      set.forget(sequence);
      assert.equal(set.count, 0);
    }),
    { numRuns: 300 },
  );
});

function chunksOf(set: UnflushedSet): Set<number> {
  const held = new Set<number>();
  set.forEach((bits) => {
    for (let chunk = bits.next(0); chunk >= 0; chunk = bits.next(chunk + 1)) held.add(chunk);
  });
  return held;
}
