/** What a start is refused for, and what a forced one goes on from. */

import assert from "node:assert/strict";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import { decideForced, forcedText, forceRiskText, isRivalHistory } from "../../../lib/core/forced_start.ts";
import { decideStart, type LegEvidence } from "../../../lib/core/start_rule.ts";
import { sharedEpoch, uuidOf } from "./client_fixture.ts";

function leg(legIndex: number, change: Partial<SharedEpoch> = {}): LegEvidence {
  return { legIndex, legUuid: uuidOf(legIndex), shared: sharedEpoch(change), isWhole: true };
}

function reasonOf(evidence: LegEvidence[]): string {
  const decision = decideStart(evidence);
  assert.ok(!decision.ok);
  return decision.reason;
}

Deno.test("a refusal names the leg that is missed and what force would give up", () => {
  const evidence = [leg(0), leg(1)];
  assert.match(reasonOf(evidence), /^leg 2 \(h2:1\) may have gone on without/);
  assert.match(forceRiskText(evidence), /start from leg 0 and leg 1 .* only on leg 2 would be lost/);
});

Deno.test("a refusal tells since when a leg is out", () => {
  const record = sharedEpoch({ inSyncMask: 0b001 });
  const legs = record.legs.map((entry, index) => index === 0 ? { ...entry!, outSinceMs: Date.UTC(2026, 0, 2) } : entry);
  assert.match(reasonOf([leg(1, { inSyncMask: 0b001, legs })]), /leg 0 \(h0:1, out since 2026-01-02T00:00:00.000Z\)/);
});

Deno.test("force goes on from the members of the newest record that are here", () => {
  const decision = decideForced([leg(0), leg(1, { epoch: 9, inSyncMask: 0b110 })], 0);
  assert.ok(decision.ok);
  assert.deepEqual([decision.memberMask, decision.historyNumber, decision.isMixture], [0b010, 1, false]);
});

Deno.test("force goes on from a leg that was out of sync only when there is no other, and says so", () => {
  const decision = decideForced([leg(0, { inSyncMask: 0b100 })], 0);
  assert.ok(decision.ok);
  assert.deepEqual([decision.memberMask, decision.isMixture], [0b001, true]);
  assert.match(forcedText(decision.record, decision.memberMask, 1, true), /older in one place than in another/);
});

Deno.test("force without legs to start from is refused", () => {
  assert.equal(decideForced([], 0).ok, false);
  assert.equal(decideForced([leg(0)], 0b001).ok, false);
});

Deno.test("a history of a higher number counts, however high the records of an older one are", () => {
  const forced = { historyId: "two", historyNumber: 1, generation: 3, epoch: 2, inSyncMask: 0b001 };
  const decision = decideStart([leg(0, forced), leg(1, { generation: 90, epoch: 90 })]);
  assert.ok(decision.ok);
  assert.deepEqual([decision.memberMask, decision.record.historyId], [0b001, "two"]);
});

Deno.test("a founding member that the founding record did not reach is one, unless it has gone on since", () => {
  const founding = { historyId: "two", historyNumber: 1, generation: 6, inSyncMask: 0b011 };
  const decision = decideStart([leg(0, founding), leg(1, { generation: 5 })]);
  assert.ok(decision.ok);
  assert.equal(decision.memberMask, 0b011);
  assert.match(reasonOf([leg(0, founding), leg(1, { generation: 7 })]), /leg 0 .* against leg 1/);
});

Deno.test("two histories of one number are a split: refused, naming both, until one is given up", () => {
  const one = leg(0, { historyId: "two", historyNumber: 1, inSyncMask: 0b001 });
  const other = leg(1, { historyId: "three", historyNumber: 1, inSyncMask: 0b010, generation: 8 });
  const reason = reasonOf([one, other]);
  assert.match(reason, /leg 0 .*leg 1 .*--force --without 0, or --force --without 1/);
  const more = leg(3, { historyId: "two", historyNumber: 1, inSyncMask: 0b1001 });
  assert.match(
    reasonOf([one, other, more]),
    /leg 0 .*, leg 3 .* against leg 1 .* attach with --force --without 0 --without 3, or --force --without 1$/,
  );
  assert.ok(decideForced([one, other, more], 0b1001).ok);
  const undecided = decideForced([one, other], 0);
  assert.ok(!undecided.ok && undecided.reason === reason);
  const decided = decideForced([one, other], 0b010);
  assert.ok(decided.ok);
  assert.deepEqual([decided.record.historyId, decided.memberMask, decided.historyNumber], ["two", 0b001, 2]);
  assert.ok(decideStart([one, other, leg(2, { historyId: "four", historyNumber: 2, inSyncMask: 0b100 })]).ok);
});

Deno.test("the number of a forced history is above those of the legs that are given up, too", () => {
  const decision = decideForced([leg(0), leg(1, { historyId: "nine", historyNumber: 9, inSyncMask: 0b010 })], 0b010);
  assert.ok(decision.ok);
  assert.equal(decision.historyNumber, 10);
});

Deno.test("a leg may be overwritten by a newer history, never by an equal or older one", () => {
  const latest = sharedEpoch({ historyId: "two", historyNumber: 1 });
  assert.equal(isRivalHistory(sharedEpoch(), latest), false);
  assert.equal(isRivalHistory(latest, latest), false);
  assert.equal(isRivalHistory(sharedEpoch({ historyId: "three", historyNumber: 1 }), latest), true);
  assert.equal(isRivalHistory(sharedEpoch({ historyId: "three", historyNumber: 2 }), latest), true);
});

Deno.test("a founding member that has gone on in the older history makes two sides, whichever could start", () => {
  const founding = { historyId: "two", historyNumber: 1, generation: 6, inSyncMask: 0b101, minInSync: 1 };
  const later = { generation: 6, epoch: 9, inSyncMask: 0b110 };
  const evidence = [leg(0, founding), leg(1, later), leg(2, later)];
  assert.match(
    reasonOf(evidence),
    /leg 0 .* against leg 1 .*, leg 2 .*with --force --without 0, or --force --without 1/s,
  );
  assert.equal(decideForced(evidence, 0).ok, false);
  assert.equal(forceRiskText(evidence), "");
  const older = decideForced(evidence, 0b001);
  assert.ok(older.ok);
  assert.deepEqual([older.memberMask, older.record.generation, older.historyNumber], [0b110, 6, 2]);
  const newer = decideForced(evidence, 0b110);
  assert.ok(newer.ok);
  assert.deepEqual([newer.memberMask, newer.record.historyId], [0b001, "two"]);
});

Deno.test("one that the newest history did not count on may have gone on as it likes", () => {
  const decision = decideStart([
    leg(0, { historyId: "two", historyNumber: 1, generation: 6, inSyncMask: 0b001 }),
    leg(1, { generation: 9, inSyncMask: 0b110 }),
  ]);
  assert.ok(decision.ok);
  assert.equal(decision.memberMask, 0b001);
});
