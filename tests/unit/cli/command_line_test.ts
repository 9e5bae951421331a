import assert from "node:assert/strict";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { defineProgram, describeCommand, runCommandLine } from "../../../cli/command_line.ts";
import type { CommandHost } from "../../../cli/command_host.ts";
import { ExitCode, exitCodeOf } from "../../../cli/exit_code.ts";
import { VERSION } from "../../../lib/node/version.ts";
import { wantsColor } from "../../../cli/terminal.ts";
import { readExposition } from "./exposition_grammar.ts";
import { FakeTerminal } from "./fake_terminal.ts";

async function brmr(...args: string[]): Promise<{ code: ExitCode; out: string; err: string }> {
  const terminal = new FakeTerminal();
  const code = await runCommandLine(args, { workerUrl: "about:blank", terminal: () => terminal });
  return { code, out: terminal.stdout, err: terminal.stderr };
}

function program(): CommandUnknownOpts {
  const host: CommandHost = { terminal: new FakeTerminal(), workerUrl: "about:blank", run: () => Promise.resolve() };
  return defineProgram(host);
}

/** Every command with the words that lead to it. */
function everyCommand(command = program(), path: string[] = []): { path: string[]; command: CommandUnknownOpts }[] {
  const children = command.commands.flatMap((child) => everyCommand(child, [...path, child.name()]));
  return [{ path, command }, ...children];
}

Deno.test("every command has --help with a summary and an example that begins with its own words", async () => {
  for (const { path, command } of everyCommand()) {
    const { code, out, err } = await brmr(...path, "--help");
    const words = ["brmr", ...path].join(" ");
    assert.equal(code, ExitCode.OK, words);
    assert.equal(err, "", words);
    assert(out.startsWith(`Usage: ${words}`), out);
    const example = out.slice(out.indexOf("\nExample:\n"));
    assert(
      out.includes("\nExample:\n") && new RegExp(`\\b${words}\\s`).test(example + "\n"),
      `${words} has no example`,
    );
    if (path.length > 0) assert.notEqual(command.summary(), "", words);
    assert(out.split("\n").every((line) => line.length <= 140), words);
  }
});

Deno.test("every example in the help parses", () => {
  for (const { command } of everyCommand()) {
    let text = "";
    command.configureOutput({ writeOut: (part) => text += part });
    command.outputHelp();
    for (const line of text.split("\n").filter((each) => each.startsWith("  brmr "))) {
      const words = line.replace(/ {2,}#.*/, "").replace(/ \|.*/, "").trim().split(/\s+/).slice(1);
      const fresh = program();
      for (const each of everyOf(fresh)) {
        each.exitOverride((error) => {
          throw new Error(`${line.trim()}: ${error.message}`);
        });
        each.configureOutput({ writeErr: () => undefined });
      }
      fresh.parse(words, { from: "user" });
    }
  }
});

function everyOf(command: CommandUnknownOpts): CommandUnknownOpts[] {
  return [command, ...command.commands.flatMap(everyOf)];
}

Deno.test("--version and version tell the version", async () => {
  assert.deepEqual(await brmr("--version"), { code: ExitCode.OK, out: `brmr ${VERSION}\n`, err: "" });
  const { out } = await brmr("version", "--json");
  assert.equal(JSON.parse(out).brmr, VERSION);
  assert.match((await brmr("version")).out, /^brmr \S+ \(protocol 1, Deno \d/);
});

Deno.test("mistyped commands and options are answered with what was meant, exit code 2", async () => {
  const cases: [string[], RegExp][] = [
    [["srve"], /unknown command 'srve'\n\(Did you mean serve\?\)/],
    [["sync-statu", "vol1"], /Did you mean sync-status\?/],
    [["pool", "crate"], /Did you mean create\?/],
    [["serve", "--stat", "d"], /unknown option '--stat'\n\(Did you mean --state\?\)/],
    [["pool", "create", "v", "--min-insync", "1"], /Did you mean --min-in-sync\?/],
    [["attach", "vol1", "--ndb", "/s"], /Did you mean --nbd\?/],
    [["status", "--jsn"], /Did you mean --json\?/],
  ];
  for (const [args, pattern] of cases) {
    const { code, out, err } = await brmr(...args);
    assert.equal(code, ExitCode.USAGE, args.join(" "));
    assert.equal(out, "");
    assert.match(err, pattern);
    assert.match(err, /try "brmr.* --help"/);
  }
});

Deno.test("wrong values are refused with what would be right, before anything is contacted", async () => {
  const legs = ["--leg", "127.0.0.1:7701:/a", "--leg", "127.0.0.1:7702:/b"];
  const cases: [string[], RegExp][] = [
    [["serve"], /required option '--state <dir>'/],
    [["pool", "create", "v", ...legs], /required option '--size <size>'/],
    [["pool", "create", "v", "--size", "1X", ...legs], /"1X" is not a size/],
    [["pool", "create", "v", "--size", "1G"], /at least two legs/],
    [["pool", "create", "v", "--size", "1G", "--leg", "a:/b", "--leg", "c"], /"a:\/b" is not the place of a leg/],
    [["pool", "create", "v", "--size", "1G", "--chunk", "3K", ...legs], /power of two/],
    [["pool", "create", "v", "--size", "1G", "--min-in-sync", "9", ...legs], /from 1 to 8/],
    [["pool", "create", "v/w", "--size", "1G", ...legs], /cannot be the name of a pool/],
    [["pool", "create"], /missing required argument 'pool'/],
    [["resync", "vol1", "pauze"], /Allowed choices are pause, resume, throttle/],
    [["resync", "vol1", "throttle"], /needs a rate/],
    [["resync", "vol1", "pause", "5M"], /takes no rate/],
    [["resync", "vol1", "throttle", "fast"], /"fast" is not a rate/],
    [["dirty-map", "vol1", "--leg", "8"], /from 0 to 7/],
    [["attach", "vol1", "--node", "nowhere"], /HOST:PORT/],
    [["metrics", "--node", "nowhere"], /HOST:PORT/],
    [["metrics", "--out"], /argument missing/],
    [["attach", "vol1", "--node", "a:1", "--heartbeat", "1ms"], /300ms or more/],
    [["attach", "vol1", "--node", "a:1", "--heartbeat", "11s"], /Choose 10s or less/],
    [["attach", "vol1", "--node", "a:1", "--heartbeat", "soon"], /"soon" is not a duration/],
    [["sync-status"], /missing required argument 'pool'/],
    [["detach", "a", "b"], /too many arguments/],
    [["status", "--color", "maybe"], /Allowed choices are auto, always, never/],
    [["completions", "tcsh"], /Allowed choices are bash, zsh, fish/],
  ];
  for (const [args, pattern] of cases) {
    const { code, out, err } = await brmr(...args);
    assert.equal(code, ExitCode.USAGE, `${args.join(" ")}: ${err}`);
    assert.equal(out, "");
    assert.match(err, pattern);
    assert.match(err, /^error: /);
  }
});

Deno.test("NBD on an address that others reach is refused", async () => {
  const { code, err } = await brmr("attach", "vol1", "--node", "127.0.0.1:1", "--nbd", "tcp://0.0.0.0:10809");
  assert.equal(code, ExitCode.REFUSED);
  assert.match(err, /other machines/);
});

Deno.test("brmr alone, and a group alone, show their help as a mistake", async () => {
  for (const args of [[], ["pool"]]) {
    const { code, err } = await brmr(...args);
    assert.equal(code, ExitCode.USAGE);
    assert.match(err, /^Usage: brmr/);
  }
  assert.match((await brmr("help", "pool")).out, /^Usage: brmr pool/);
});

Deno.test("a node that is not there is exit code 3, with its address", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  listener.close();
  const legs = ["--leg", `${address}:/a`, "--leg", `${address}:/b`];
  const commands = [
    ["pool", "create", "vol1", "--size", "1G", ...legs],
    ["pool", "list", "--node", address],
    ["pool", "show", "vol1", "--node", address],
    ["pool", "delete", "vol1", "--node", address],
    ["resync", "vol1", "pause", "--node", address],
    ["dirty-map", "vol1", "--node", address],
    ["sync-status", "vol1", "--watch", "--node", address],
    ["status", "vol1", "--node", address],
    ["status", "--node", address],
  ];
  for (const args of commands) {
    const { code, out, err } = await brmr(...args);
    assert.equal(code, ExitCode.NOT_FOUND, `${args.join(" ")}: ${err}`);
    assert.equal(out, "");
    assert(err.includes(address), err);
  }
});

Deno.test("metrics of a node that is not there are metrics: exit code 0, and the node is down", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  listener.close();
  for (const pool of [[], ["vol1"]]) {
    const { code, out, err } = await brmr("metrics", ...pool, "--node", address);
    assert.equal(code, ExitCode.OK, err);
    assert.equal(readExposition(out).get(`brmr_node_up{node="${address}"}`), 0);
  }
});

