/**
 * How long it takes to serve again after everything died at once under load: client and both storage nodes are killed while
 * fio writes. Then the nodes are started, and the pool is attached; the legs compare what was in their intent logs before the
 * first request is served. So the time follows the hot set, and not the size of the pool.
 *
 * The processes are killed, not the machine: what they had acknowledged is with the kernel. The comparison is the same.
 *
 *     deno task bench:recovery [--hot 64,256,1024] [--pools 4G,64G] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Cluster } from "../../tests/integration/cluster.ts";
import { type FioProfile, runFio } from "./fio.ts";
import { formatTable, writeJson } from "./statistics.ts";

const PROFILE: FioProfile = { title: "4k randwrite QD32", rw: "randwrite", blockBytes: 4096, depth: 32 };
/** Long enough for every extent of the largest hot set to be written to. */
const LOAD_MS = 4000;

/** What one death cost. */
interface Row {
  readonly pool: string;
  readonly hotMebibytes: number;
  /** Of all processes, and of the attach alone, until the pool is served. */
  readonly totalMs: number;
  readonly attachMs: number;
}

async function measure(cluster: Cluster, hotMebibytes: number): Promise<Row> {
  const load = runFio({ uri: cluster.uri }, PROFILE, 3 * LOAD_MS / 1000, hotMebibytes * (1 << 20));
  load.catch(() => undefined); // it loses its disk, which is the point
  await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
  for (const index of [0, 1]) cluster.node(index).killNow();
  await cluster.detach("SIGKILL");
  for (const index of [0, 1]) await cluster.stopNode(index);
  await load.catch(() => undefined);
  const start = performance.now();
  await Promise.all([0, 1].map((index) => cluster.startNode(index)));
  const attachStart = performance.now();
  await cluster.attach();
  const end = performance.now();
  await cluster.waitInSync();
  // An orderly end empties the intent logs, so that the next death finds only its own hot set.
  await cluster.detach();
  await cluster.attach();
  return { pool: cluster.sizeText, hotMebibytes, totalMs: end - start, attachMs: end - attachStart };
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    hot: { type: "string", default: "64,256,1024" },
    pools: { type: "string", default: "4G,64G" },
    json: { type: "string" },
  },
});
const rows: Row[] = [];
for (const size of options.pools.split(",")) {
  const cluster = await Cluster.start({ size });
  try {
    for (const hot of options.hot.split(",").map(Number)) rows.push(await measure(cluster, hot));
  } finally {
    await cluster.close();
  }
}
console.log(formatTable([
  ["pool", "hot MiB", "all started to served ms", "of which attach ms"],
  ...rows.map((row) => [row.pool, `${row.hotMebibytes}`, row.totalMs.toFixed(0), row.attachMs.toFixed(0)]),
]));
await writeJson(options.json, { rows });
