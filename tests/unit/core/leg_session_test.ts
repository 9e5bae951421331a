/** Who may use a leg, and how much of it. */

import assert from "node:assert/strict";
import { MessageType } from "../../../lib/wire/message.ts";
import { LegFixture, recordOf } from "./leg_fixture.ts";

const OTHER = "22222222-2222-4333-8444-555555555555";
const READ = { offset: 0, length: 4096 };

Deno.test("a claim is granted by its own promise, not by that of the claim before", () => {
  const leg = new LegFixture();
  leg.greet(1);
  leg.claim(1, 6);
  leg.endFlush();
  assert.equal(leg.metadata.length, 1, "the promise to 1 is on its way");
  leg.close(1);
  leg.greet(2);
  leg.claim(2, 7, OTHER);
  leg.endFlush();
  assert.equal(leg.metadata.length, 2, "and that to 2 behind it");
  leg.endMetadata();
  assert.equal(leg.count(2, MessageType.GRANT), 0);
  leg.endMetadata();
  assert.equal(leg.count(2, MessageType.GRANT), 1);
});

Deno.test("a promise that could not be written fails its own claim only", () => {
  const leg = new LegFixture();
  leg.greet(1);
  leg.claim(1, 6);
  leg.endFlush();
  leg.close(1);
  leg.greet(2);
  leg.claim(2, 7, OTHER);
  leg.endFlush();
  leg.endMetadata(-5);
  leg.endMetadata();
  assert.equal(leg.count(2, MessageType.GRANT), 1);
  assert.equal(leg.count(2, MessageType.REFUSE), 0);
});

Deno.test("a client that detaches again and again is answered once, and brings nobody down", () => {
  const leg = new LegFixture();
  leg.serve(1);
  for (let i = 0; i < 2000; i++) leg.receive(1, MessageType.DETACH, { requestId: i });
  assert.equal(leg.flushes.length, 1);
  leg.settle();
  const acks = leg.sent.filter(({ connection, type }) => connection === 1 && type === MessageType.ACK);
  assert.deepEqual(acks.map(({ requestId, status }) => [requestId, status]), [[0, 0]]);
});

Deno.test("clients that claim and go away do not fill a disk that hangs with flushes; the last one is granted when it goes on", () => {
  const leg = new LegFixture();
  for (let connection = 1; connection <= 2000; connection++) {
    leg.greet(connection);
    leg.claim(connection, 5 + connection, OTHER);
    if (connection < 2000) leg.close(connection);
  }
  assert.ok(leg.flushes.length <= 4);
  leg.settle();
  assert.equal(leg.count(2000, MessageType.GRANT), 1);
});

Deno.test("a client that sends far more than it was granted is told so and closed, and the end of its session is flushed", () => {
  const leg = new LegFixture({ creditRequests: 8 });
  leg.serve(1);
  for (let i = 0; i < 1000 && leg.closed.length === 0; i++) leg.receive(1, MessageType.READ, { requestId: i, ...READ });
  assert.deepEqual(leg.closed, [1]);
  assert.equal(leg.count(1, MessageType.REFUSE), 1);
  leg.receive(1, MessageType.DETACH, { requestId: 3 });
  assert.equal(leg.flushes.length, 1);
});

Deno.test("with the table full, a detach and a record that drops a member are flushed all the same", () => {
  const leg = new LegFixture({ creditRequests: 8 });
  leg.serve(1);
  leg.receive(1, MessageType.PING, { watermark: 1 });
  leg.greet(2);
  // Hashes are asked for beside the requests: they are refused when there is no room.
  for (let i = 0; i < 1000; i++) leg.receive(1, MessageType.HASH, { requestId: i, ...READ });
  const shared = recordOf({ generation: 6, epoch: 9, inSyncMask: 0b011 });
  leg.receive(1, MessageType.EPOCH, { requestId: 2 }, { shared, droppedMask: 0b100, suspectExtents: [] });
  leg.receive(1, MessageType.DETACH, { requestId: 3 });
  assert.equal(leg.flushes.length, 2);
});

Deno.test("what a session wrote is flushed also when the claim that ended it goes away", () => {
  const leg = new LegFixture();
  leg.serve(1);
  leg.greet(2);
  leg.claim(2, 7, OTHER);
  assert.equal(leg.flushes.length, 1, "that of the claim");
  leg.close(2);
  leg.settle();
  assert.equal(leg.core.snapshot().record.isStable, true);
});

Deno.test("a flush that fails when a later one has ended well takes back that all is stable", () => {
  const leg = new LegFixture();
  leg.serve(1);
  leg.close(1);
  leg.greet(2);
  leg.claim(2, 7, OTHER);
  assert.equal(leg.flushes.length, 2, "of the session that has ended, and of the claim");
  leg.flushes.reverse();
  leg.endFlush();
  leg.settleMetadata();
  assert.equal(leg.core.snapshot().record.isStable, true);
  leg.endFlush(-5);
  leg.settleMetadata();
  const { isStable, bootId } = leg.core.snapshot().record;
  assert.deepEqual([isStable, bootId], [false, ""]);
});

Deno.test("a disk that takes no record is told of once", () => {
  const leg = new LegFixture();
  leg.serve(1);
  leg.receive(1, MessageType.FLUSH, { requestId: 20, sequence: 5, watermark: 1 });
  leg.endFlush(-5);
  for (let second = 1; second <= 9; second++) {
    assert.equal(leg.metadata.length, 1, "it is tried again");
    leg.endMetadata(-5);
    leg.tick(second * 1000);
  }
  assert.equal(leg.events.filter((name) => name === "metadata-failed").length, 1);
});
