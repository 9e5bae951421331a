/** What must be on a leg's disk before it confirms a record that drops another leg: all that the other may have done and this one not. */

import assert from "node:assert/strict";
import { MessageType } from "../../../lib/wire/message.ts";
import { LegFixture, recordOf } from "./leg_fixture.ts";

const EIO = -5;
const EXTENT_BYTES = 65536;

/** Zeroes the first chunk of an extent. */
function zero(leg: LegFixture, extent: number, sequence: number): void {
  leg.receive(1, MessageType.WRITE_ZEROES, {
    requestId: 100 + extent,
    offset: extent * EXTENT_BYTES,
    length: 4096,
    sequence,
  });
}

/** The record that drops leg 2 arrives, and what goes before it on the disk is done. */
function drop(leg: LegFixture): void {
  const shared = recordOf({ generation: 6, epoch: 9, inSyncMask: 0b011 });
  leg.receive(1, MessageType.EPOCH, { requestId: 9 }, { shared, droppedMask: 0b100, suspectExtents: [] });
  while (leg.flushes.length > 0) leg.endFlush();
}

/** The newest metadata write ends, before the others. */
function endNewest(leg: LegFixture, result = 0): void {
  leg.metadata.unshift(leg.metadata.pop()!);
  leg.endMetadata(result);
}

const confirmed = (leg: LegFixture) => leg.count(1, MessageType.EPOCH_DONE) - 1; // one is that of serve()

Deno.test("a leg confirms that another is dropped when the intents of all it was asked for are durable", () => {
  const leg = new LegFixture();
  leg.serve(1);
  zero(leg, 3, 2);
  drop(leg);
  assert.equal(leg.metadata.length, 2, "the intent of the write, and the record");
  endNewest(leg);
  assert.equal(confirmed(leg), 0);
  leg.endMetadata();
  assert.equal(confirmed(leg), 1);
});

Deno.test("an intent that could not be written, so that its write has failed, is written before the record is confirmed", () => {
  const leg = new LegFixture();
  leg.serve(1);
  zero(leg, 3, 2);
  leg.endMetadata(EIO);
  assert.equal(leg.sent.at(-1)?.status, EIO);
  drop(leg);
  endNewest(leg);
  assert.equal(confirmed(leg), 0);
  leg.endMetadata();
  assert.equal(confirmed(leg), 1);
});

Deno.test("where the intents cannot be written the dirty pages are", () => {
  const leg = new LegFixture();
  leg.serve(1);
  zero(leg, 3, 2);
  drop(leg);
  endNewest(leg);
  leg.endMetadata(EIO);
  assert.equal(confirmed(leg), 0);
  assert.ok(leg.metadata.length > 0, "pages are on their way");
  leg.settle();
  assert.equal(confirmed(leg), 1);
});

Deno.test("a write that waits for room in the intent log is in no intent: the dirty pages have it", () => {
  const leg = new LegFixture({ intentSlots: new Uint32Array(4).fill(0xffffffff) });
  leg.serve(1);
  // The disk does not answer the first four: nothing can be forgotten.
  for (let extent = 0; extent < 4; extent++) zero(leg, extent, 2 + extent);
  while (leg.metadata.length > 0) leg.endMetadata();
  zero(leg, 4, 6);
  assert.equal(leg.metadata.length, 0, "it waits");
  drop(leg);
  endNewest(leg);
  assert.equal(confirmed(leg), 0);
  leg.settle();
  assert.equal(confirmed(leg), 1);
});
