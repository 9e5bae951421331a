import assert from "node:assert/strict";
import { GatherTime } from "../../../lib/io/gather_time.ts";

/** Runs `count` windows of 5 ms with `perWindow` operations each, and asks at the end. */
function after(gather: GatherTime, count: number, perWindow: number, inFlight: number): number {
  let us = 0;
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < perWindow; k++) gather.note();
    us = gather.us(1000 + i * 5, inFlight);
  }
  return us;
}

Deno.test("few operations under way are never delayed", () => {
  assert.equal(after(new GatherTime(), 10, 50, 63), 0);
});

Deno.test("the delay is a small part of what an operation takes, and bounded", () => {
  // 64 under way, one ends every 0.1 ms: an operation takes 6.4 ms.
  assert.equal(after(new GatherTime(), 10, 50, 64), 200);
  // 512 under way, one ends every 5 ms: 2.5 s each.
  assert.equal(after(new GatherTime(), 10, 1, 512), 1000);
});

Deno.test("a fast device is not delayed: the timer would cost more than it saves", () => {
  assert.equal(after(new GatherTime(), 10, 2000, 64), 0);
});

Deno.test("a pause is no measure of the pace", () => {
  const gather = new GatherTime();
  assert.ok(after(gather, 10, 50, 64) > 0);
  gather.note();
  assert.equal(gather.us(9000, 64), 0);
});
