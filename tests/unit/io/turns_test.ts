import assert from "node:assert/strict";
import { BRIEF_WAIT_MS } from "../../../lib/io/brief_wait.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";
import { type BusyPollPolicy, Turns } from "../../../lib/io/turns.ts";

/** What a look takes. */
const LOOK_MS = 0.001;
/** So many looks a wait may begin with. */
const MOST_LOOKS = BRIEF_WAIT_MS / LOOK_MS + 1;

/** A reactor on which one event after the other is due, each so long after the worker began to wait for it. */
class World {
  nowMs = 0;
  /** Turns that did not wait, and that did. */
  lookCount = 0;
  sleepCount = 0;
  /** For how long others run whenever they may. */
  othersMs = 0;
  letCount = 0;
  /** What the last turn was told to gather. */
  gatheredUs: number | undefined;
  readonly load = { inFlightCount: 0, gatherUs: 0, endedCount: 0 };
  #dueMs = Infinity;
  #event: () => void = () => undefined;
  readonly turns: Turns;

  constructor(busyPoll: BusyPollPolicy = "auto", processorCount = 2) {
    this.turns = new Turns(this as unknown as Reactor, this.load, busyPoll, processorCount);
  }

  clockMs(): number {
    return this.nowMs;
  }

  letOthersRun(): void {
    this.letCount++;
    this.nowMs += this.othersMs;
  }

  turn(deadlineMs: number, gatherUs?: number): number {
    this.gatheredUs = gatherUs;
    if (deadlineMs === 0) {
      this.lookCount++;
      this.nowMs += LOOK_MS;
      if (this.nowMs < this.#dueMs) return 0;
    } else {
      this.sleepCount++;
      this.nowMs = Math.max(this.nowMs, this.#dueMs) + 0.015; // it takes a while to be woken
    }
    this.#dueMs = Infinity;
    this.#event();
    return 1;
  }

  /** Lets `event` happen `afterMs` from now and the worker wait for it. */
  next(afterMs: number, event: () => void): void {
    this.#dueMs = this.nowMs + afterMs;
    this.#event = event;
    this.turns.turn(1e9);
  }

  request = (): void => {
    this.load.inFlightCount++;
  };

  answer = (): void => {
    this.load.inFlightCount--;
    this.load.endedCount++;
  };

  /** `count` writes one at a time: the next one `thinkMs` after the answer, the answer `diskMs` after the request. */
  writes(count: number, thinkMs: number, diskMs: number): void {
    for (let i = 0; i < count; i++) {
      this.next(thinkMs, this.request);
      this.next(diskMs, this.answer);
    }
  }

  /** How often the worker sleeps in `count` quick writes. */
  sleepsIn(count: number): number {
    const before = this.sleepCount;
    this.writes(count, 0.02, 0.05);
    return this.sleepCount - before;
  }
}

Deno.test("one request at a time: short waits are learnt and then not slept through, each kind by itself", () => {
  const world = new World();
  world.writes(20, 0.02, 0.05);
  assert.equal(world.sleepsIn(10), 0);
  world.writes(20, 0.02, 1);
  world.sleepCount = world.lookCount = 0;
  world.writes(10, 0.02, 1);
  assert.equal(world.sleepCount, 10); // for the disk, which takes its time
  assert.ok(world.lookCount > 0);
});

Deno.test("with several requests under way each event is looked for, and each turn sends what came of it", () => {
  const world = new World();
  for (let i = 0; i < 4; i++) world.next(0.005, world.request);
  for (let i = 0; i < 20; i++) {
    world.next(0.005, world.answer);
    world.next(0.005, world.request);
  }
  world.sleepCount = world.lookCount = 0;
  for (let i = 0; i < 20; i++) {
    world.next(0.005, world.answer);
    world.next(0.005, world.request);
  }
  assert.equal(world.sleepCount, 0);
  assert.ok(world.lookCount >= 40 && world.letCount >= world.lookCount - 64, `${world.lookCount}, ${world.letCount}`);
});

Deno.test("waits that are long are slept through, and looking ends after its time", () => {
  const world = new World();
  world.writes(50, 1, 1);
  assert.equal(world.lookCount, 0);
  world.writes(20, 0.02, 0.005);
  world.lookCount = 0;
  world.writes(50, 1, 1);
  // A few waits of each kind, until it is known that they are long.
  assert.ok(world.lookCount > 0 && world.lookCount < 2 * 10 * MOST_LOOKS, `${world.lookCount}`);
  world.lookCount = 0;
  world.writes(50, 1, 1);
  assert.equal(world.lookCount, 0);
});

Deno.test("where others want the processor for long, nothing is looked for", () => {
  const world = new World();
  world.writes(20, 0.02, 0.05);
  world.othersMs = 3;
  world.writes(22_000, 0.02, 0.05);
  world.lookCount = 0;
  world.writes(32_768, 0.02, 0.05);
  // Who sleeps is let in at once when he is woken, so that his waits are short; but each kind looks only now and then.
  assert.ok(world.lookCount >= 2 && world.lookCount <= 8, `${world.lookCount}`);
  world.othersMs = 0;
  world.writes(16_500, 0.02, 0.05);
  assert.equal(world.sleepsIn(10), 0); // it is tried again
});

Deno.test("a processor that was kept once is looked on soon again", () => {
  const world = new World();
  world.writes(200, 0.02, 0.05);
  world.othersMs = 3;
  world.writes(1, 0.02, 0.05);
  world.othersMs = 0;
  world.writes(70, 0.02, 0.05);
  assert.equal(world.sleepsIn(10), 0);
});

Deno.test("with many requests under way nothing is looked for, and completions may gather", () => {
  const world = new World();
  for (let i = 0; i < 20; i++) world.next(0.005, world.request);
  world.load.gatherUs = 100;
  world.lookCount = 0;
  world.next(0.005, world.answer);
  assert.deepEqual([world.lookCount, world.gatheredUs], [0, 100]);
});

Deno.test("on the only processor one operation is looked for, and with more under way nothing", () => {
  const world = new World("auto", 1);
  world.writes(20, 0.02, 0.05);
  assert.equal(world.sleepsIn(10), 0);
  world.next(0.005, world.request);
  world.lookCount = world.sleepCount = 0;
  for (let i = 0; i < 20; i++) {
    world.next(0.005, world.request);
    world.next(0.005, world.answer);
  }
  // The second one is looked for, the answer to either is not.
  assert.ok(world.sleepCount >= 20 && world.sleepCount <= 40, `${world.sleepCount}`);
  world.next(0.005, world.request);
  world.lookCount = 0;
  world.load.gatherUs = 100;
  world.next(0.005, world.answer);
  assert.deepEqual([world.lookCount, world.gatheredUs], [0, 100]);
});

Deno.test("an idle pool sleeps, however quick its application was", () => {
  const world = new World();
  world.writes(20, 0.02, 0.005);
  world.next(100, () => undefined);
  world.lookCount = 0;
  for (let i = 0; i < 100; i++) world.next(100, () => undefined);
  assert.equal(world.lookCount, 0);
});

Deno.test("a worker that may not look sleeps for each event, and lets completions gather", () => {
  const world = new World("never");
  assert.equal(world.sleepsIn(50), 100);
  assert.equal(world.lookCount, 0);
  world.load.gatherUs = 100;
  world.next(0.005, world.request);
  assert.equal(world.gatheredUs, 100);
});
