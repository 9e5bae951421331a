/**
 * `deno task scenario`: plays every scenario and compares its trace with the one beneath it; `--update` writes the traces
 * anew, to be read in the diff.
 *
 * @module
 */

import { playScenario, TRACE_MARK } from "./scenario.ts";

const FOLDER = new URL("./", import.meta.url);

/** The scenarios' file names. */
export function scenarioNames(): string[] {
  return [...Deno.readDirSync(FOLDER)].map((entry) => entry.name).filter((name) => name.endsWith(".txt")).sort();
}

/** Plays one; returns the file as it should be and as it is. */
export function checkScenario(name: string): { wanted: string; found: string } {
  const found = Deno.readTextFileSync(new URL(name, FOLDER));
  const story = found.split(`\n${TRACE_MARK}\n`)[0].trimEnd();
  return { wanted: `${story}\n\n${TRACE_MARK}\n${playScenario(story).join("\n")}\n`, found };
}

function main(): void {
  const update = Deno.args.includes("--update");
  let failures = 0;
  for (const name of scenarioNames()) {
    try {
      const { wanted, found } = checkScenario(name);
      if (wanted === found) continue;
      if (update) Deno.writeTextFileSync(new URL(name, FOLDER), wanted);
      else {
        failures++;
        console.log(`${name}: the trace has changed; look at the diff of "deno task scenario --update"`);
      }
    } catch (error) {
      failures++;
      console.log(`${name}: ${error instanceof Error ? error.message : error}`);
    }
  }
  console.log(`scenarios ${scenarioNames().length}, failures ${failures}`);
  Deno.exit(failures > 0 ? 1 : 0);
}

if (import.meta.main) main();
