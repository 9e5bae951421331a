/**
 * A peer may send anything: at least a million cases of it, always the same ones. Longer and other runs: see fuzz_run.ts.
 *
 * @module
 */

import { playTarget, shareOf } from "./fuzz_run.ts";
import { FUZZ_TARGETS } from "./fuzz_targets.ts";

const SEED = 20_261;
const CASE_COUNT = 1_000_000;

for (const target of FUZZ_TARGETS) {
  const caseCount = shareOf(target, FUZZ_TARGETS, CASE_COUNT);
  Deno.test(`fuzz ${target.name}: ${caseCount} cases do no harm`, () => playTarget(target, SEED, caseCount));
}
