/**
 * What it costs to bring a leg back: time by bytes missed, by pool size and by pattern; bytes written per byte missed;
 * and what the foreground keeps while the default throttle is at work.
 *
 * Amplification is measured from outside: bytes that the returning node's process sent to its disk, metadata included, over
 * the bytes that its leg missed.
 *
 *     deno task bench:resync [--mebibytes 64,256,1024,4096] [--pool 16G] [--other-pools 4G,64G] [--seconds 10] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Cluster, type LegsAt } from "../../tests/integration/cluster.ts";
import { fillOnce, type FioProfile, runFio, runTool } from "./fio.ts";
import { blockWriteBytes } from "./process_usage.ts";
import { formatTable, writeJson } from "./statistics.ts";

const MEBIBYTE = 1 << 20;
const GIBIBYTE = 2 ** 30;
/** The leg that goes away. */
const LEG = 1;
const LIMIT_MS = 15 * 60_000;

/** How the missed writes lie. */
type Pattern = "sequential" | "random 4k" | "4k per 128k";

/** One row of the table. */
interface Row {
  readonly pool: string;
  readonly pattern: Pattern;
  readonly missedBytes: number;
  /** From the start of the node's process until all legs were in sync. */
  readonly totalMs: number;
  /** From the first look that showed the leg resyncing; null when it was too quick to be seen. */
  readonly resyncMs: number | null;
  readonly writtenPerMissed: number;
  readonly copiedPerMissed: number | null;
}

async function writeMissed(uri: string, pattern: Pattern, bytes: number, poolBytes: number): Promise<void> {
  const shape = {
    sequential: ["--rw=write", "--bs=1M", "--iodepth=8", `--size=${bytes}`],
    // The random map makes every block a different one, so the bytes written are the bytes missed.
    "random 4k": ["--rw=randwrite", "--bs=4k", "--iodepth=32", `--size=${poolBytes}`, `--io_size=${bytes}`],
    "4k per 128k": ["--rw=write:124k", "--bs=4k", "--iodepth=32", `--size=${bytes * 32}`, `--io_size=${bytes}`],
  }[pattern];
  await runTool("fio", ["--name=missed", "--ioengine=nbd", `--uri=${uri}`, "--randrepeat=0", ...shape]);
}

function parseGibibytes(text: string): number {
  const match = /^(\d+)G$/.exec(text);
  if (match === null) throw new Error(`"${text}" is no pool size here: write e.g. 16G`);
  return Number(match[1]) * GIBIBYTE;
}

/** One leg is away while `bytes` are written; then it returns. */
async function measureReturn(cluster: Cluster, pattern: Pattern, bytes: number): Promise<Row> {
  const poolBytes = parseGibibytes(cluster.sizeText);
  await cluster.stopNode(LEG, "SIGKILL");
  await cluster.waitDropped(LEG);
  await writeMissed(cluster.uri, pattern, bytes, poolBytes);
  const missedBytes = (await cluster.legs())[LEG].missingBytes;
  if (missedBytes === null) throw new Error("Nobody knows what the leg missed");
  const start = performance.now();
  await cluster.startNode(LEG);
  const pid = cluster.node(LEG).pid;
  const writtenBefore = await blockWriteBytes(pid);
  let first: LegsAt | null = null;
  let last: LegsAt | null = null;
  let copiedBytes: number | null = null;
  await cluster.watchUntilInSync((look) => {
    last = look;
    const leg = look.legs[LEG];
    if (leg.state !== "resyncing") return;
    first ??= look;
    copiedBytes = leg.copiedBytes;
  }, LIMIT_MS);
  const end = (last as LegsAt | null)?.atMs ?? performance.now();
  const firstMs = (first as LegsAt | null)?.atMs ?? null;
  return {
    pool: cluster.sizeText,
    pattern,
    missedBytes,
    totalMs: end - start,
    resyncMs: firstMs === null ? null : end - firstMs,
    writtenPerMissed: (await blockWriteBytes(pid) - writtenBefore) / missedBytes,
    copiedPerMissed: copiedBytes === null ? null : copiedBytes / missedBytes,
  };
}

