/** What a leg does when a page of a dirty map cannot be written. */

import assert from "node:assert/strict";
import { MessageType } from "../../../lib/wire/message.ts";
import { LegFixture, recordOf } from "./leg_fixture.ts";

const EIO = -5;

/** A leg that serves with the members of `inSyncMask`, while leg 2 is away; and how a record comes that says what leg 2 may lack. */
function withLegAway(inSyncMask: number) {
  const leg = new LegFixture();
  leg.serve(1);
  const epoch = (number: number, suspectExtents: number[]) => {
    const shared = recordOf({ generation: 6, epoch: number, inSyncMask });
    leg.receive(1, MessageType.EPOCH, { requestId: number }, { shared, droppedMask: 0, suspectExtents });
  };
  epoch(9, []);
  leg.settle();
  leg.sent.length = 0;
  return { leg, epoch };
}

/** All that the leg writes to its metadata fails, for as long as it writes more; returns how much. */
function failMetadata(leg: LegFixture): number {
  let count = 0;
  for (; leg.metadata.length > 0; count++) {
    assert.ok(count < 20, "What fails is not tried again at once");
    leg.endMetadata(EIO);
  }
  return count;
}

Deno.test("a record is refused when what it suspects cannot be recorded, with all that stand behind it", () => {
  const { leg, epoch } = withLegAway(0b011);
  epoch(10, [0]);
  epoch(11, []);
  leg.endMetadata();
  assert.equal(leg.count(1, MessageType.EPOCH_DONE), 0);
  leg.endMetadata();
  assert.equal(failMetadata(leg), 1, "the page");
  assert.deepEqual(
    leg.sent.filter(({ type }) => type === MessageType.REFUSE).map(({ requestId }) => requestId),
    [10, 11],
  );
  assert.equal(leg.count(1, MessageType.EPOCH_DONE), 0);
  epoch(12, []);
  leg.endMetadata();
  assert.equal(leg.count(1, MessageType.EPOCH_DONE), 0, "what the refused ones suspected is not on the disk yet");
  leg.tick(1000);
  leg.settle();
  assert.equal(leg.count(1, MessageType.EPOCH_DONE), 1);
});

Deno.test("the last leg in sync lets a record wait, and tries from time to time; one that comes behind it ends that", () => {
  const { leg, epoch } = withLegAway(0b001);
  epoch(10, [0]);
  leg.endMetadata();
  for (let nowMs = 1000; nowMs <= 8000; nowMs += 1000) {
    leg.tick(nowMs);
    failMetadata(leg);
  }
  assert.equal(leg.count(1, MessageType.REFUSE), 0);
  assert.equal(leg.events.filter((name) => name === "metadata-failed").length, 1);
  epoch(11, []);
  leg.endMetadata();
  leg.tick(9000);
  failMetadata(leg);
  assert.equal(leg.count(1, MessageType.REFUSE), 2);
});

Deno.test("a detach ends with the error when a page cannot be written", () => {
  const { leg, epoch } = withLegAway(0b001);
  epoch(10, [0]);
  leg.endMetadata();
  leg.tick(1000);
  leg.receive(1, MessageType.DETACH, { requestId: 50 });
  leg.endFlush();
  failMetadata(leg);
  const acks = leg.sent.filter(({ type }) => type === MessageType.ACK);
  assert.deepEqual(acks.map(({ requestId, status }) => [requestId, status]), [[50, EIO]]);
  assert.equal(leg.core.isHeld, false);
});