Deno.test("detach of a pool that is not attached is exit code 3", async () => {
  const { code, err } = await brmr("detach", "no-such-pool");
  assert.equal(code, ExitCode.NOT_FOUND);
  assert.match(err, /not attached on this machine/);
});

Deno.test("each error code has its exit code", { permissions: "none" }, () => {
  assert.equal(exitCodeOf("bad-request"), 2);
  assert.equal(exitCodeOf("unreachable"), 3);
  assert.equal(exitCodeOf("timeout"), 3);
  assert.equal(exitCodeOf("foreign-data"), 4);
  assert.equal(exitCodeOf("internal"), 1);
});

Deno.test("colour goes to terminals, unless NO_COLOR or the user says otherwise", { permissions: "none" }, () => {
  const env = (variables: Record<string, string>) => (name: string) => variables[name];
  assert.equal(wantsColor("auto", true, env({})), true);
  assert.equal(wantsColor("auto", false, env({})), false);
  assert.equal(wantsColor("auto", true, env({ NO_COLOR: "1" })), false);
  assert.equal(wantsColor("auto", true, env({ NO_COLOR: "" })), true);
  assert.equal(wantsColor("auto", true, env({ TERM: "dumb" })), false);
  assert.equal(wantsColor("always", false, env({ NO_COLOR: "1" })), true);
  assert.equal(wantsColor("never", true, env({})), false);
});

Deno.test("describeCommand() sees every subcommand, and which options take what", () => {
  const shape = describeCommand(program());
  const names = shape.commands.map((command) => command.name);
  for (const name of ["serve", "pool", "attach", "detach", "status", "sync-status", "dirty-map", "metrics", "resync"]) {
    assert(names.includes(name), name);
  }
  const serve = shape.commands.find((command) => command.name === "serve")!;
  const kinds = Object.fromEntries(serve.options.map((option) => [option.names.at(-1), option.value]));
  assert.equal(kinds["--state"], "directory");
  assert.equal(kinds["--insecure"], "none");
  assert.equal(kinds["--listen"], "word");
  assert.deepEqual(serve.options.find((option) => option.names.includes("--log-format"))?.choices, ["text", "json"]);
});
