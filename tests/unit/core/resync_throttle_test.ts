/** How a resync gives way: to writes it sees itself, and to reads that only its source sees. */

import assert from "node:assert/strict";
import { ResyncThrottle } from "../../../lib/core/resync_throttle.ts";

const MIB = 1 << 20;

/** Ten seconds of a foreground of so many MiB/s at the target and at the source. */
function afterForeground(ownMibPerSecond: number, sourceMibPerSecond: number): ResyncThrottle {
  const throttle = new ResyncThrottle(0);
  for (let step = 1; step <= 100; step++) {
    const seconds = step / 10;
    throttle.observe(step * 100, ownMibPerSecond * MIB * seconds, MIB + sourceMibPerSecond * MIB * seconds);
  }
  return throttle;
}

Deno.test("without a foreground nothing limits", () => {
  assert.equal(afterForeground(0, 0).rate(10_000), Infinity);
});

Deno.test("a foreground of writes leaves a part of its own rate", () => {
  const rate = afterForeground(100, 100).rate(10_000);
  assert.ok(rate > 22 * MIB && rate < 50 * MIB, `${rate / MIB} MiB/s`);
});

Deno.test("reads at the source count, although the target sees none of them", () => {
  const rate = afterForeground(0, 100).rate(10_000);
  assert.ok(rate > 22 * MIB && rate < 50 * MIB, `${rate / MIB} MiB/s`);
});

Deno.test("a trickle does not starve the resync", () => {
  assert.ok(afterForeground(0.01, 0.01).rate(10_000) >= 8 * MIB);
});

Deno.test("an operator's limit holds, also when nothing else limits", () => {
  const throttle = afterForeground(0, 0);
  throttle.limitBytesPerSecond = 5 * MIB;
  assert.equal(throttle.rate(10_000), 5 * MIB);
});

Deno.test("another source does not look like a foreground", () => {
  const throttle = afterForeground(0, 0);
  throttle.observe(10_100, 0, 0);
  throttle.observe(10_200, 0, 900 * MIB);
  throttle.observe(10_300, 0, 900 * MIB);
  assert.equal(throttle.rate(10_300), Infinity);
});

Deno.test("tokens come at the allowed rate", () => {
  const throttle = new ResyncThrottle(0);
  throttle.limitBytesPerSecond = 10 * MIB;
  let moved = 0;
  for (let nowMs = 0; nowMs <= 10_000; nowMs++) {
    while (throttle.mayStart(nowMs)) {
      throttle.spend(MIB / 8);
      moved += MIB / 8;
    }
  }
  assert.ok(Math.abs(moved - 100 * MIB) < 2 * MIB, `${moved / MIB} MiB in ten seconds`);
});
