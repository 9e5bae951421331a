/**
 * What a pool costs that nobody uses: CPU and memory of an attached, clean pool, and of a 1 TiB sparse one, which also shows
 * how long attaching takes and what its dirty maps weigh.
 *
 *     deno task bench:idle [--seconds 20] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Cluster } from "../../tests/integration/cluster.ts";
import { cpuSeconds, residentBytes } from "./process_usage.ts";
import { formatTable, writeJson } from "./statistics.ts";

/** Compilers and caches have come to rest. */
const SETTLE_MS = 5000;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function measureIdle(size: string, seconds: number) {
  const cluster = await Cluster.startNodes({ size });
  try {
    const createStart = performance.now();
    await cluster.createPool();
    const createMs = performance.now() - createStart;
    const attachStart = performance.now();
    await cluster.attach();
    const attachMs = performance.now() - attachStart;
    await pause(SETTLE_MS);
    const processes = { client: cluster.client.pid, node: cluster.nodePids[0] };
    const before = { client: await cpuSeconds([processes.client]), node: await cpuSeconds([processes.node]) };
    await pause(seconds * 1000);
    const share = async (which: "client" | "node") =>
      (await cpuSeconds([processes[which]]) - before[which]) / seconds * 100;
    // Each node holds the map of the other leg.
    const maps = [];
    for (const leg of ["0", "1"]) {
      maps.push(JSON.parse(await cluster.expect(["dirty-map", cluster.poolName, "--leg", leg, "--json"])));
    }
    return {
      size,
      createMs,
      attachMs,
      clientCpuPercent: await share("client"),
      nodeCpuPercent: await share("node"),
      clientResidentBytes: (await residentBytes(processes.client)).nowBytes,
      nodeResidentBytes: (await residentBytes(processes.node)).nowBytes,
      dirtyMapBytes: sumOf(maps, "memoryBytes"),
    };
  } finally {
    await cluster.close();
  }
}

/** The sum of every number called `key` anywhere in `value`. */
function sumOf(value: unknown, key: string): number {
  if (typeof value !== "object" || value === null) return 0;
  let sum = 0;
  for (const [name, part] of Object.entries(value)) sum += name === key ? Number(part) : sumOf(part, key);
  return sum;
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: { seconds: { type: "string", default: "20" }, json: { type: "string" } },
});
const results = [];
for (const size of ["1G", "1T"]) results.push(await measureIdle(size, Number(options.seconds)));
const mebibytes = (bytes: number) => (bytes / (1 << 20)).toFixed(1);
console.log(formatTable([
  ["pool", "create ms", "attach ms", "client CPU %", "node CPU %", "client MiB", "node MiB", "dirty maps MiB"],
  ...results.map((row) => [
    row.size,
    row.createMs.toFixed(0),
    row.attachMs.toFixed(0),
    row.clientCpuPercent.toFixed(2),
    row.nodeCpuPercent.toFixed(2),
    mebibytes(row.clientResidentBytes),
    mebibytes(row.nodeResidentBytes),
    (row.dirtyMapBytes / (1 << 20)).toFixed(3),
  ]),
]));
await writeJson(options.json, { results });
