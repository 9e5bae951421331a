import assert from "node:assert/strict";
import { BRIEF_WAIT_MS } from "../../../lib/io/brief_wait.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";
import { ClientTurns } from "../../../lib/node/client_turns.ts";

/** A reactor on which one event after the other is due, each so long after the worker began to wait for it. */
class World {
  nowMs = 0;
  /** Turns that did not wait, and that did. */
  lookCount = 0;
  sleepCount = 0;
  readonly load = { inFlightCount: 0, gatherUs: 0, startedCount: 0, endedCount: 0 };
  #dueMs = Infinity;
  #event: () => void = () => undefined;
  readonly turns = new ClientTurns(this as unknown as Reactor, this.load);

  clockMs(): number {
    return this.nowMs;
  }

  turn(deadlineMs: number): number {
    if (deadlineMs === 0) {
      this.lookCount++;
      this.nowMs += 0.001;
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
    this.load.startedCount++;
  };

  answer = (): void => {
    this.load.inFlightCount--;
    this.load.endedCount++;
  };

  /** `count` writes one at a time: the next one `thinkMs` after the answer, the second leg `lagMs` behind the first. */
  writes(count: number, thinkMs: number, lagMs: number): void {
    for (let i = 0; i < count; i++) {
      this.next(thinkMs, this.request);
      this.next(0.1, () => undefined);
      this.next(lagMs, this.answer);
    }
  }
}

Deno.test("one request at a time: short waits are learnt and then not slept through", () => {
  const world = new World();
  world.writes(20, 0.02, 0.005);
  world.sleepCount = 0;
  world.writes(10, 0.02, 0.005);
  assert.equal(world.sleepCount, 10); // for the first leg, which takes its time
});

Deno.test("waits that are long are slept through, and looking ends after its time", () => {
  const world = new World();
  world.writes(50, 1, 1);
  assert.equal(world.lookCount, 0);
  world.writes(20, 0.02, 0.005);
  world.lookCount = 0;
  world.writes(50, 1, 1);
  // A few waits of each kind, until it is known that they are long.
  assert.ok(world.lookCount > 0 && world.lookCount < 2 * 10 * (BRIEF_WAIT_MS / 0.001 + 1), `${world.lookCount}`);
  world.lookCount = 0;
  world.writes(50, 1, 1);
  assert.equal(world.lookCount, 0);
});

Deno.test("an idle pool sleeps, however quick its application was", () => {
  const world = new World();
  world.writes(20, 0.02, 0.005);
  world.next(100, () => undefined);
  world.lookCount = 0;
  for (let i = 0; i < 100; i++) world.next(100, () => undefined);
  assert.equal(world.lookCount, 0);
});

Deno.test("with several requests under way nothing is looked for, and each turn sends what came of it", () => {
  const world = new World();
  for (let i = 0; i < 4; i++) world.next(0.001, world.request);
  for (let i = 0; i < 20; i++) {
    world.next(0.001, world.answer);
    world.next(0.001, world.request);
  }
  assert.deepEqual([world.lookCount, world.sleepCount], [0, 44]);
});
