/**
 * Shrinks a failing seed: takes away faults, disturbances, legs and requests, one after the other, as long as the world
 * still breaks the same property; then tells its story. `deno task sim:shrink --seed S`.
 *
 * Every step changes what is drawn afterwards, so a smaller world may fail in another place; any breach of the same
 * property is taken for the same failure. To get over a world that happens to survive, each step tries a few seeds.
 *
 * @module
 */

import { drawPlan, FAULT_NAMES, type Plan } from "./plan.ts";
import { runPlan, type SeedOutcome } from "./run_seed.ts";

/** Seeds tried for each smaller world. */
const TRIES = 40;

/** A plan that fails, and how. */
export interface Shrunk {
  readonly plan: Plan;
  readonly outcome: SeedOutcome;
  /** What was taken away, in words. */
  readonly steps: readonly string[];
}

interface Step {
  readonly name: string;
  /** The smaller plan, or null when there is nothing to take away. */
  readonly apply: (plan: Plan) => Plan | null;
}

function steps(plan: Plan): Step[] {
  const list: Step[] = [...new Set(plan.faults)].map((fault) => ({
    name: `no ${FAULT_NAMES[fault]}`,
    apply: (from) =>
      from.faults.includes(fault) ? { ...from, faults: from.faults.filter((each) => each !== fault) } : null,
  }));
  for (let kind = 0; kind < plan.eioChance.length; kind++) {
    list.push({
      name: `no failing ${["reads", "writes", "zeroing", "flushes", "metadata"][kind]}`,
      apply: (from) =>
        from.eioChance[kind] > 0
          ? { ...from, eioChance: from.eioChance.map((chance, index) => (index === kind ? 0 : chance)) }
          : null,
    });
  }
  for (const name of ["spikeChance", "heldPayloadChance", "earlyPlacementChance", "silentBreakChance"] as const) {
    list.push({
      name: `network without ${name}`,
      apply: (from) => from.network[name] > 0 ? { ...from, network: { ...from.network, [name]: 0 } } : null,
    });
  }
  for (const name of ["zeroShare", "discardShare", "flushShare", "fuaChance", "diskSpikeChance", "turnMs"] as const) {
    list.push({ name: `no ${name}`, apply: (from) => from[name] > 0 ? { ...from, [name]: 0 } : null });
  }
  list.push({ name: "one leg fewer", apply: withFewerLegs }, { name: "one leg fewer", apply: withFewerLegs });
  list.push({
    name: "one request at a time",
    apply: (from) => from.queueDepth > 1 ? { ...from, queueDepth: 1 } : null,
  });
  for (let i = 0; i < 8; i++) {
    list.push({
      name: "half the requests",
      apply: (from) => from.requestCount > 2 ? { ...from, requestCount: from.requestCount >> 1 } : null,
    });
  }
  return list;
}

function withFewerLegs(from: Plan): Plan | null {
  if (from.legCount <= 2) return null;
  const legCount = from.legCount - 1;
  if (from.spareCount > 0) return { ...from, legCount, spareCount: from.spareCount - 1 };
  return { ...from, legCount, shape: { ...from.shape, legUuids: from.shape.legUuids.slice(0, legCount) } };
}

/** Shrinks `first`, which must fail. Returns null when it does not. */
export function shrink(first: Plan): Shrunk | null {
  let plan = first;
  let outcome = runPlan(plan);
  const property = outcome.violation?.property;
  if (property === undefined) return null;
  const taken: string[] = [];
  for (const step of steps(plan)) {
    const smaller = step.apply(plan);
    if (smaller === null) continue;
    for (let tries = 0; tries < TRIES; tries++) {
      const candidate = { ...smaller, seed: tries === 0 ? plan.seed : first.seed * TRIES + tries };
      const found = runPlan(candidate);
      if (found.violation?.property !== property) continue;
      plan = candidate;
      outcome = found;
      taken.push(step.name);
      break;
    }
  }
  return { plan, outcome, steps: taken };
}

function main(): void {
  const at = Deno.args.indexOf("--seed");
  const seed = at < 0 ? NaN : Number(Deno.args[at + 1]);
  if (!Number.isSafeInteger(seed) || seed < 0) {
    console.error("usage: deno task sim:shrink --seed N");
    Deno.exit(2);
  }
  const shrunk = shrink(drawPlan(seed));
  if (shrunk === null) {
    console.log(`seed ${seed} does not fail`);
    return;
  }
  const { plan, outcome } = shrunk;
  console.log(`taken away: ${shrunk.steps.join(", ") || "nothing"}`);
  for (const line of runPlan(plan, Infinity).trace) console.log(line);
  console.log(`the smallest world found has the plan ${JSON.stringify(plan)}`);
  console.log(
    `it fails after ${outcome.operations} requests and ${outcome.faults} faults: ${outcome.violation?.message}`,
  );
  Deno.exit(1);
}

if (import.meta.main) main();
