/** The demo does the main job by itself, on embedded defaults, and leaves nothing behind. */

import assert from "node:assert/strict";
import { brmrCommand, runCommand } from "./cluster.ts";

Deno.test("brmr demo loses a node under load, gets it back and proves the legs identical", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr-demo-test-" });
  try {
    const command = brmrCommand(["demo", "--json"]);
    const result = await runCommand(command.path, command.args, { TMPDIR: directory, BRMR_RUNTIME_DIR: directory });
    assert.equal(result.code, 0, result.stderr + result.stdout);
    const summary = JSON.parse(result.stdout.trim().split("\n").at(-1)!);
    assert.equal(summary.identical, true);
    assert.ok(summary.writesAcked > 0, "writes were acknowledged");
    assert.ok(summary.bytesMissed > 0, "the dead node missed something");
    assert.ok(summary.bytesResynced > 0, "and got it back");
    assert.ok(summary.amplification > 0 && summary.amplification <= 1.01, `amplification ${summary.amplification}`);
    assert.ok(summary.resyncMs > 0 && summary.failoverMs > 0, JSON.stringify(summary));
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), [], "nothing is left behind");
    const running = await runCommand("sh", ["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true"]);
    assert.ok(running.stdout.includes("/proc/[0-9]*/cmdline"), "command lines can be seen");
    assert.ok(!running.stdout.includes(directory), "no process is left behind");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("brmr demo is fit for a pipe: no escape codes, and the story in plain words", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr-demo-test-" });
  try {
    const command = brmrCommand(["demo"]);
    const result = await runCommand(command.path, command.args, { TMPDIR: directory, BRMR_RUNTIME_DIR: directory });
    assert.equal(result.code, 0, result.stderr + result.stdout);
    // deno-lint-ignore no-control-regex -- that is what must not be there
    assert.doesNotMatch(result.stdout, /\x1b\[/);
    assert.match(result.stdout, /identical/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
