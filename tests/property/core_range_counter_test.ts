/**
 * The range counter against an exact list of ranges: it may be too careful, never too bold, and it returns to zero.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { RangeCounter } from "../../lib/core/range_counter.ts";

const range = fc.record({
  offset: fc.nat(1 << 20).map((at) => at * 512),
  length: fc.integer({ min: 1, max: 400 }).map((n) => n * 512),
});

Deno.test("ranges that overlap something in flight are found, and an empty counter finds nothing", () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 40 }), range, (ranges, probe) => {
      const counter = new RangeCounter();
      for (const each of ranges) counter.add(each.offset, each.length);
      const overlaps = ranges.some((each) =>
        each.offset < probe.offset + probe.length && probe.offset < each.offset + each.length
      );
      if (overlaps) assert.ok(counter.any(probe.offset, probe.length));
      for (const each of ranges) {
        assert.ok(counter.any(each.offset, each.length));
        counter.remove(each.offset, each.length);
      }
      assert.ok(!counter.any(probe.offset, probe.length));
    }),
    { numRuns: 300 },
  );
});
