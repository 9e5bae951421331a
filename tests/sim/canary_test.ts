/**
 * Every canary is caught.
 *
 * @module
 */

import assert from "node:assert/strict";
import { CANARIES, MOST_SEEDS } from "./canaries.ts";

for (const { name, seedsUntilCaught } of CANARIES) {
  Deno.test(`caught: ${name}`, () => {
    assert.ok(seedsUntilCaught() <= MOST_SEEDS, `${MOST_SEEDS} worlds did not notice`);
  });
}
