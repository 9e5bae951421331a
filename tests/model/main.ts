/**
 * `deno task model [--wide]`: what chance alone reaches seldom, one by one. For pools of two and three legs and several orders of messages:
 * every fault at every event of the load, and every pair of faults whose distance in events is a power of two. No two writers, nothing
 * acked lost, nothing stale served, all legs equal in the end: the checkers of the simulator decide.
 *
 * A core that is broken on purpose must be caught; otherwise the exploration proves nothing.
 *
 * @module
 */

import { CANARIES } from "../sim/canaries.ts";
import type { Plan } from "../sim/plan.ts";
import { faultsFor, loadEvents, type PlacedFault, runPlaced, smallPlan } from "./placed_faults.ts";

/** Legs, min-in-sync, seed of the order of messages. */
const WORLDS: readonly (readonly [number, number, number])[] = [[2, 1, 1], [2, 1, 2], [3, 2, 3]];
/** Second faults of pairs: what is worst in the wake of another. */
const SECOND_FAULTS = /^(kill client|power of leg|power of client and leg|take over)/;
const MOST_DISTANCE = 64;
/** Events between two first faults of pairs, unless `--wide`. */
const PAIR_STRIDE = 12;

/**
 * Broken cores that these small worlds cannot show: they need an intent log that runs full, a resync under load, a third fault, or
 * caretakers, operators and readers, of which there are none here. The simulator catches them.
 */
const OUT_OF_REACH = new Set([
  "an extent is forgotten before its writes are flushed",
  "an extent is forgotten before its dirty pages are saved",
  "a leg under resync serves chunks that it lacks",
  "a session's waiting writes are done after its end",
  "an epoch's suspicions are ignored",
  "nobody cares for the legs while there is no client",
  "a caretaker claims as if it were a client",
  "a record drops a leg before its data is flushed",
  "a reader believes what one leg says",
  "a read is told of without asking whose the legs are",
  "a verify does not lock what it compares",
  "a new disk is taken for a copy of the old one",
  "a disk made in place of another is never taken up",
  "the last leg in sync is removed",
]);

/** What was found. */
interface Sum {
  runs: number;
  events: number;
  failure: { plan: Plan; placed: readonly PlacedFault[]; message: string } | null;
}

function attempt(sum: Sum, plan: Plan, placed: readonly PlacedFault[]): void {
  if (sum.failure !== null) return;
  const { violation, events } = runPlaced(plan, placed);
  sum.runs++;
  sum.events += events;
  if (violation !== null) sum.failure = { plan, placed, message: violation.message };
}

/** Every fault at every event. */
function exploreSingles(sum: Sum, plan: Plan): void {
  const last = loadEvents(plan);
  for (let event = 1; event <= last && sum.failure === null; event++) {
    for (const fault of faultsFor(plan.legCount).keys()) attempt(sum, plan, [{ event, fault }]);
  }
}

/** Pairs of faults. */
function explorePairs(sum: Sum, plan: Plan, stride: number): void {
  const last = loadEvents(plan);
  const faults = [...faultsFor(plan.legCount).keys()];
  const seconds = faults.filter((fault) => SECOND_FAULTS.test(fault));
  for (let event = 1; event <= last && sum.failure === null; event += stride) {
    for (const fault of faults) {
      for (let distance = 1; distance <= MOST_DISTANCE; distance *= 2) {
        for (const second of seconds) {
          attempt(sum, plan, [{ event, fault }, { event: event + distance, fault: second }]);
        }
      }
    }
  }
}

function main(): void {
  const stride = Deno.args.includes("--wide") ? 1 : PAIR_STRIDE;
  const beganMs = performance.now();
  const sum: Sum = { runs: 0, events: 0, failure: null };
  for (const [legCount, minInSync, order] of WORLDS) {
    const plan = smallPlan(legCount, minInSync, order);
    exploreSingles(sum, plan);
    explorePairs(sum, plan, stride);
  }
  if (sum.failure !== null) {
    const { plan, placed, message } = sum.failure;
    for (const line of runPlaced(plan, placed, 80).trace) console.log(line);
    console.log(`${plan.legCount} legs, order ${plan.seed}, ${JSON.stringify(placed)}: ${message}`);
  }
  let missed = 0;
  const broken = CANARIES.filter(({ name }) => !OUT_OF_REACH.has(name));
  for (const { name, plant } of broken) {
    const found: Sum = { runs: 0, events: 0, failure: null };
    plant(() => {
      for (const [legCount, minInSync, order] of WORLDS) exploreSingles(found, smallPlan(legCount, minInSync, order));
    });
    if (found.failure === null) missed++;
    console.log(
      `${found.failure === null ? "     not caught" : `${String(found.runs).padStart(5)} worlds   `}  ${name}`,
    );
  }
  const seconds = (performance.now() - beganMs) / 1000;
  console.log(
    `worlds ${sum.runs}, events ${sum.events}, failures ${sum.failure === null ? 0 : 1}, broken cores caught ${
      broken.length - missed
    } of ${broken.length}, ${seconds.toFixed(0)} s`,
  );
  Deno.exit(sum.failure !== null || missed > 0 ? 1 : 0);
}

if (import.meta.main) main();
