/**
 * `deno task coverage:core`: which lines and branches of lib/core the scenarios and the simulator reach by themselves, and which they do not.
 *
 * @module
 */

import { scenarioNames } from "../scenario/main.ts";
import { playScenario, TRACE_MARK } from "../scenario/scenario.ts";
import { runSeed } from "./run_seed.ts";

const SEEDS = 1500;
/** Branches of lib/core that must be reached, in percent. */
const LEAST_BRANCHES = 95;

/** Runs what is measured. */
function work(): void {
  for (const name of scenarioNames()) {
    playScenario(Deno.readTextFileSync(new URL(`../scenario/${name}`, import.meta.url)).split(`\n${TRACE_MARK}\n`)[0]);
  }
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { violation } = runSeed(seed);
    if (violation !== null) throw violation;
  }
}

/** What one file has not been seen to do. */
interface Missed {
  readonly file: string;
  readonly lines: number[];
  /** Lines that have a branch which was never taken, although the line itself was reached. */
  readonly branches: number[];
}

/** What an lcov report says. */
interface Shares {
  /** Percent. */
  readonly branches: number;
  readonly lines: number;
  readonly missed: Missed[];
}

function sharesOf(lcov: string): Shares {
  const sum = { BRF: 0, BRH: 0, LF: 0, LH: 0 };
  const missed: Missed[] = [];
  for (const line of lcov.split("\n")) {
    const [key, value] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
    if (key === "SF") missed.push({ file: value.replace(/^.*\/lib\//, "lib/"), lines: [], branches: [] });
    else if (key in sum) sum[key as keyof typeof sum] += Number(value);
    else if (key === "DA" && value.endsWith(",0")) missed.at(-1)!.lines.push(Number(value.split(",")[0]));
    else if (key === "BRDA" && /,(0|-)$/.test(value)) missed.at(-1)!.branches.push(Number(value.split(",")[0]));
  }
  return { branches: 100 * sum.BRH / sum.BRF, lines: 100 * sum.LH / sum.LF, missed };
}

/** "12-14 20", ascending, each number once. */
function ranges(numbers: readonly number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const runs: [number, number][] = [];
  for (const number of sorted) {
    const last = runs.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([from, to]) => from === to ? `${from}` : `${from}-${to}`).join(" ");
}

async function main(): Promise<void> {
  if (Deno.args.includes("--work")) return work();
  const directory = await Deno.makeTempDir({ prefix: "brmr-coverage-" });
  try {
    const run = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-prompt", "--allow-read", `--coverage=${directory}`],
        ...[new URL(import.meta.url).pathname, "--work"],
      ],
    }).spawn().status;
    if (!run.success) throw new Error("What is measured has failed");
    const report = await new Deno.Command(Deno.execPath(), {
      args: ["coverage", "--lcov", "--include=/lib/core/", directory],
      stderr: "null",
    }).output();
    const { branches, lines, missed } = sharesOf(new TextDecoder().decode(report.stdout));
    for (const { file, lines, branches } of missed) {
      const parts = [];
      if (lines.length > 0) parts.push(`lines ${ranges(lines)}`);
      const others = branches.filter((line) => !lines.includes(line));
      if (others.length > 0) parts.push(`branches at ${ranges(others)}`);
      if (parts.length > 0) console.log(`not reached: ${file} ${parts.join("; ")}`);
    }
    console.log(`lib/core: branches ${branches.toFixed(1)} %, lines ${lines.toFixed(1)} %`);
    if (!(branches >= LEAST_BRANCHES)) {
      console.log(`fewer than ${LEAST_BRANCHES} % of the branches are reached`);
      Deno.exit(1);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

if (import.meta.main) await main();
