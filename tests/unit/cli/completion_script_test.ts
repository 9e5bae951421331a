import assert from "node:assert/strict";
import { type CommandShape, completionScript, SHELLS } from "../../../cli/completion_script.ts";
import { defineProgram, describeCommand } from "../../../cli/command_line.ts";
import { FakeTerminal } from "./fake_terminal.ts";
import { assertGolden } from "./golden.ts";

const HELP = { names: ["-h", "--help"], description: "show help", value: "none", choices: [] } as const;
const SMALL: CommandShape = {
  name: "tool",
  description: "",
  options: [HELP],
  positionals: [],
  commands: [
    {
      name: "run",
      description: "it's run: now",
      options: [
        { names: ["--state"], description: "where", value: "directory", choices: [] },
        { names: ["--config"], description: "file", value: "file", choices: [] },
        { names: ["--format"], description: "how", value: "word", choices: ["text", "json"] },
        { names: ["--name"], description: "who", value: "word", choices: [] },
      ],
      positionals: [[], ["pause", "resume"]],
      commands: [],
    },
    {
      name: "pool",
      description: "pools",
      options: [HELP],
      positionals: [],
      commands: [{ name: "list", description: "list", options: [HELP], positionals: [], commands: [] }],
    },
  ],
};

Deno.test("completion scripts of a small program", () => {
  for (const shell of SHELLS) assertGolden(`completions_${shell}.txt`, completionScript(shell, SMALL));
});

/** What bash offers after `words`, the last of which is being typed. */
async function bashOffers(script: string, ...words: string[]): Promise<string[]> {
  const name = words[0];
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const program = `${script}\nCOMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _${name}\n` +
    `printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { success, stdout, stderr } = await new Deno.Command("bash", { args: ["--norc", "-c", program] }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "").sort();
}

Deno.test("bash offers commands, options, choices and paths where they belong", async () => {
  const script = completionScript("bash", SMALL);
  assert.deepEqual(await bashOffers(script, "tool", ""), ["pool", "run"]);
  assert.deepEqual(await bashOffers(script, "tool", "p"), ["pool"]);
  assert.deepEqual(await bashOffers(script, "tool", "--h"), ["--help"]);
  assert.deepEqual(await bashOffers(script, "tool", "pool", ""), ["list"]);
  assert.deepEqual(await bashOffers(script, "tool", "pool", "list", "--"), ["--help"]);
  assert.deepEqual(await bashOffers(script, "tool", "run", "--format", ""), ["json", "text"]);
  assert.deepEqual(await bashOffers(script, "tool", "run", "vol1", ""), ["pause", "resume"]);
  // An option's value is no positional, whatever it looks like.
  assert.deepEqual(await bashOffers(script, "tool", "run", "--name", "pool", "vol1", "pa"), ["pause"]);
  assert.deepEqual(await bashOffers(script, "tool", "run", "--name", ""), []);
  assert.deepEqual(await bashOffers(script, "tool", "run", "--state", "/us"), ["/usr"]);
});

Deno.test("bash completes the real program", async () => {
  const host = { terminal: new FakeTerminal(), workerUrl: "about:blank", run: () => Promise.resolve() };
  const script = completionScript("bash", describeCommand(defineProgram(host)));
  assert.deepEqual(await bashOffers(script, "brmr", "s"), ["serve", "status", "sync-status"]);
  assert.deepEqual(await bashOffers(script, "brmr", "pool", ""), ["create", "delete", "list", "show"]);
  assert.deepEqual(await bashOffers(script, "brmr", "resync", "vol1", ""), ["pause", "resume", "throttle"]);
  assert.deepEqual(await bashOffers(script, "brmr", "pool", "create", "--min"), ["--min-in-sync"]);
  assert.deepEqual(await bashOffers(script, "brmr", "completions", ""), ["bash", "fish", "zsh"]);
});
