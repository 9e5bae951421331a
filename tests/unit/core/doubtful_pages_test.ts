/** Pages on a leg's disk that a record makes count again, though the leg has known better meanwhile. */

import assert from "node:assert/strict";
import { MessageType } from "../../../lib/wire/message.ts";
import { LegFixture, recordOf } from "./leg_fixture.ts";
import { incarnationBefore } from "../../../lib/core/incarnations.ts";
import type { LegEntry } from "../../../lib/disk_format/records.ts";
import { UUID, uuidOf } from "./client_fixture.ts";

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

Deno.test("who claims a leg whose pages cannot be saved is refused, and is not kept waiting", () => {
  const leg = legWithoutLeg2();
  takeBack(leg, 1);
  leg.endMetadata(-28);
  leg.close(1);
  leg.settle();
  leg.greet(2);
  leg.claim(2, 7);
  leg.endFlush();
  leg.tick(1000);
  leg.endMetadata(-28);
  assert.equal(leg.count(2, MessageType.REFUSE), 1);
  // Once they can, the next one is granted.
  leg.close(2);
  leg.greet(3);
  leg.claim(3, 8);
  leg.tick(2000);
  leg.settle();
  assert.equal(leg.count(3, MessageType.GRANT), 1);
});

Deno.test("a disk that was taken up in another's place under a history begun by force, for this leg only, and is given up", () => {
  const mapIncarnation = incarnationBefore(UUID) + 2;
  const { legs, ...rest } = recordOf({ generation: 5, epoch: 7, inSyncMask: 0b011 });
  const before = (entry: LegEntry | null, index: number) =>
    index === 2 && entry !== null ? { ...entry, mapIncarnation } : entry;
  const adopted = (entry: LegEntry | null, index: number) =>
    index === 2 && entry !== null
      ? { ...entry, uuid: uuidOf(9), mapIncarnation: 5 * 2 ** 20 + 8, mapDefaultDirty: true }
      : entry;
  const leg = new LegFixture({
    record: {
      shared: { ...rest, epoch: 8, legs: legs.map(adopted) },
      promisedGeneration: 5,
      promisedTo: UUID,
      isStable: true,
      bootId: "boot",
    },
  });
  leg.greet(1);
  leg.claim(1, 6);
  leg.settle();
  const shared = { ...rest, generation: 6, epoch: 9, legs: legs.map(before) };
  leg.receive(1, MessageType.EPOCH, { requestId: 9 }, { shared, droppedMask: 0, suspectExtents: [] });
  assert.equal(leg.core.dirtyMap(2)?.count, 256);
  assert.equal(leg.metadata.length, 1);
  leg.settle();
  // A disk that is really taken up has a number that is new.
  const next = {
    ...rest,
    generation: 6,
    epoch: 10,
    legs: legs.map((entry, index) =>
      index === 2 && entry !== null
        ? { ...entry, uuid: uuidOf(8), mapIncarnation: 6 * 2 ** 20 + 10, mapDefaultDirty: true }
        : entry
    ),
  };
  leg.receive(1, MessageType.EPOCH, { requestId: 10 }, { shared: next, droppedMask: 0, suspectExtents: [] });
  assert.equal(leg.metadata.length, 1, "the record");
  leg.endMetadata();
  assert.equal(leg.count(1, MessageType.EPOCH_DONE), 2);
});
