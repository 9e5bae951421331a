/**
 * The permissions of each subcommand are the least it can do with. Every command does its whole job under exactly the flags of
 * the manifest, Deno's audit log tells what it asked for, and what was granted but never asked for is an error.
 */

import assert from "node:assert/strict";
import { permissionFlags } from "../../cli/build/permissions.ts";
import { Cluster, expectCommand } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

/** Kinds of permission ("net", "ffi", ...) that a command's flags grant. */
function grantedKinds(command: string): Set<string> {
  const kinds = permissionFlags(command).map((flag) => /^--allow-([a-z]+)/.exec(flag)?.[1]);
  return new Set(kinds.filter((kind) => kind !== undefined));
}

/** What is asked for only where this test cannot go: the user's number names the runtime directory when there is no other. */
const ASKED_ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  control: ["sys"],
  list: ["sys", "ffi"],
  // Foreign functions are for the device of an attach that was killed.
  detach: ["sys", "ffi"],
};

/** Names that a flag lists, e.g. the variables of --allow-env. */
function grantedNames(command: string, kind: string): string[] {
  const flag = permissionFlags(command).find((text) => text.startsWith(`--allow-${kind}=`));
  return flag === undefined ? [] : flag.slice(flag.indexOf("=") + 1).split(",");
}

interface Audit {
  readonly kinds: Set<string>;
  readonly values: Map<string, Set<string>>;
}

async function readAudit(path: string): Promise<Audit> {
  const audit: Audit = { kinds: new Set(), values: new Map() };
  for (const line of (await Deno.readTextFile(path)).split("\n")) {
    if (line === "") continue;
    const { permission, value } = JSON.parse(line);
    audit.kinds.add(permission);
    const values = audit.values.get(permission) ?? new Set();
    audit.values.set(permission, values.add(value));
  }
  return audit;
}

Deno.test("serve, attach and the control commands use every permission they have, and need no other", async () => {
  const audits = await Deno.makeTempDir({ prefix: "brmr-audit-" });
  const log = (name: string) => ({ DENO_AUDIT_PERMISSIONS: `${audits}/${name}` });
  const cluster = await Cluster.startNodes({
    size: "64M",
    environment: { serve: log("serve"), attach: log("attach") },
  });
  try {
    await cluster.createPool();
    await cluster.attach();
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(4096).fill(1));
    await socket.close();
    const control = [["status", "vol1"], ["status"], ["pool", "list"], ["pool", "show", "vol1"], ["dirty-map", "vol1"]];
    const metrics = [["metrics"], ["metrics", "vol1", "--out", `${cluster.directory}/brmr.prom`]];
    const resync = [["sync-status", "vol1"], ["resync", "vol1", "pause"], ["resync", "vol1", "resume"]];
    for (const args of [...control, ...metrics, ...resync]) {
      const result = await cluster.brmr(args, log("control"));
      assert.ok([0, 5].includes(result.code), `${args.join(" ")}: ${result.stderr}`);
      assert.doesNotMatch(result.stderr, /NotCapable|Requires .* access/);
    }
    for (const command of ["list", "detach"]) {
      const result = await cluster.brmr(command === "list" ? ["list"] : ["detach", "vol1"], log(command));
      assert.equal(result.code, 0, result.stderr);
    }
    const own = ["serve", "attach", "list", "detach"].map((command) => [command, command]);
    for (const [name, command] of [...own, ["control", "status"]]) {
      const used = await readAudit(`${audits}/${name}`);
      const elsewhere = ASKED_ELSEWHERE[name] ?? [];
      const unused = [...grantedKinds(command)].filter((kind) => !used.kinds.has(kind) && !elsewhere.includes(kind));
      assert.deepEqual(unused, [], `${name} was granted what it never asks for`);
      if (elsewhere.includes("sys")) continue;
      const names = grantedNames(command, "sys").filter((granted) => !used.values.get("sys")?.has(granted));
      assert.deepEqual(names, [], `${name}: --allow-sys lists what it never asks for`);
    }
  } finally {
    await cluster.close();
    await Deno.remove(audits, { recursive: true });
  }
});

Deno.test("only commands with a data plane or a look into the kernel may call foreign functions, only the demo may start processes", () => {
  assert.ok(grantedKinds("serve").has("ffi"));
  assert.ok(grantedKinds("attach").has("ffi"));
  assert.ok(grantedKinds("list").has("ffi"));
  assert.ok(grantedKinds("detach").has("ffi"));
  for (const command of ["status", "pool", "sync-status", "dirty-map", "metrics", "resync", "completions", "version"]) {
    assert.ok(!grantedKinds(command).has("ffi"), command);
  }
  for (const command of ["serve", "attach", "status", "pool"]) assert.ok(!grantedKinds(command).has("run"), command);
});

Deno.test("the tasks grant what the manifest grants", async () => {
  const tasks = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url))).tasks;
  const flagsOf = (task: string) =>
    new Set((tasks[task].command as string).split(" ").filter((word) => /^--(allow|no-prompt)/.test(word)));
  assert.deepEqual(flagsOf("demo"), new Set(permissionFlags("demo")));
  assert.deepEqual(flagsOf("dev"), new Set(permissionFlags("demo")));
});

Deno.test("brmr version needs no permission at all", async () => {
  const main = new URL("../../cli/main.ts", import.meta.url).pathname;
  const text = await expectCommand(Deno.execPath(), ["run", "--quiet", "--no-prompt", main, "version"]);
  assert.match(text, /^brmr \d+\.\d+\.\d+/);
});
