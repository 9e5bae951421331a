/**
 * Runs fuzz targets: from a seed, so that what fails can be seen again.
 *
 * A target is a function that plays one case, drawn from the generator it is given, and throws when something is wrong. It
 * may keep state from case to case; the cases of one target are then one history, which the seed repeats.
 *
 * By hand: `deno run tests/fault/fuzz_run.ts [--seed S] [--cases N | --seconds S] [--target NAME]`. Exit code 1 on a failure.
 *
 * @module
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { Prng } from "../../lib/base/prng.ts";
import { FUZZ_TARGETS } from "./fuzz_targets.ts";

/** What is fuzzed, and how large a part of all cases it gets. */
export interface FuzzTarget {
  readonly name: string;
  readonly share: number;
  /** Makes the function that plays one case. */
  readonly make: () => (random: Prng) => void;
}

/** A case failed. The message says how to repeat it. */
export class FuzzFailure extends Error {
  override name = "FuzzFailure";
}

/** Plays `caseCount` cases of one target. Throws {@link FuzzFailure}. */
export function playTarget(target: FuzzTarget, seed: number, caseCount: number): void {
  const random = new Prng(seed);
  const play = target.make();
  for (let i = 0; i < caseCount; i++) {
    try {
      play(random);
    } catch (error) {
      const how = `deno run tests/fault/fuzz_run.ts --target ${target.name} --seed ${seed} --cases ${i + 1}`;
      const what = error instanceof Error ? error.stack ?? error.message : String(error);
      throw new FuzzFailure(
        `Case ${i} of target "${target.name}" with seed ${seed} failed; repeat it with: ${how}\n${what}`,
      );
    }
  }
}

/** Cases of `target` when there are `caseCount` of all `targets`. */
export function shareOf(target: FuzzTarget, targets: readonly FuzzTarget[], caseCount: number): number {
  const total = targets.reduce((sum, other) => sum + other.share, 0);
  return Math.ceil(caseCount * target.share / total);
}

function main(): number {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: String(Date.now()) },
      cases: { type: "string" },
      seconds: { type: "string" },
      target: { type: "string" },
    },
  });
  const targets = FUZZ_TARGETS.filter((target) => values.target === undefined || target.name === values.target);
  if (targets.length === 0) {
    console.error(`No target "${values.target}". There are: ${FUZZ_TARGETS.map((target) => target.name).join(", ")}`);
    return 2;
  }
  const endMs = values.seconds === undefined ? 0 : performance.now() + Number(values.seconds) * 1000;
  const caseCount = Number(values.cases ?? (endMs > 0 ? 100_000 : 1_000_000));
  let seed = Number(values.seed);
  let played = 0;
  try {
    do {
      for (const target of targets) {
        const share = shareOf(target, targets, caseCount);
        const startMs = performance.now();
        playTarget(target, seed, share);
        played += share;
        console.log(`${target.name}: ${share} cases with seed ${seed}, ${Math.round(performance.now() - startMs)} ms`);
      }
      seed++;
    } while (performance.now() < endMs);
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    console.error(error.message);
    console.log(`fuzz: failed after more than ${played} cases`);
    return 1;
  }
  console.log(`fuzz: ${played} cases, no failure`);
  return 0;
}

if (import.meta.main) process.exitCode = main();
