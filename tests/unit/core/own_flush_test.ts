/** How often a client flushes by itself. */

import assert from "node:assert/strict";
import { OwnFlush } from "../../../lib/core/own_flush.ts";

/** Runs `count` flushes that take `durationMs` each, every one as soon as it is due. Returns when each began. */
function begun(flush: OwnFlush, count: number, durationMs: number, fromMs: number): number[] {
  const times: number[] = [];
  for (let nowMs = fromMs; times.length < count; nowMs++) {
    if (!flush.isDue(nowMs)) continue;
    flush.begin(nowMs);
    times.push(nowMs);
    assert.equal(flush.isDue(nowMs + durationMs), false, "one at a time");
    flush.ended(0, true, nowMs + durationMs);
  }
  return times;
}

Deno.test("a client flushes at its interval where flushes are quick", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  assert.deepEqual(begun(flush, 3, 5, 0), [2000, 4000, 6000]);
});

Deno.test("flushes that take long are a small part of the time", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  assert.deepEqual(begun(flush, 3, 200, 0), [2000, 5200, 8400], "every 3200 ms: a 16th");
});

Deno.test("the interval has a limit, however long a flush takes", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  assert.deepEqual(begun(flush, 3, 3000, 0), [2000, 7000, 12000]);
});

Deno.test("a flush that waited for a leg that is gone is forgotten with the second one after it", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  begun(flush, 1, 3000, 0);
  assert.equal(flush.intervalMs, 5000);
  begun(flush, 2, 1, 5001);
  assert.equal(flush.intervalMs, 2000);
});

Deno.test("one quick flush does not make the next one come soon; several do", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  begun(flush, 1, 300, 0);
  assert.equal(flush.intervalMs, 4800);
  begun(flush, 1, 1, 2001);
  assert.equal(flush.intervalMs, 2400);
  begun(flush, 2, 1, 8402);
  assert.equal(flush.intervalMs, 2000);
});

Deno.test("a leg that asks for a flush does not wait for the interval, but for the flush under way", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  flush.isWanted = true;
  assert.equal(flush.isDue(1), true);
  flush.begin(1);
  flush.isWanted = true;
  assert.equal(flush.isDue(2), false);
  flush.ended(0, true, 3);
  assert.equal(flush.isDue(4), true);
});

Deno.test("an application's flush changes nothing in the client's own", () => {
  const flush = new OwnFlush(2000);
  flush.reset(0);
  flush.ended(0, false, 1000);
  assert.equal(flush.intervalMs, 2000);
  assert.equal(flush.isDue(1999), false);
  assert.equal(flush.isDue(2000), true);
});

Deno.test("who takes an application over from a client before is told of what that may have lost, once", () => {
  const flush = new OwnFlush(2000);
  flush.resumed(true);
  flush.tookOver();
  assert.equal(flush.takeUntold(), false);
  flush.resumed(false);
  assert.equal(flush.takeUntold(), false, "an application that begins has nothing to lose");
  flush.tookOver();
  assert.equal(flush.takeUntold(), true);
  assert.equal(flush.takeUntold(), false);
});
