/**
 * Every scenario goes as its file tells.
 *
 * @module
 */

import assert from "node:assert/strict";
import { checkScenario, scenarioNames } from "./main.ts";

for (const name of scenarioNames()) {
  Deno.test(`scenario ${name}`, () => {
    const { wanted, found } = checkScenario(name);
    assert.equal(found, wanted);
  });
}

Deno.test("there are scenarios", () => {
  assert.ok(scenarioNames().length >= 12);
});
