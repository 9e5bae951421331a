/** How a resync gives way: to writes it sees itself, to reads that only its source sees, and to what the client feels. */

import assert from "node:assert/strict";
import { type ForegroundCount, ResyncThrottle } from "../../../lib/core/resync_throttle.ts";
import { ServiceTime } from "../../../lib/core/service_time.ts";

const MIB = 1 << 20;

/**
 * A leg and its source in a world of 1 ms steps. The client moves so many MiB/s at each while resync adds none; its I/O takes 1 ms,
 * and longer by what `latencyOf` makes of the resync's rate (MiB/s over the last 100 ms).
 */
class World {
  readonly throttle = new ResyncThrottle(0);
  nowMs = 0;
  ownMibPerSecond = 0;
  sourceMibPerSecond = 0;
  ownLatencyUs: (resyncMibPerSecond: number) => number = () => 1000;
  sourceLatencyUs: (resyncMibPerSecond: number) => number = () => 1000;
  movedBytes = 0;
  #own = 0;
  #source = MIB;
  readonly #ownService = new ServiceTime(0);
  readonly #sourceService = new ServiceTime(0);
  #told: ForegroundCount = { bytes: 0, serviceUs: 0 };
  #recent: number[] = [];

  run(seconds: number): this {
    for (const endMs = this.nowMs + seconds * 1000; this.nowMs < endMs;) this.#step();
    return this;
  }

  /** Mean MiB/s of resync over the next `seconds`. */
  resyncRate(seconds: number): number {
    const before = this.movedBytes;
    this.run(seconds);
    return (this.movedBytes - before) / MIB / seconds;
  }

  #step(): void {
    this.nowMs++;
    const resyncRate = this.#recent.reduce((sum, bytes) => sum + bytes, 0) * 10 / MIB;
    this.#own += this.ownMibPerSecond * MIB / 1000;
    this.#source += this.sourceMibPerSecond * MIB / 1000;
    if (this.ownMibPerSecond > 0) this.#ownService.note(this.ownLatencyUs(resyncRate) / 1000, this.nowMs);
    if (this.sourceMibPerSecond > 0) this.#sourceService.note(this.sourceLatencyUs(resyncRate) / 1000, this.nowMs);
    let bytes = 0;
    while (bytes < 4 * MIB && this.throttle.mayStart(this.nowMs)) {
      this.throttle.spend(MIB / 8);
      bytes += MIB / 8;
    }
    this.movedBytes += bytes;
    this.#recent.push(bytes);
    if (this.#recent.length > 100) this.#recent.shift();
    // The source tells with each answer.
    if (bytes > 0) this.#told = { bytes: this.#source, serviceUs: this.#sourceService.meanUs(this.nowMs) };
    if (this.nowMs % 100 !== 0) return;
    this.throttle.observe(
      this.nowMs,
      { bytes: this.#own, serviceUs: this.#ownService.meanUs(this.nowMs) },
      this.#told,
    );
  }
}

function world(ownMibPerSecond: number, sourceMibPerSecond: number): World {
  const world = new World();
  world.ownMibPerSecond = ownMibPerSecond;
  world.sourceMibPerSecond = sourceMibPerSecond;
  return world;
}

Deno.test("without a foreground nothing limits", () => {
  assert.equal(world(0, 0).run(10).throttle.rate(10_000), Infinity);
});

Deno.test("a foreground that feels nothing lets the resync grow up to its own rate, and no further", () => {
  const rate = world(100, 100).run(20).resyncRate(10);
  assert.ok(rate > 85 && rate < 105, `${rate} MiB/s`);
});

Deno.test("a device whose queue grows with the resync: latency stays about its bound, and the resync goes on", () => {
  // At 50 MiB/s of resync I/O takes 1.4 times as long.
  const busy = world(100, 100);
  busy.ownLatencyUs = (rate) => 1000 + 8 * rate;
  const rate = busy.run(30).resyncRate(20);
  assert.ok(rate > 22 && rate < 45, `${rate} MiB/s`);
});

Deno.test("the source's device counts as much as one's own", () => {
  const busy = world(100, 100);
  busy.sourceLatencyUs = (rate) => 1000 + 8 * rate;
  const rate = busy.run(30).resyncRate(20);
  assert.ok(rate > 22 && rate < 45, `${rate} MiB/s`);
});

Deno.test("reads that only the source sees are a foreground too, and a rest is not taken for its end", () => {
  const busy = world(0, 100);
  busy.sourceLatencyUs = (rate) => 1000 + 20 * rate;
  const rate = busy.run(30).resyncRate(20);
  assert.ok(rate > 22 && rate < 45, `${rate} MiB/s`);
});

Deno.test("however much the client feels it, the resync moves its least share", () => {
  const busy = world(100, 100);
  busy.ownLatencyUs = (rate) => rate > 0 ? 100_000 : 1000;
  const rate = busy.run(30).resyncRate(20);
  assert.ok(rate > 22 && rate < 40, `${rate} MiB/s`);
});

Deno.test("I/O that is slow by itself is no reason to give way", () => {
  const busy = world(100, 100);
  busy.run(20);
  busy.ownLatencyUs = () => 5000;
  const rate = busy.run(30).resyncRate(20);
  assert.ok(rate > 80, `${rate} MiB/s`);
});

Deno.test("when the client falls silent the resync goes at full speed, and gives way again when it returns", () => {
  const busy = world(100, 100);
  busy.ownLatencyUs = (rate) => rate > 0 ? 100_000 : 1000;
  busy.run(20);
  busy.ownMibPerSecond = busy.sourceMibPerSecond = 0;
  assert.ok(busy.run(1).resyncRate(1) > 1000);
  busy.ownMibPerSecond = busy.sourceMibPerSecond = 100;
  assert.ok(busy.run(2).resyncRate(10) < 45);
});

Deno.test("a trickle does not starve the resync", () => {
  assert.ok(world(0.01, 0.01).run(10).throttle.rate(10_000) >= 8 * MIB);
});

Deno.test("an operator's limit holds, also when nothing else limits", () => {
  const idle = world(0, 0).run(10);
  idle.throttle.limitBytesPerSecond = 5 * MIB;
  assert.equal(idle.throttle.rate(10_000), 5 * MIB);
});

Deno.test("what was moved at full speed is not held against a limit that comes later", () => {
  const idle = world(0, 0).run(10);
  assert.ok(idle.movedBytes > 50 * 10 * MIB, "It ran far faster than the limit to come");
  idle.throttle.limitBytesPerSecond = 5 * MIB;
  const limited = idle.resyncRate(4);
  assert.ok(limited > 4 && limited < 6, `${limited} MiB/s`);
});

Deno.test("another source does not look like a foreground", () => {
  const { throttle } = world(0, 0).run(10);
  const nothing = { bytes: 0, serviceUs: 0 };
  throttle.observe(10_100, nothing, nothing);
  throttle.observe(10_200, nothing, { bytes: 900 * MIB, serviceUs: 700 });
  throttle.observe(10_300, nothing, { bytes: 900 * MIB, serviceUs: 700 });
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

Deno.test("the service time is the mean of the last window, and unknown when there was none", () => {
  const time = new ServiceTime(0);
  time.note(1, 10);
  time.note(3, 20);
  assert.equal(time.meanUs(50), 0);
  assert.equal(time.meanUs(100), 2000);
  time.note(9, 110);
  assert.equal(time.meanUs(150), 2000);
  assert.equal(time.meanUs(200), 9000);
  assert.equal(time.meanUs(300), 0);
});
