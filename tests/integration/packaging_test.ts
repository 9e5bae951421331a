/** What is shipped: the portable executable runs where there is no Deno, and the compiled binary carries what it should. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { readCompiledBinary } from "../../cli/build/compiled_binary.ts";
import { allPermissionFlags } from "../../cli/build/permissions.ts";
import { expectCommand, runCommand, ServerProcess, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BUILD_FLAGS = ["--no-prompt", "--allow-run", "--allow-read", "--allow-write", "--allow-env"];
/** No Deno and no Node here, only what any Debian has. */
const BARE_PATH = "/usr/bin:/bin";

let building: Promise<string> | null = null;

/** The directory with the build, made once for all tests of this file. */
function build(): Promise<string> {
  building ??= (async () => {
    const directory = await Deno.makeTempDir({ prefix: "brmr-dist-" });
    await expectCommand(Deno.execPath(), ["run", ...BUILD_FLAGS, `${ROOT}cli/build/build.ts`, "--out", directory]);
    return directory;
  })();
  return building;
}

Deno.test.afterAll(async () => {
  if (building !== null) await Deno.remove(await building, { recursive: true });
});

/** Runs `body` with a new directory, which is removed afterwards. */
async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "brmr-home-" });
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Runs the portable executable with nothing in its environment but what is given. */
function runBare(env: Record<string, string>, args: readonly string[], executable: string) {
  const variables = Object.entries({ PATH: BARE_PATH, ...env }).map(([name, value]) => `${name}=${value}`);
  return runCommand("env", ["--ignore-environment", ...variables, executable, ...args]);
}

Deno.test("the portable executable runs with an empty home and no Deno in reach", async () => {
  const executable = `${await build()}/brmr`;
  await withDirectory(async (home) => {
    const first = await runBare({ HOME: home }, ["version"], executable);
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stdout, /^brmr \d/);
    // Unpacked once; the second start uses it.
    const [unpacked] = [...Deno.readDirSync(`${home}/.cache/brmr`)];
    const madeAt = (await Deno.stat(`${home}/.cache/brmr/${unpacked.name}/deno`)).mtime;
    assert.equal((await runBare({ HOME: home }, ["version"], executable)).stdout, first.stdout);
    assert.deepEqual((await Deno.stat(`${home}/.cache/brmr/${unpacked.name}/deno`)).mtime, madeAt);
    const wrong = await runBare({ HOME: home }, ["no-such-command"], executable);
    assert.equal(wrong.code, 2, "the exit code comes through");
  });
});

Deno.test("first runs at the same time do not disturb each other", async () => {
  const executable = `${await build()}/brmr`;
  await withDirectory(async (home) => {
    const runs = Array.from({ length: 4 }, () => runBare({ HOME: home }, ["version"], executable));
    for (const result of await Promise.all(runs)) assert.equal(result.code, 0, result.stderr);
    const left = [...Deno.readDirSync(`${home}/.cache/brmr`)].map((entry) => entry.name);
    assert.equal(left.length, 1, `one unpacked copy and no leftovers: ${left.join(" ")}`);
  });
});

Deno.test("an unusable cache directory is passed over, and BRMR_CACHE_DIR comes first", async () => {
  const executable = `${await build()}/brmr`;
  await withDirectory(async (directory) => {
    // Nobody can make a directory in /proc, not even root.
    const env = { HOME: "/proc", XDG_CACHE_HOME: "/proc/cache", BRMR_CACHE_DIR: `${directory}/own` };
    const result = await runBare(env, ["version"], executable);
    assert.equal(result.code, 0, result.stderr);
    assert.equal([...Deno.readDirSync(`${directory}/own`)].length, 1);
    const home = { BRMR_CACHE_DIR: "/proc/own", XDG_CACHE_HOME: "/proc/cache", HOME: `${directory}/home` };
    assert.equal((await runBare(home, ["version"], executable)).code, 0);
    assert.equal([...Deno.readDirSync(`${directory}/home/.cache/brmr`)].length, 1);
  });
});

Deno.test("a truncated executable says so and leaves nothing behind", async () => {
  const executable = `${await build()}/brmr`;
  await withDirectory(async (directory) => {
    await expectCommand("sh", ["-c", `head -c 20000000 ${executable} > ${directory}/cut; chmod +x ${directory}/cut`]);
    const caches = { BRMR_CACHE_DIR: `${directory}/a`, HOME: `${directory}/b`, TMPDIR: `${directory}` };
    const result = await runBare(caches, ["version"], `${directory}/cut`);
    assert.equal(result.code, 1, result.stdout);
    assert.match(result.stderr, /BRMR_CACHE_DIR/);
    assert.deepEqual([...Deno.readDirSync(`${directory}/a`)], []);
  });
});

Deno.test("a pool runs on the portable executable, workers and all, and regains a killed leg", async () => {
  const binary = `${await build()}/brmr`;
  await withCluster({ size: "64M", binary }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, 4096, 3);
    load.start(4);
    await cluster.stopNode(0, "SIGKILL");
    await cluster.waitDropped(0);
    await load.waitForWrites(50);
    await cluster.startNode(0);
    await cluster.waitInSync();
    await load.stop();
    await load.check();
    await cluster.detach();
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("the compiled binary embeds the files and permissions of the manifest, and what it embeds runs", async () => {
  const directory = await build();
  // Without Deno's release host there is no denort; the whole front half works with deno itself in its place.
  const compiled = await runCommand(
    Deno.execPath(),
    ["run", ...BUILD_FLAGS, `${ROOT}cli/build/compile.ts`, "--out", directory],
    { DENORT_BIN: Deno.execPath() },
  );
  assert.equal(compiled.code, 0, compiled.stderr);
  const binary = readCompiledBinary(await Deno.readFile(`${directory}/brmr-compiled`));
  const manifest = JSON.parse(await Deno.readTextFile(`${ROOT}cli/build/compiled_manifest.json`));
  assert.deepEqual({
    entrypoint: binary.entrypoint,
    files: [...binary.files.keys()].sort(),
    permissions: binary.permissions,
    prompt: binary.prompt,
  }, manifest);
  await withDirectory(async (unpacked) => {
    for (const [path, bytes] of binary.files) await Deno.writeFile(`${unpacked}/${path}`, bytes);
    const start = ["run", "--quiet", ...allPermissionFlags(), `${unpacked}/${binary.entrypoint}`];
    assert.match(await expectCommand(Deno.execPath(), [...start, "version"]), /^brmr \d/);
    // A storage node is a worker of the same module.
    const args = [...start, "serve", "--state", `${unpacked}/state`, "--listen", "tcp://127.0.0.1:0"];
    const node = new ServerProcess("unpacked node", { path: Deno.execPath(), args }, { BRMR_RUNTIME_DIR: unpacked });
    try {
      assert.match(await node.ready(), /^tcp:\/\/127\.0\.0\.1:\d+$/);
      assert.equal(await node.stop("SIGTERM"), 0, node.log);
    } finally {
      await node.stop("SIGKILL");
    }
  });
});
