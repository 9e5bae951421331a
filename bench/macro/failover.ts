/**
 * The longest time an application waits when a storage node dies: killed (its socket resets), and silent (SIGSTOP, as a
 * pulled cable or a hung machine: only the heartbeat tells).
 *
 * One fio job writes 4 KiB at depth 1 the whole time, so the longest latency it reports is the longest gap. A
 * run without any fault gives the gap that the machine itself makes.
 *
 *     deno task bench:failover [--rounds 5] [--size-mib 256] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Cluster } from "../../tests/integration/cluster.ts";
import { type FioProfile, runFio } from "./fio.ts";
import { formatTable, median, writeJson } from "./statistics.ts";

const PROFILE: FioProfile = { title: "4k randwrite QD1", rw: "randwrite", blockBytes: 4096, depth: 1 };
/** When the fault comes: fio has connected and runs. */
const FAULT_AT_MS = 1500;

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    rounds: { type: "string", default: "5" },
    "size-mib": { type: "string", default: "256" },
    json: { type: "string" },
  },
});
const rounds = Number(options.rounds);
const sizeBytes = Number(options["size-mib"]) * (1 << 20);

/** Longest gap in ms while `fault` happens, fio running for `seconds`. */
async function longestGapMs(cluster: Cluster, seconds: number, fault: () => Promise<void>): Promise<number> {
  const load = runFio({ uri: cluster.uri }, PROFILE, seconds, sizeBytes);
  // The load is awaited below; a failure before that must not end the process.
  load.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, FAULT_AT_MS));
  await fault();
  return (await load).maxLatencyUs / 1000;
}

const gaps = { none: [] as number[], killed: [] as number[], silent: [] as number[] };
const cluster = await Cluster.start({ size: `${options["size-mib"]}M` });
try {
  for (let round = 0; round < rounds; round++) {
    const leg = round % 2;
    gaps.none.push(await longestGapMs(cluster, 3, () => Promise.resolve()));
    gaps.killed.push(
      await longestGapMs(cluster, 4, async () => {
        await cluster.stopNode(leg, "SIGKILL");
      }),
    );
    await cluster.startNode(leg);
    await cluster.waitInSync();
    gaps.silent.push(
      await longestGapMs(cluster, 8, () => {
        cluster.node(leg).signal("SIGSTOP");
        return Promise.resolve();
      }),
    );
    cluster.node(leg).signal("SIGCONT");
    await cluster.waitInSync();
    console.error(
      `round ${round + 1}: none ${gaps.none.at(-1)} ms, killed ${gaps.killed.at(-1)} ms, silent ${
        gaps.silent.at(-1)
      } ms`,
    );
  }
} finally {
  await cluster.close();
}
const row = (title: string, values: number[]) => [
  title,
  median(values).toFixed(1),
  Math.min(...values).toFixed(1),
  Math.max(...values).toFixed(1),
];
console.log(formatTable([
  ["longest I/O gap (ms)", "median", "least", "most"],
  row("no fault", gaps.none),
  row("node killed (SIGKILL)", gaps.killed),
  row("node silent (SIGSTOP)", gaps.silent),
]));
await writeJson(options.json, { rounds, gapsMs: gaps });
