/** Which sets of legs a client may go to, against all the ways in which legs could start. */

import assert from "node:assert/strict";
import { foundingRecord, type GrantedLeg, planStart } from "../../../lib/core/epoch_changes.ts";
import { bitCount, decideStart, indicesOf, maySetChange } from "../../../lib/core/start_rule.ts";
import type { Grant } from "../../../lib/wire/bodies.ts";
import { sharedEpoch, uuidOf } from "./client_fixture.ts";

const LEGS = 4;

/** Whether the legs of `mask`, all of which hold the record with the set `inSyncMask`, could start. */
function mayStart(mask: number, inSyncMask: number, minInSync: number): boolean {
  const shared = sharedEpoch({ inSyncMask, minInSync }, LEGS);
  const evidence = indicesOf(mask).map((legIndex) => ({ legIndex, legUuid: uuidOf(legIndex), shared, isWhole: true }));
  return decideStart(evidence).ok;
}

/** Whether some legs could start from the set `one` while others, none of which is among them, could from `other`. */
function mayGoApart(one: number, other: number, minInSync: number): boolean {
  for (let first = 1; first < 1 << LEGS; first++) {
    if (!mayStart(first, one, minInSync)) continue;
    for (let second = 1; second < 1 << LEGS; second++) {
      if ((first & second) === 0 && mayStart(second, other, minInSync)) return true;
    }
  }
  return false;
}

Deno.test("a client goes to a set exactly when no legs could start without any of those of the set before", () => {
  let allowed = 0;
  for (let minInSync = 1; minInSync <= 3; minInSync++) {
    for (let former = 1; former < 1 << LEGS; former++) {
      if (bitCount(former) < minInSync) continue; // not served at all
      for (let next = 1; next < 1 << LEGS; next++) {
        const isSafe = (former & next) !== 0 && bitCount(next) >= minInSync && !mayGoApart(former, next, minInSync);
        assert.equal(maySetChange(former, next, minInSync), isSafe, `${former} to ${next}, at least ${minInSync}`);
        allowed += Number(isSafe);
      }
    }
  }
  assert.ok(allowed > 100, "Most changes are allowed");
});

/** A leg that has granted a claim and holds the record of this epoch and set; `intentsLost`: it cannot say what it was writing. */
function granted(legIndex: number, epoch: number, inSyncMask: number, minInSync = 1, intentsLost = false): GrantedLeg {
  const shared = sharedEpoch({ epoch, inSyncMask, minInSync }, LEGS);
  const grant = { record: { shared }, intents: [], unbroken: true, intentsLost };
  return { legIndex, legUuid: uuidOf(legIndex), grant: grant as unknown as Grant };
}

Deno.test("a leg is left out only when it holds the newest record: otherwise all get that one first, for the same set", () => {
  const unaware = planStart([granted(0, 7, 0b01, 1, true), granted(1, 8, 0b11)], 0, 16, null);
  assert.ok(unaware.ok && unaware.isOnlySpread);
  assert.equal(unaware.memberMask, 0b11);
  assert.equal(foundingRecord(unaware, 3, false, undefined).inSyncMask, 0b11);
  const aware = planStart([granted(0, 8, 0b11, 1, true), granted(1, 8, 0b11)], 0, 16, null);
  assert.ok(aware.ok && !aware.isOnlySpread);
  assert.equal(aware.memberMask, 0b10);
});

Deno.test("an absent leg is left out only when all that are here hold a record of this claim with the set of before", () => {
  // Legs 0, 1 and 2 were in sync, leg 3 was to join. By what leg 1 holds it could start with leg 0.
  const unaware = planStart(
    [granted(1, 7, 0b0111, 2), granted(2, 8, 0b1111, 2), granted(3, 8, 0b1111, 2)],
    0,
    16,
    null,
  );
  assert.ok(unaware.ok && unaware.isOnlySpread);
  assert.equal(unaware.memberMask, 0b1110);
  assert.equal(foundingRecord(unaware, 3, false, undefined).inSyncMask, 0b1111, "Leg 0 is in it still");
  // Leg 0 may hold a record, made from the same one, that leaves out another: with it and leg 1 or 2 it could start.
  const aware = [1, 2, 3].map((index) => granted(index, 8, 0b1111, 2));
  const first = planStart(aware, 0, 16, null);
  assert.ok(first.ok && first.isOnlySpread);
  const spread = foundingRecord(first, 9, false, undefined);
  const held = aware.map((leg) => ({
    ...leg,
    grant: { ...leg.grant, record: { shared: spread } } as unknown as Grant,
  }));
  const second = planStart(held, 0, 16, null, spread);
  assert.ok(second.ok && !second.isOnlySpread);
  assert.equal(foundingRecord(second, 9, false, undefined).inSyncMask, 0b1110);
  const byAnother = planStart(held, 0, 16, null);
  assert.ok(byAnother.ok && byAnother.isOnlySpread, "Another claim gives them one of its own");
});

Deno.test("members that are all here need no record first, whatever they hold", () => {
  const plan = planStart([granted(0, 7, 0b01), granted(1, 8, 0b11)], 0, 16, null);
  assert.ok(plan.ok && !plan.isOnlySpread);
});
