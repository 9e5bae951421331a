/**
 * The suites that need kernels of their own: `deno task test:vm [SUITE]...`. Fetches the guests' kernel when the cache has
 * none, then runs the suites one after the other; without names all but the long ones.
 *
 * @module
 */

import { guestKernel } from "./bed/kernel.ts";

const PERMISSIONS = ["--no-prompt", "--allow-run", "--allow-read", "--allow-write", "--allow-env", "--allow-net"];

async function suitesIn(directory: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(new URL(directory, import.meta.url))) {
    const match = /^(.*)_test\.ts$/.exec(name);
    if (match !== null) names.push(match[1]);
  }
  return names.sort();
}

const ordinary = await suitesIn("suites/");
const long = await suitesIn("long/");
const chosen = Deno.args.length > 0 ? Deno.args : ordinary;
const unknown = chosen.filter((name) => !ordinary.includes(name) && !long.includes(name));
if (unknown.length > 0) {
  console.error(
    `There is no suite ${unknown.join(", ")}. There are ${ordinary.join(", ")}; long ones: ${long.join(", ")}`,
  );
  Deno.exit(2);
}
const kernel = await guestKernel();
console.error(`guests boot ${kernel.release}`);
const files = chosen.map((name) => `tests/vm/${ordinary.includes(name) ? "suites" : "long"}/${name}_test.ts`);
const { code } = await new Deno.Command(Deno.execPath(), { args: ["test", ...PERMISSIONS, ...files] }).spawn().status;
Deno.exit(code);
