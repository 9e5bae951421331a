/**
 * Runs one seed and says how it went. The same seed always goes the same way.
 *
 * @module
 */

import { drawPlan, type Plan } from "./plan.ts";
import { Trace } from "./trace.ts";
import { Violation } from "./violation.ts";
import { Lab } from "./lab.ts";
import { World } from "./world.ts";

/** How a seed went. */
export interface SeedOutcome {
  readonly seed: number;
  /** Null when every property held. */
  readonly violation: Violation | null;
  readonly operations: number;
  readonly faults: number;
  readonly events: number;
  readonly virtualMs: number;
  /** The trace, oldest line first; empty unless asked for. */
  readonly trace: readonly string[];
}

/** Memory shared by all seeds run in this process. */
const lab = new Lab();

/** Runs `seed`; `traceLines` > 0 keeps that many last lines of its trace. */
export function runSeed(seed: number, traceLines = 0, watchedSector = -1): SeedOutcome {
  return runPlan(drawPlan(seed), traceLines, watchedSector);
}

/** Runs a world made by hand. */
export function runPlan(
  plan: Plan,
  traceLines = 0,
  watchedSector = -1,
  prepare: (world: World) => void = () => undefined,
): SeedOutcome {
  const journal = traceLines > 0 ? new Trace(traceLines) : null;
  const world = new World(lab, plan, journal);
  prepare(world);
  world.watchedSector = watchedSector;
  let violation: Violation | null = null;
  try {
    world.run();
  } catch (error) {
    violation = asViolation(error);
  }
  return {
    seed: plan.seed,
    violation,
    operations: world.application.succeeded + world.application.failed,
    faults: world.counts.faults,
    events: world.counts.events,
    virtualMs: world.nowMs,
    trace: journal === null ? [] : journal.last(traceLines),
  };
}

/** What a core throws is a violation too: it contradicted itself. */
function asViolation(error: unknown): Violation {
  if (error instanceof Violation) return error;
  const violation = new Violation("assertion", error instanceof Error ? error.message : String(error));
  if (error instanceof Error && error.stack !== undefined) violation.stack = error.stack;
  return violation;
}
