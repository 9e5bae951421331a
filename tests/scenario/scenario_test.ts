/**
 * Every scenario goes as its file tells, and catches the broken cores that chance hardly finds.
 *
 * @module
 */

import assert from "node:assert/strict";
import { CANNOT_PLANT, SCENARIO_CANARIES } from "../sim/canaries.ts";
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

for (const { name, scenario, plant } of SCENARIO_CANARIES) {
  Deno.test(`caught by ${scenario}: ${name}`, () => {
    checkScenario(scenario);
    plant(() => assert.throws(() => checkScenario(scenario), (error: Error) => !error.message.includes(CANNOT_PLANT)));
  });
}
