/**
 * Torture with real processes: `deno task torture [--minutes N] [--seed S] [--keep]`.
 *
 * Runs worlds of seed S, S+1, … one after the other, for N minutes. Each is a pool of real storage nodes and clients on
 * machines made of network namespaces, under a load that knows what it was promised and faults drawn from the seed. The
 * schedule of faults follows from the seed; what falls between them is up to the machine. Needs root, iproute2, util-linux
 * and nbdfuse. All of it runs in namespaces of its own: nothing is left behind, however it ends.
 *
 * Ends with 1 at the first failure; the logs are kept in the directory that it names.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { TortureWorld } from "./world.ts";

const USAGE = "usage: deno task torture [--minutes N] [--seed S] [--keep]";
const WORLD_MS = 60_000;
const INSIDE = "--inside";

function parse(words: readonly string[]): { minutes: number; seed: number; keep: boolean } {
  const wanted = { minutes: 5, seed: 1, keep: false };
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word === "--keep") wanted.keep = true;
    else if (word === "--minutes" || word === "--seed") {
      const value = Number(words[++i]);
      if (!Number.isFinite(value) || value < 0) fail(`${word} needs a number; ${USAGE}`);
      wanted[word.slice(2) as "minutes" | "seed"] = value;
    } else if (word !== INSIDE) fail(`unknown argument ${word}; ${USAGE}`);
  }
  return wanted;
}

function fail(message: string): never {
  console.error(message);
  Deno.exit(2);
}

/** Runs itself again in namespaces of its own, of processes, networks and mounts: they end with it. */
async function enterNamespaces(): Promise<never> {
  if (Deno.uid() !== 0) fail("Torture makes network namespaces and mounts: run it as root");
  const child = new Deno.Command("unshare", {
    args: [
      ...["--net", "--pid", "--fork", "--kill-child", "--mount-proc", Deno.execPath(), "run", "--quiet", "--no-prompt"],
      ...["--allow-run", "--allow-read", "--allow-write", "--allow-env", "--allow-net", "--allow-sys=uid"],
      ...[fileURLToPath(import.meta.url), INSIDE, ...Deno.args],
    ],
    stdin: "piped",
  }).spawn();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => child.kill("SIGTERM"));
  const { code } = await child.status;
  Deno.exit(code);
}

/** If the process outside is killed, our input ends. */
async function endWithInput(): Promise<void> {
  await Deno.stdin.readable.pipeTo(new WritableStream());
  Deno.exit(1);
}

async function main(): Promise<void> {
  const wanted = parse(Deno.args);
  if (!Deno.args.includes(INSIDE)) await enterNamespaces();
  void endWithInput();
  const beganMs = performance.now();
  const endMs = beganMs + wanted.minutes * 60_000;
  const total = { worlds: 0, requests: 0, faults: 0, comparisons: 0, failures: 0 };
  for (let seed = wanted.seed; performance.now() < endMs && total.failures === 0; seed++) {
    const directory = await Deno.makeTempDir({ prefix: "brmr-torture-" });
    const lines: string[] = [];
    const ms = Math.min(WORLD_MS, endMs - performance.now());
    const outcome = await TortureWorld.run(seed, ms, directory, (line) => lines.push(line));
    total.worlds++;
    total.requests += outcome.requests;
    total.faults += outcome.faults;
    total.comparisons += outcome.comparisons;
    console.log(
      `seed ${seed}: ${outcome.requests} requests, ${outcome.faults} faults, compared ${outcome.comparisons} times`,
    );
    if (outcome.failure !== null) {
      total.failures++;
      await Deno.writeTextFile(`${directory}/story.log`, lines.join("\n"));
      console.log(
        `seed ${seed} fails: ${outcome.failure}\nlogs: ${directory}\nreplay: deno task torture --seed ${seed}`,
      );
    } else if (!wanted.keep) await Deno.remove(directory, { recursive: true });
  }
  const minutes = (performance.now() - beganMs) / 60_000;
  console.log(
    `worlds ${total.worlds}, requests ${total.requests}, faults ${total.faults}, comparisons ${total.comparisons}, ` +
      `failures ${total.failures}, minutes ${minutes.toFixed(1)}`,
  );
  Deno.exit(total.failures > 0 ? 1 : 0);
}

if (import.meta.main) await main();
