/** Pages on a leg's disk that a record makes count again, though the leg has known better meanwhile. */

import assert from "node:assert/strict";
import { MessageType } from "../../../lib/wire/message.ts";
import { LegFixture, recordOf } from "./leg_fixture.ts";
import { UUID } from "./client_fixture.ts";

const confirmed = (leg: LegFixture) => leg.count(1, MessageType.EPOCH_DONE);

/** A leg with a record without leg 2, claimed by a client that has the one before. */
function legWithoutLeg2(): LegFixture {
  const { legs, ...rest } = recordOf({ generation: 5, epoch: 8, inSyncMask: 0b011 });
  const shared = { ...rest, legs: legs.map((entry, index) => index === 2 ? null : entry) };
  const leg = new LegFixture({
    record: { shared, promisedGeneration: 5, promisedTo: UUID, isStable: true, bootId: "boot" },
  });
  leg.greet(1);
  leg.claim(1, 6);
  leg.settle();
  return leg;
}

/** The record arrives in which leg 2 is a leg, and out of sync. */
function takeBack(leg: LegFixture, mapIncarnation: number): void {
  const { legs, ...rest } = recordOf({ generation: 6, epoch: 9, inSyncMask: 0b011 });
  const shared = {
    ...rest,
    legs: legs.map((entry, index) => index === 2 && entry !== null ? { ...entry, mapIncarnation } : entry),
  };
  leg.receive(1, MessageType.EPOCH, { requestId: 9 }, { shared, droppedMask: 0, suspectExtents: [] });
}

Deno.test("a number from before a record without the leg: all is dirty, on the disk too before the record is", () => {
  const leg = legWithoutLeg2();
  takeBack(leg, 1);
  assert.equal(leg.core.dirtyMap(2)?.count, 256);
  assert.equal(leg.metadata.length, 1, "the page, and no record yet");
  leg.endMetadata();
  assert.equal(leg.metadata.length, 1, "the record");
  assert.equal(confirmed(leg), 0);
  leg.endMetadata();
  assert.equal(confirmed(leg), 1);
});

Deno.test("a page that could not be saved is tried again before the record is written", () => {
  const leg = legWithoutLeg2();
  takeBack(leg, 1);
  leg.endMetadata(-5);
  assert.equal(leg.metadata.length, 0);
  leg.tick(1000);
  assert.equal(leg.metadata.length, 1, "the page again");
  leg.endMetadata();
  assert.equal(leg.metadata.length, 1, "the record");
});

Deno.test("a number that is new is that of a leg that was added: nothing is on the disk of it, and nothing is doubtful", () => {
  const leg = legWithoutLeg2();
  takeBack(leg, 6 * 2 ** 20 + 9);
  assert.equal(leg.core.dirtyMap(2)?.count, 0);
  assert.equal(leg.metadata.length, 1, "the record");
  leg.endMetadata();
  assert.equal(confirmed(leg), 1);
});
