/** What a start plans, and writes into the leg table. */

import assert from "node:assert/strict";
import { foundingRecord, type GrantedLeg, planStart, type StartPlan } from "../../../lib/core/epoch_changes.ts";
import { randomUuid } from "../../../lib/base/uuid.ts";
import type { Grant } from "../../../lib/wire/bodies.ts";
import { sharedEpoch, uuidOf } from "./client_fixture.ts";

function plan(historyId: string | null): StartPlan & { ok: true } {
  return {
    ok: true,
    record: sharedEpoch({ inSyncMask: 0b110 }),
    memberMask: 0b001,
    isOnlySpread: false,
    doubtMask: 0,
    isAllUnknown: false,
    suspects: [],
    forced: historyId === null ? null : { historyId, historyNumber: 1, isMixture: true },
  };
}

function incarnations(historyId: string | null): number[] {
  return foundingRecord(plan(historyId), 2, false, undefined).legs.map((entry) => entry!.mapIncarnation);
}

Deno.test("maps of a history that begins by force have numbers that no map of another history has", () => {
  const usual = incarnations(null);
  const forced = [
    randomUuid(),
    randomUuid(),
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
  ]
    .map(incarnations);
  const numbers = [usual, ...forced].map((each) => new Set(each));
  for (let i = 0; i < numbers.length; i++) {
    for (let j = 0; j < i; j++) {
      assert.ok(numbers[i].isDisjointFrom(numbers[j]), `${[...numbers[i]]} and ${[...numbers[j]]}`);
    }
  }
  for (const number of forced.flat()) assert.ok(Number.isSafeInteger(number + 2 ** 50) && number > 2 ** 51);
});

Deno.test("legs that are left out of a forced start may lack anything; the others' maps are clean", () => {
  const { legs } = foundingRecord(plan(randomUuid()), 2, false, undefined);
  assert.deepEqual(legs.map((entry) => entry!.mapDefaultDirty), [false, true, true]);
});

/** A leg whose client has died: its log names `count` extents from `first` on. */
function granted(legIndex: number, first: number, count: number): GrantedLeg {
  const intents = Array.from({ length: count }, (_, at) => first + at);
  const grant = { record: { shared: sharedEpoch({}, 2) }, intents, unbroken: true, intentsLost: false };
  return { legIndex, legUuid: uuidOf(legIndex), grant: grant as unknown as Grant };
}

Deno.test("a start is refused when its legs' logs together name more extents than one order can hold, and only then", () => {
  const plan = planStart([granted(0, 0, 40_000), granted(1, 25_536, 40_000)], 0, 1 << 20, null);
  assert.ok(plan.ok);
  assert.equal(plan.suspects.length, 65_536);
  const refused = planStart([granted(0, 0, 40_000), granted(1, 25_537, 40_000)], 0, 1 << 20, null);
  assert.ok(!refused.ok);
  assert.match(refused.reason, /name 65537 extents/);
});
