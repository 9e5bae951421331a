/**
 * The account of what may be lost, told one record at a time.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { SharedEpoch } from "../../lib/disk_format/records.ts";
import { Losses } from "./losses.ts";
import type { World } from "./world.ts";

const HISTORY = "a0000000-0000-4000-8000-000000000000";

function record(epoch: number, inSyncMask: number): SharedEpoch {
  return {
    historyId: HISTORY,
    historyNumber: 1,
    generation: 3,
    clientGeneration: 3,
    epoch,
    inSyncMask,
    minInSync: 2,
    ioTimeoutMs: 1000,
    legs: [],
  };
}

/** Legs 0 and 1 serve; what is told of durability and of losses is noted. */
function begin() {
  const told: string[] = [];
  const world = {
    plan: { bootsAreKnown: true },
    histories: { isServed: () => true, recordSent: () => undefined },
    application: { noteOldestRead: () => undefined },
    clients: [],
    note: () => undefined,
    oracle: {
      tick: () => 7,
      ackFlush: (tick: number) => told.push(`durable ${tick}`),
      losePower: () => told.push("lost"),
    },
  };
  const losses = new Losses(world as unknown as World, record(5, 0b011));
  for (const leg of [0, 1]) losses.recordLanded(leg, record(5, 0b011));
  losses.recordSent(record(5, 0b011));
  return { losses, told };
}

Deno.test("a record that drops a member counts on none who is one only by a record that has not reached all", () => {
  const { losses, told } = begin();
  // A third leg joins, and a member is dropped; both records reach the third leg alone.
  losses.recordSent(record(6, 0b111));
  losses.recordSent(record(7, 0b101));
  losses.recordLanded(2, record(6, 0b111));
  losses.recordLanded(2, record(7, 0b101));
  assert.deepEqual(told, []);
  // The two that were members before may start without it.
  losses.powerLost(0);
  losses.powerLost(1);
  assert.deepEqual(told, ["lost"]);
});

Deno.test("a record that drops a member counts on the members that have it", () => {
  const { losses, told } = begin();
  losses.recordSent(record(6, 0b111));
  losses.recordSent(record(7, 0b101));
  losses.recordLanded(2, record(7, 0b101));
  losses.recordLanded(0, record(7, 0b101));
  assert.deepEqual(told, ["durable 7"]);
  losses.powerLost(1);
  assert.deepEqual(told, ["durable 7"]);
});
