/**
 * The checker itself: it accepts what is legal and complains about what is not. A checker that never complains proves nothing.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MAX_SECTORS_PER_WRITE, Oracle } from "./oracle.ts";

const A = MAX_SECTORS_PER_WRITE;
const B = 2 * MAX_SECTORS_PER_WRITE;

/** An oracle of one sector with verbs. */
class Story {
  readonly oracle = new Oracle();

  constructor() {
    this.oracle.reset(1);
  }

  begin(value: number): number {
    const invoke = this.oracle.tick();
    this.oracle.beginWrite(0, 1, value, invoke);
    return invoke;
  }

  ack(invoke: number, fua = false): this {
    this.oracle.ackWrite(0, 1, invoke, fua);
    return this;
  }

  write(value: number, fua = false): this {
    return this.ack(this.begin(value), fua);
  }

  flush(): this {
    this.oracle.ackFlush(this.oracle.tick());
    return this;
  }

  read(value: number, invoke = this.oracle.tick()): this {
    this.oracle.tick();
    this.oracle.readSector(0, value, invoke);
    return this;
  }

  refuses(value: number, invoke = this.oracle.tick()): void {
    assert.throws(() => this.read(value, invoke), /linearizable/);
  }
}

Deno.test("a fresh sector reads as zeroes and nothing else", () => {
  new Story().read(0).refuses(A);
});

Deno.test("an acked write is what is read from then on", () => {
  new Story().write(A).read(A).refuses(0);
});

Deno.test("a write in flight may or may not be seen, but once seen it stays", () => {
  const story = new Story();
  story.begin(A);
  story.read(0).read(A);
  story.refuses(0);
});

Deno.test("reads that overlap may see a write in flight in either order", () => {
  const story = new Story();
  story.begin(A);
  const slowRead = story.oracle.tick();
  story.read(A).read(0, slowRead);
});

Deno.test("of two concurrent writes either may be last, and the first reader decides", () => {
  const story = new Story();
  const first = story.begin(A);
  const second = story.begin(B);
  story.ack(first).ack(second);
  story.read(A).refuses(B);
});

Deno.test("a write that was never acked may show up late, until a later write is acked", () => {
  const story = new Story();
  story.begin(A);
  story.read(0).read(A).write(B).read(B).refuses(A);
});

Deno.test("a failed write that nobody saw is over once a later write is acked", () => {
  const story = new Story().write(B);
  const failed = story.begin(A);
  story.read(B);
  assert.ok(failed > 0);
  story.read(A).write(3 * A).read(3 * A).refuses(A);
});

Deno.test("unflushed data may go with the power, flushed data may not", () => {
  const unflushed = new Story().write(A).flush().write(B);
  unflushed.oracle.losePower();
  unflushed.read(A).refuses(B);
  const flushed = new Story().write(A).write(B).flush();
  flushed.oracle.losePower();
  flushed.read(B).refuses(A);
});

Deno.test("a write with FUA survives the power, and so does what is written after it or nothing", () => {
  const story = new Story().write(A).write(B, true);
  story.oracle.losePower();
  story.refuses(A);
});

Deno.test("a flush that began before a write was acked does not cover it", () => {
  const story = new Story().write(A);
  const flushInvoke = story.oracle.tick();
  story.write(B);
  story.oracle.ackFlush(flushInvoke);
  story.oracle.losePower();
  story.read(A).refuses(B);
});

Deno.test("without a loss of power nothing comes back", () => {
  new Story().write(A).write(B).refuses(A);
});

Deno.test("after a loss of power the first reader decides", () => {
  const story = new Story().write(A).write(B);
  story.oracle.losePower();
  story.read(B).refuses(A);
});

Deno.test("a write that is still asked for may be seen, go with the power, and be done again; one that nobody asks for may not", () => {
  const asked = new Story().write(A);
  const invoke = asked.begin(B);
  asked.read(B);
  asked.oracle.losePower(new Set([invoke]));
  asked.read(A);
  asked.oracle.ackWrite(0, 1, invoke, false);
  asked.read(B).refuses(A);
  const over = new Story().write(A);
  over.begin(B);
  over.read(B);
  over.oracle.losePower();
  over.read(A).refuses(B);
});

Deno.test("a failed flush promises nothing of what was before it, and neither does the next one", () => {
  const story = new Story().write(A).write(B);
  story.oracle.failFlush();
  story.flush();
  story.oracle.losePower();
  story.read(A);
});

Deno.test("zeroes of several writes are told apart from data but not from each other", () => {
  const story = new Story().write(A);
  story.begin(0);
  story.read(A).read(0).refuses(A);
});

Deno.test("what a fenced client never got an answer for has happened by then, or never will", () => {
  const story = new Story().write(A);
  const invoke = story.begin(B);
  story.oracle.settle(story.oracle.tick());
  assert.ok(invoke > 0);
  story.write(3 * A).read(3 * A).refuses(B);
});

Deno.test("what a fenced client never got an answer for may have happened", () => {
  const story = new Story().write(A);
  story.begin(B);
  story.oracle.settle(story.oracle.tick());
  story.read(B).refuses(A);
});
