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
const LEAST_BRANCHES = 90;

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

/** Share of what is hit, from an lcov report. */
function shares(lcov: string): { branches: number; lines: number; missed: string[] } {
  const sum = { BRF: 0, BRH: 0, LF: 0, LH: 0 };
  const missed: string[] = [];
  let file = "";
  for (const line of lcov.split("\n")) {
    const [key, value] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
    if (key === "SF") file = value.replace(/^.*\/lib\//, "lib/");
    else if (key in sum) sum[key as keyof typeof sum] += Number(value);
    else if (key === "DA" && value.endsWith(",0")) missed.push(`${file}:${value.split(",")[0]}`);
  }
  return { branches: 100 * sum.BRH / sum.BRF, lines: 100 * sum.LH / sum.LF, missed };
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
    const { branches, lines, missed } = shares(new TextDecoder().decode(report.stdout));
    for (const line of missed) console.log(`not reached: ${line}`);
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
