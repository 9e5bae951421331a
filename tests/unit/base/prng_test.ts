import assert from "node:assert/strict";
import fc from "fast-check";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import { Prng } from "../../../lib/base/prng.ts";

const seeds = fc.maxSafeNat();

function draw(seed: number, count: number): number[] {
  const prng = new Prng(seed);
  return Array.from({ length: count }, () => prng.next());
}

Deno.test("a seed gives the same numbers for ever", () => {
  // Written down once: a change here makes every seed ever reported worthless.
  assert.deepEqual(draw(1, 4), [393288148, 2174103013, 3814759091, 2092745082]);
  assert.deepEqual(draw(2 ** 40 + 1, 2), [2126923184, 552878185]);
});

Deno.test("seeds differ in all their 53 bits", () => {
  const firsts = new Set<string>();
  for (let bit = 0; bit < 53; bit++) firsts.add(draw(2 ** bit, 2).join());
  firsts.add(draw(0, 2).join());
  assert.equal(firsts.size, 54);
});

Deno.test("below() stays below, also for limits beyond 32 bits", () => {
  fc.assert(fc.property(seeds, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (seed, limit) => {
    const prng = new Prng(seed);
    for (let i = 0; i < 10; i++) {
      const value = prng.below(limit);
      assert.ok(Number.isSafeInteger(value) && value >= 0 && value < limit);
    }
  }));
  assert.throws(() => new Prng(1).below(0), AssertionFailure);
});

Deno.test("below() reaches every value about equally often", () => {
  const counts = new Array(7).fill(0);
  const prng = new Prng(42);
  for (let i = 0; i < 70_000; i++) counts[prng.below(7)]++;
  // 10000 expected; the standard deviation is 93.
  for (const count of counts) assert.ok(Math.abs(count - 10_000) < 600, String(counts));
});

Deno.test("chance() follows its probability, and never and always are exact", () => {
  const prng = new Prng(7);
  let hits = 0;
  for (let i = 0; i < 10_000; i++) {
    assert.equal(prng.chance(0), false);
    assert.equal(prng.chance(1), true);
    if (prng.chance(0.25)) hits++;
  }
  assert.ok(Math.abs(hits - 2500) < 250, String(hits));
});

Deno.test("shuffle() keeps the items, pick() takes one of them", () => {
  fc.assert(fc.property(seeds, fc.array(fc.nat(), { minLength: 1 }), (seed, items) => {
    const prng = new Prng(seed);
    const shuffled = prng.shuffle([...items]);
    assert.deepEqual([...shuffled].sort(), [...items].sort());
    assert.ok(items.includes(prng.pick(items)));
  }));
});

Deno.test("fork() gives a stream that its parent's later draws do not disturb", () => {
  const parent = new Prng(5);
  const child = parent.fork();
  const alone = [child.next(), child.next()];
  const parentAgain = new Prng(5);
  const childAgain = parentAgain.fork();
  parentAgain.next();
  assert.deepEqual([childAgain.next(), childAgain.next()], alone);
});
