/**
 * Every canary is caught.
 *
 * @module
 */

import assert from "node:assert/strict";
import { CANARIES, MOST_SEEDS } from "./canaries.ts";

/**
 * Worlds that have caught what few worlds catch: there the search begins, for this runs before every commit. A change of the
 * core or the simulator may move them; then the search takes longer. `deno task canaries` begins with the first world.
 */
const BEGINS_AT: Readonly<Record<string, number>> = {
  "a verify does not lock what it compares": 748,
  "a record drops a leg before its data is flushed": 488,
  "an epoch's suspicions are ignored": 150,
  "a flush's watermark runs ahead of it": 117,
  "the last leg in sync is removed": 106,
  "a reader believes what one leg says": 85,
  "a leg under resync serves chunks that it lacks": 70,
  "a new disk is taken for a copy of the old one": 60,
  "an epoch is confirmed before it is durable": 37,
};

for (const { name, seedsUntilCaught } of CANARIES) {
  Deno.test(`caught: ${name}`, () => {
    assert.ok(seedsUntilCaught(BEGINS_AT[name]) <= MOST_SEEDS, `${MOST_SEEDS} worlds did not notice`);
  });
}

Deno.test("what is begun late is a canary", () => {
  const names = CANARIES.map(({ name }) => name);
  assert.deepEqual(Object.keys(BEGINS_AT).filter((name) => !names.includes(name)), []);
});
