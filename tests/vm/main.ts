/**
 * The suites that need kernels of their own: `deno task test:vm [--jobs N] [SUITE]...`. Fetches the guests' kernel when the
 * cache has none, then runs the suites; without names all but the long ones. `--jobs` suites run at a time; those of three
 * guests, which tell how long an I/O took, run alone after the others.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { guestKernel } from "./bed/kernel.ts";

/** Suites of three guests. */
const THREE_GUESTS = ["three_guests", "rdma_faults", "rounds"];
const PERMISSIONS = ["--no-prompt", "--allow-run", "--allow-read", "--allow-write", "--allow-env", "--allow-net"];

async function suitesIn(directory: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(new URL(directory, import.meta.url))) {
    const match = /^(.*)_test\.ts$/.exec(name);
    if (match !== null) names.push(match[1]);
  }
  return names.sort();
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { jobs: { type: "string", default: "1" } },
});
const jobs = Number(values.jobs);
if (!Number.isInteger(jobs) || jobs < 1) {
  console.error(`--jobs takes a whole number from 1 on, not "${values.jobs}"`);
  Deno.exit(2);
}
const ordinary = await suitesIn("suites/");
const long = await suitesIn("long/");
const chosen = positionals.length > 0 ? positionals : ordinary;
const unknown = chosen.filter((name) => !ordinary.includes(name) && !long.includes(name));
if (unknown.length > 0) {
  console.error(
    `There is no suite ${unknown.join(", ")}. There are ${ordinary.join(", ")}; long ones: ${long.join(", ")}`,
  );
  Deno.exit(2);
}
const kernel = await guestKernel();
console.error(`guests boot ${kernel.release}`);

/** Runs suites; returns the exit code of `deno test`. */
async function test(names: readonly string[], flags: readonly string[], env: Record<string, string>): Promise<number> {
  if (names.length === 0) return 0;
  const files = names.map((name) => `tests/vm/${ordinary.includes(name) ? "suites" : "long"}/${name}_test.ts`);
  const args = ["test", ...PERMISSIONS, ...flags, ...files];
  return (await new Deno.Command(Deno.execPath(), { args, env }).spawn().status).code;
}

const alone = chosen.filter((name) => jobs === 1 || THREE_GUESTS.includes(name));
const beside = chosen.filter((name) => !alone.includes(name));
const codes = [await test(beside, ["--parallel"], { DENO_JOBS: `${jobs}` }), await test(alone, [], {})];
Deno.exit(codes.find((code) => code !== 0) ?? 0);
