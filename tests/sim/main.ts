/**
 * `deno task sim`: runs simulated worlds, one a seed, until told to stop. Needs no permission.
 *
 *     deno task sim --seconds 60           worlds from seed 1 on, for a minute
 *     deno task sim --from 5000 --seeds 1000
 *     deno task sim --seed 4711            one world; on failure its last events
 *     deno task sim --seed 4711 --trace    one world, all its events; with --watch N also what disks hold in sector N
 *
 * Exits 1 at the first seed that fails, or with `--keep-going` after the last; the last line sums up.
 *
 * @module
 */

import { runSwarm } from "./swarm.ts";
import { runSeed, type SeedOutcome } from "./run_seed.ts";

const USAGE =
  "usage: deno task sim [--seed N [--trace [--watch N]]] [--from N] [--seeds N] [--seconds N] [--jobs N] [--keep-going]";
/** Lines of trace that a failure shows. */
const FAILURE_LINES = 60;

/** What was asked for. */
interface Arguments {
  seed: number | null;
  from: number;
  seeds: number;
  seconds: number;
  watch: number;
  trace: boolean;
  keepGoing: boolean;
  /** Workers that share out the seeds. */
  jobs: number;
}

function parseArguments(words: readonly string[]): Arguments {
  const found: Arguments = {
    seed: null,
    from: 1,
    seeds: Infinity,
    seconds: Infinity,
    watch: -1,
    trace: false,
    keepGoing: false,
    jobs: 1,
  };
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === "--trace") found.trace = true;
    else if (word === "--keep-going") found.keepGoing = true;
    else if (
      word === "--seed" || word === "--from" || word === "--seeds" || word === "--seconds" ||
      word === "--watch" || word === "--jobs"
    ) {
      const value = Number(words[++i]);
      if (!Number.isFinite(value) || value < 0) fail(`${word} needs a number; ${USAGE}`);
      found[word.slice(2) as "seed" | "from" | "seeds" | "seconds" | "watch" | "jobs"] = value;
    } else fail(`unknown argument ${word}; ${USAGE}`);
  }
  if (found.seeds === Infinity && found.seconds === Infinity) found.seconds = 30;
  return found;
}

function fail(message: string): never {
  console.error(message);
  Deno.exit(2);
}

function report(outcome: SeedOutcome): void {
  const violation = outcome.violation!;
  console.log(`\nseed ${outcome.seed} fails: ${violation.message}`);
  const again = runSeed(outcome.seed, FAILURE_LINES);
  for (const line of again.trace) console.log(line);
  if (violation.property === "assertion") console.log(violation.stack);
  console.log(`replay: deno task sim --seed ${outcome.seed} --trace`);
}

async function main(): Promise<void> {
  const wanted = parseArguments(Deno.args);
  const beganMs = performance.now();
  let seeds = 0;
  let operations = 0;
  let faults = 0;
  let virtualMs = 0;
  let failures = 0;
  if (wanted.seed !== null) {
    const outcome = runSeed(wanted.seed, wanted.trace ? Infinity : 0, wanted.watch);
    for (const line of outcome.trace) console.log(line);
    seeds = 1;
    ({ operations, faults, virtualMs } = outcome);
    if (outcome.violation !== null) {
      failures = 1;
      if (!wanted.trace) report(outcome);
      else console.log(`seed ${outcome.seed} fails: ${outcome.violation.message}`);
    }
  } else if (wanted.jobs > 1) {
    const failing: number[] = [];
    const sum = await runSwarm(wanted, (seed, message) => {
      failing.push(seed);
      console.log(`seed ${seed} fails: ${message}`);
      return wanted.keepGoing;
    });
    ({ seeds, operations, faults, virtualMs, failures } = sum);
    if (!wanted.keepGoing && failing.length > 0) report(runSeed(failing[0]));
  } else {
    for (let seed = wanted.from; seeds < wanted.seeds; seed++) {
      if (performance.now() - beganMs > wanted.seconds * 1000) break;
      const outcome = runSeed(seed);
      seeds++;
      operations += outcome.operations;
      faults += outcome.faults;
      virtualMs += outcome.virtualMs;
      if (outcome.violation === null) continue;
      failures++;
      if (wanted.keepGoing) console.log(`seed ${seed} fails: ${outcome.violation.message}`);
      else {
        report(outcome);
        break;
      }
    }
  }
  const rate = seeds / ((performance.now() - beganMs) / 1000);
  console.log(
    `seeds ${seeds}, operations ${operations}, virtual hours ${
      (virtualMs / 3_600_000).toFixed(2)
    }, faults ${faults}, ` +
      `failures ${failures}, ${(rate * 60).toFixed(0)} seeds/min`,
  );
  Deno.exit(failures > 0 ? 1 : 0);
}

if (import.meta.main) await main();
