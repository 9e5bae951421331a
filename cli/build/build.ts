/**
 * Makes what is shipped:
 *
 * - `dist/brmr.js`: the command line and the data plane in one module, for machines that have Deno;
 * - `dist/brmr`: one executable that needs no Deno on the machine: {@link portableStub} in front of `deno` and `brmr.js`.
 *
 *     deno task build [--out DIR] [--entry FILE]
 *
 * The executable carries the `deno` that runs this, so build on the architecture you build for.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { allPermissionFlags } from "./permissions.ts";
import { portableStub } from "./portable_stub.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Runs a tool in the repository. Throws with what it said when it fails. */
async function run(command: string, args: readonly string[]): Promise<void> {
  const output = await new Deno.Command(command, { args: [...args], cwd: ROOT, stdout: "piped", stderr: "piped" })
    .output();
  if (output.code !== 0) {
    const said = new TextDecoder().decode(output.stderr) + new TextDecoder().decode(output.stdout);
    throw new Error(`"${command} ${args.join(" ")}" ended with ${output.code}: ${said}`);
  }
}

/** Bundles `entry` into `target`, with a first line that lets it be started by name. */
async function bundle(entry: string, target: string): Promise<void> {
  await run(Deno.execPath(), ["bundle", "--quiet", "--output", target, entry]);
  const text = (await Deno.readTextFile(target)).replace(/^#!.*\n/, "");
  await Deno.writeTextFile(target, `#!/usr/bin/env -S deno run ${allPermissionFlags().join(" ")}\n${text}`);
  await Deno.chmod(target, 0o755);
}

async function hashFiles(paths: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) for await (const bytes of (await Deno.open(path)).readable) hash.update(bytes);
  return hash.digest("hex").slice(0, 24);
}

/** Writes stub and payload to `target`. */
async function pack(script: string, target: string, version: string): Promise<void> {
  const staging = await Deno.makeTempDir({ prefix: "brmr-build-" });
  try {
    await Deno.copyFile(Deno.execPath(), `${staging}/deno`);
    await Deno.chmod(`${staging}/deno`, 0o755);
    await Deno.copyFile(script, `${staging}/brmr.js`);
    const hash = await hashFiles([`${staging}/deno`, `${staging}/brmr.js`]);
    // Last in the archive: only a payload that was unpacked to its end has it.
    await Deno.writeTextFile(`${staging}/complete`, hash);
    const order = ["deno", "brmr.js", "complete"];
    // Fixed owner and times: the same input gives the same file.
    await run("tar", [
      ...["--create", "--file", `${staging}/payload.tar`, "--directory", staging, "--format=ustar"],
      ...["--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", ...order],
    ]);
    await Deno.writeTextFile(target, portableStub(hash, version));
    const tar = await Deno.open(`${staging}/payload.tar`);
    await pipeline(
      Readable.fromWeb(tar.readable as Parameters<typeof Readable.fromWeb>[0]),
      createGzip({ level: 9 }),
      createWriteStream(target, { flags: "a" }),
    );
    await Deno.chmod(target, 0o755);
  } finally {
    await Deno.remove(staging, { recursive: true });
  }
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    out: { type: "string", default: `${ROOT}dist` },
    entry: { type: "string", default: `${ROOT}cli/main.ts` },
  },
});
const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
await Deno.mkdir(options.out, { recursive: true });
const script = `${options.out}/brmr.js`;
const executable = `${options.out}/brmr`;
await bundle(options.entry, script);
await pack(script, executable, version);
for (const path of [script, executable]) {
  console.log(`${path}  ${((await Deno.stat(path)).size / 1e6).toFixed(1)} MB`);
}
