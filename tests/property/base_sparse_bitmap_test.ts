/**
 * The sparse bitmap against a plain set, and what it costs: memory only for pages that are mixed.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { PAGE_BITS, PAGE_WORDS, SparseBitmap } from "../../lib/base/sparse_bitmap.ts";

/** Two whole pages, and one that ends in the middle of a word. */
const BITS = 2 * PAGE_BITS + 77;
/** Where something may go wrong: at the edges of pages and words. */
const EDGES = [
  0,
  1,
  31,
  32,
  33,
  PAGE_BITS - 1,
  PAGE_BITS,
  PAGE_BITS + 32,
  2 * PAGE_BITS - 1,
  2 * PAGE_BITS,
  BITS - 1,
  BITS,
];

const edge = fc.oneof(fc.constantFrom(...EDGES), fc.nat(BITS));
const range = fc.tuple(edge, edge).map(([a, b]) => ({ first: Math.min(a, b), count: Math.abs(a - b) }));
const ranges = fc.array(range, { maxLength: 4 });
const step = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), range }),
  fc.record({ kind: fc.constant("clear" as const), range }),
  fc.record({ kind: fc.constant("add" as const), ranges }),
  fc.record({ kind: fc.constant("keep" as const), ranges }),
  fc.record({
    kind: fc.constant("merge" as const),
    page: fc.nat(2),
    bits: fc.array(fc.nat(PAGE_BITS - 1), { maxLength: 3 }),
  }),
);

function* each({ first, count }: { first: number; count: number }) {
  for (let bit = first; bit < first + count; bit++) yield bit;
}

/** The bits of a set made of ranges, and the set. */
function made(of: readonly { first: number; count: number }[], full = false): [SparseBitmap, Set<number>] {
  const bits = new SparseBitmap(BITS, full);
  const set = new Set<number>(full ? each({ first: 0, count: BITS }) : []);
  for (const range of of) {
    bits.set(range.first, range.count);
    for (const bit of each(range)) set.add(bit);
  }
  return [bits, set];
}

/** Pages that hold some bits but not all. */
function mixedPages(set: ReadonlySet<number>): number {
  const counts = [0, 0, 0];
  for (const bit of set) counts[Math.floor(bit / PAGE_BITS)]++;
  return counts.filter((count, page) => count > 0 && count < (page < 2 ? PAGE_BITS : BITS - 2 * PAGE_BITS)).length;
}

const pageMemory = PAGE_WORDS * 4;
const emptyMemory = new SparseBitmap(BITS).memoryBytes;

Deno.test("a sparse bitmap is a set, and holds words for mixed pages only", () => {
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { maxLength: 12 }), range, (full, steps, asked) => {
      const [bits, set] = made([], full);
      for (const step of steps) {
        const before = set.size;
        if (step.kind === "set") {
          for (const bit of each(step.range)) set.add(bit);
          assert.equal(bits.set(step.range.first, step.range.count), set.size - before);
        } else if (step.kind === "clear") {
          for (const bit of each(step.range)) set.delete(bit);
          assert.equal(bits.clear(step.range.first, step.range.count), before - set.size);
        } else if (step.kind === "merge") {
          const words = new Uint32Array(PAGE_WORDS);
          for (const bit of step.bits) {
            words[bit >>> 5] |= 1 << (bit & 31);
            if (step.page * PAGE_BITS + bit < BITS) set.add(step.page * PAGE_BITS + bit);
          }
          bits.mergePage(step.page, words);
        } else {
          const [others, other] = made(step.ranges);
          if (step.kind === "keep") {
            bits.keepOnly(others);
            for (const bit of set) if (!other.has(bit)) set.delete(bit);
          } else {
            const changed = new Set<number>();
            for (const bit of other) if (!set.has(bit)) changed.add(Math.floor(bit / PAGE_BITS));
            const told: number[] = [];
            bits.addAll(others, (page) => told.push(page));
            assert.deepEqual(told, [...changed].sort());
            for (const bit of other) set.add(bit);
          }
        }
        assert.equal(bits.count, set.size);
        // One page's words are kept for the next that becomes mixed.
        assert.ok(bits.memoryBytes <= emptyMemory + (mixedPages(set) + 1) * pageMemory);
      }
      const sorted = [...set].sort((a, b) => a - b);
      const found: number[] = [];
      for (let bit = bits.next(0); bit >= 0; bit = bits.next(bit + 1)) found.push(bit);
      assert.deepEqual(found, sorted);
      for (let page = 0; page < 3; page++) {
        assert.equal(bits.pageHasBits(page), sorted.some((bit) => Math.floor(bit / PAGE_BITS) === page));
      }
      const inRange = [...each(asked)];
      assert.equal(bits.any(asked.first, asked.count), inRange.some((bit) => set.has(bit)));
      assert.equal(bits.countRange(asked.first, asked.count), inRange.filter((bit) => set.has(bit)).length);
      const gap = inRange.findIndex((bit) => !set.has(bit));
      assert.equal(bits.runLength(asked.first, asked.count), gap < 0 ? asked.count : gap);
    }),
    { numRuns: 150 },
  );
});

Deno.test("a page that is cleared or set bit by bit gives its words back, and so does merging nothing", () => {
  const bits = new SparseBitmap(16 * PAGE_BITS, true);
  const fullMemory = bits.memoryBytes;
  for (let bit = 0; bit < bits.bitCount; bit += 31) bits.clear(bit, Math.min(31, bits.bitCount - bit));
  assert.equal(bits.count, 0);
  assert.ok(bits.memoryBytes <= fullMemory + pageMemory);
  for (let bit = 0; bit < bits.bitCount; bit += 31) bits.set(bit, Math.min(31, bits.bitCount - bit));
  assert.ok(bits.memoryBytes <= fullMemory + pageMemory);
  bits.clearAll();
  bits.mergePage(3, new Uint32Array(PAGE_WORDS));
  assert.equal(bits.memoryBytes, fullMemory);
  assert.ok(!bits.any(0, bits.bitCount));
});

Deno.test("one bit that comes and goes takes one page's memory", () => {
  const bits = new SparseBitmap(4 * PAGE_BITS);
  const emptyMemory = bits.memoryBytes;
  for (let page = 0; page < 4; page++) {
    bits.set(page * PAGE_BITS, 1);
    bits.clear(page * PAGE_BITS, 1);
  }
  assert.equal(bits.memoryBytes, emptyMemory + pageMemory);
  bits.set(0, 1);
  assert.equal(bits.memoryBytes, emptyMemory + pageMemory);
});

Deno.test("a run of the largest bitmap is found by its pages", () => {
  const bits = new SparseBitmap(2 ** 32, true);
  assert.equal(bits.runLength(0, 2 ** 32), 2 ** 32);
  bits.clear(2 ** 32 - 3, 1);
  assert.equal(bits.runLength(5, 2 ** 32), 2 ** 32 - 8);
});