/** What the foreground keeps, and what resync moves, both as shares of the foreground's rate alone. */
async function measureForeground(cluster: Cluster, seconds: number) {
  const profile: FioProfile = { title: "4k randwrite QD32", rw: "randwrite", blockBytes: 4096, depth: 32 };
  // The load keeps to the pool's end; what is missed lies at its start.
  const target = { uri: cluster.uri };
  const poolBytes = parseGibibytes(cluster.sizeText);
  const loadBytes = 512 * MEBIBYTE;
  const missedBytes = Math.min(4 * GIBIBYTE, poolBytes - loadBytes);
  await fillOnce(target, loadBytes, poolBytes - loadBytes);
  const alone = await runFio(target, profile, seconds, loadBytes, poolBytes - loadBytes);
  await cluster.stopNode(LEG, "SIGKILL");
  await cluster.waitDropped(LEG);
  await writeMissed(cluster.uri, "sequential", missedBytes, poolBytes);
  await cluster.startNode(LEG);
  const looks: LegsAt[] = [];
  let isLoaded = false;
  const during: LegsAt[] = [];
  const watching = cluster.watchUntilInSync(
    (look) => {
      looks.push(look);
      if (isLoaded && look.legs[LEG].state === "resyncing") during.push(look);
    },
    LIMIT_MS,
    200,
  );
  watching.catch(() => undefined);
  while (!looks.some((look) => look.legs[LEG].state === "resyncing")) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (looks.at(-1)?.legs.every((leg) => leg.state === "in-sync")) throw new Error("Resync was over too soon");
  }
  isLoaded = true;
  const loaded = await runFio(target, profile, seconds, loadBytes, poolBytes - loadBytes);
  isLoaded = false;
  await watching;
  const [first, last] = [during[0], during.at(-1)!];
  const movedBytes = (last.legs[LEG].copiedBytes ?? 0) - (first.legs[LEG].copiedBytes ?? 0);
  const resyncRate = movedBytes / ((last.atMs - first.atMs) / 1000);
  return {
    aloneBytesPerSecond: alone.bytesPerSecond,
    loadedBytesPerSecond: loaded.bytesPerSecond,
    resyncBytesPerSecond: resyncRate,
    foregroundKept: loaded.bytesPerSecond / alone.bytesPerSecond,
    resyncShare: resyncRate / alone.bytesPerSecond,
    aloneP99Us: alone.p99LatencyUs,
    loadedP99Us: loaded.p99LatencyUs,
    overlapSeconds: (last.atMs - first.atMs) / 1000,
  };
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    mebibytes: { type: "string", default: "64,256,1024,4096" },
    pool: { type: "string", default: "16G" },
    "other-pools": { type: "string", default: "4G,64G" },
    seconds: { type: "string", default: "10" },
    json: { type: "string" },
  },
});
const rows: Row[] = [];
async function measure(cluster: Cluster, pattern: Pattern, mebibytes: number): Promise<void> {
  const row = await measureReturn(cluster, pattern, mebibytes * MEBIBYTE);
  rows.push(row);
  console.error(`${row.pool} ${row.pattern} ${mebibytes} MiB: ${Math.round(row.totalMs)} ms`);
}

let foreground: Awaited<ReturnType<typeof measureForeground>>;
const cluster = await Cluster.start({ size: options.pool });
try {
  for (const mebibytes of options.mebibytes.split(",").map(Number)) await measure(cluster, "sequential", mebibytes);
  await measure(cluster, "random 4k", 128);
  await measure(cluster, "4k per 128k", 128);
  foreground = await measureForeground(cluster, Number(options.seconds));
} finally {
  await cluster.close();
}
for (const size of options["other-pools"].split(",").filter((text) => text !== "")) {
  const other = await Cluster.start({ size });
  try {
    await measure(other, "sequential", 256);
  } finally {
    await other.close();
  }
}
console.log(formatTable([
  ["pool", "pattern", "missed MiB", "node start to in sync ms", "resync ms", "MB/s", "written/missed", "copied/missed"],
  ...rows.map((row) => [
    row.pool,
    row.pattern,
    (row.missedBytes / MEBIBYTE).toFixed(1),
    row.totalMs.toFixed(0),
    row.resyncMs?.toFixed(0) ?? "-",
    row.resyncMs === null ? "-" : (row.missedBytes / row.resyncMs / 1000).toFixed(0),
    row.writtenPerMissed.toFixed(3),
    row.copiedPerMissed?.toFixed(3) ?? "-",
  ]),
]));
const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
console.log(
  `\n4k randwrite QD32 under resync with the default throttle: keeps ${percent(foreground.foregroundKept)} of ` +
    `${(foreground.aloneBytesPerSecond / 1e6).toFixed(1)} MB/s while resync moves ${percent(foreground.resyncShare)} ` +
    `(${foreground.overlapSeconds.toFixed(1)} s of overlap; p99 ${foreground.aloneP99Us.toFixed(0)} us alone, ` +
    `${foreground.loadedP99Us.toFixed(0)} us under resync)`,
);
await writeJson(options.json, { rows, foreground });
