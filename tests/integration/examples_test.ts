/** The examples run as their comments say. */

import assert from "node:assert/strict";
import { Cluster, expectCommand } from "./cluster.ts";

function runExample(name: string, flags: readonly string[], args: readonly string[]): Promise<string> {
  const path = new URL(`../../examples/${name}`, import.meta.url).pathname;
  return expectCommand(Deno.execPath(), ["run", "--quiet", "--no-prompt", ...flags, path, ...args]);
}

Deno.test("the examples create a pool, write through it, and watch it until it is in sync", async () => {
  const cluster = await Cluster.startNodes({ poolName: "example" });
  const directory = cluster.directory;
  const flags = ["--allow-net", `--allow-read=${directory}`, `--allow-write=${directory}`];
  try {
    const places = [...cluster.addresses, directory];
    assert.match(await runExample("write_through_a_pool.ts", flags, ["create", ...places]), /created example/);
    await cluster.attach();
    assert.match(await runExample("write_through_a_pool.ts", flags, ["write", ...places]), /written to both nodes/);
    const lines = await runExample("watch_resync.ts", ["--allow-net"], ["example", cluster.addresses[0]]);
    assert.match(lines, /leg 0 .* in-sync, 0 bytes missing\nleg 1 .* in-sync, 0 bytes missing/);
  } finally {
    await cluster.close();
  }
});
