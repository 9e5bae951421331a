/**
 * What each safety measure costs, one by one. Nothing is switched off for it that a user could not switch: pools differ by
 * their options, loads by what they ask for, and checksums are measured by themselves.
 *
 * - intent log: a hot set that fits it, beside one that never does;
 * - flush: a load that flushes after every write, or after every 32;
 * - min-in-sync 2 beside 1, a pool that misses a leg beside a whole one;
 * - reads that legs confirm (min-in-sync 2) beside reads that need not be;
 * - payloads that travel (TCP, summed by sender and receiver) beside payloads in shared memory;
 * - a drop: what the epoch record of a lost leg makes the others write;
 * - durable writes: O_DSYNC beside a write and a flush of its own, on a plain file;
 * - checksums of payloads and headers, and how often a write has them made.
 *
 * All pools live at the same time and take turns, so that a slow minute of the machine hits all. Metadata are counted from
 * outside: what the processes of the nodes sent to their disks, less the data.
 *
 *     deno task bench:safety [--rounds 3] [--seconds 3] [--hot-mib 256] [--directory DIR] [--json FILE]
 *
 * Needs fio.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Cluster, type ClusterOptions } from "../../tests/integration/cluster.ts";
import { fillOnce, type FioProfile, runFio, runTool } from "./fio.ts";
import { blockWriteBytes, cpuSeconds } from "./process_usage.ts";
import { formatTable, median, writeJson } from "./statistics.ts";

const QD32: FioProfile = { title: "QD32", rw: "randwrite", blockBytes: 4096, depth: 32 };
const QD1: FioProfile = { title: "QD1", rw: "randwrite", blockBytes: 4096, depth: 1 };
const READS_QD32: FioProfile = { ...QD32, rw: "randread" };
const READS_QD1: FioProfile = { ...QD1, rw: "randread" };
/** A quarter of the default hot set: extents of 1 MiB. */
const FEW_EXTENTS = "64";
/** Runs per pool before the first round, in seconds; the program is compiled while it runs. */
const WARM_UP_SECONDS = 2;

/** One pool, and whether it misses a leg. */
interface Shape {
  readonly name: string;
  readonly options: ClusterOptions;
  readonly isDegraded?: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: "whole", options: {} },
  { name: "small log", options: { createArguments: ["--hot-extents", FEW_EXTENTS] } },
  { name: "min-in-sync 2", options: { createArguments: ["--min-in-sync", "2"] } },
  { name: "degraded", options: {}, isDegraded: true },
  { name: "tcp", options: { attachArguments: ["--transport", "tcp"] } },
];

/** One line of the table: which pool, which load. Held against the first line of the same kind of I/O and depth. */
interface Case {
  readonly title: string;
  readonly shape: string;
  readonly profile: FioProfile;
}

const CASES: readonly Case[] = [
  { title: "QD32, the hot set in the intent log", shape: "whole", profile: QD32 },
  { title: `QD32, an intent log of ${FEW_EXTENTS} extents`, shape: "small log", profile: QD32 },
  { title: "QD32, a flush after every 32", shape: "whole", profile: { ...QD32, flushEvery: 32 } },
  { title: "QD32, min-in-sync 2", shape: "min-in-sync 2", profile: QD32 },
  { title: "QD32, one of two legs missing", shape: "degraded", profile: QD32 },
  { title: "QD32, payloads by TCP, summed", shape: "tcp", profile: QD32 },
  { title: "QD1, the hot set in the intent log", shape: "whole", profile: QD1 },
  { title: "QD1, a flush after every write", shape: "whole", profile: { ...QD1, flushEvery: 1 } },
  { title: "QD1, one of two legs missing", shape: "degraded", profile: QD1 },
  { title: "reads QD32, min-in-sync 1", shape: "whole", profile: READS_QD32 },
  { title: "reads QD32, min-in-sync 2: confirmed", shape: "min-in-sync 2", profile: READS_QD32 },
  { title: "reads QD1, min-in-sync 1", shape: "whole", profile: READS_QD1 },
  { title: "reads QD1, min-in-sync 2: confirmed", shape: "min-in-sync 2", profile: READS_QD1 },
];

/** One run. CPU in microseconds per I/O; metadata in blocks of 4 KiB per million I/Os and leg. */
interface Sample {
  readonly iops: number;
  readonly cpuUs: number;
  readonly metadataPerMillion: number;
}

async function measure(cluster: Cluster, profile: FioProfile, seconds: number, areaBytes: number): Promise<Sample> {
  const pids = [cluster.client.pid, ...cluster.nodePids];
  const written = async () => {
    let bytes = 0;
    for (const pid of cluster.nodePids) bytes += await blockWriteBytes(pid);
    return bytes;
  };
  const [cpuBefore, bytesBefore] = [await cpuSeconds(pids), await written()];
  const { iops, ioCount } = await runFio({ uri: cluster.uri }, profile, seconds, areaBytes);
  const legs = cluster.nodePids.length;
  const dataBytes = profile.rw === "randread" ? 0 : legs * ioCount * profile.blockBytes;
  const metadataBytes = await written() - bytesBefore - dataBytes;
  return {
    iops,
    cpuUs: (await cpuSeconds(pids) - cpuBefore) * 1e6 / ioCount,
    metadataPerMillion: metadataBytes / 4096 / legs / ioCount * 1e6,
  };
}

/** Kills node 1 of an idle pool. Blocks of 4 KiB that the other leg writes for it: the epoch record, and what goes with it. */
async function dropOne(cluster: Cluster): Promise<number> {
  const survivor = cluster.node(0).pid;
  const before = await blockWriteBytes(survivor);
  await cluster.stopNode(1, "SIGKILL");
  await cluster.waitDropped(1);
  return (await blockWriteBytes(survivor) - before) / 4096;
}

/** Milliseconds that one 4 KiB write takes until it is on stable storage, in two ways in turn, on a plain file. */
async function durableWriteMs(directory: string, rounds: number): Promise<{ dsync: number; flush: number }> {
  const file = `${directory}/durable.img`, sizeBytes = 4 << 20;
  await fillOnce({ files: [file] }, sizeBytes); // or the first to come would pay for the blocks
  const run = async (how: string) => {
    const text = await runTool("fio", [
      "--name=durable",
      `--filename=${file}`,
      "--ioengine=io_uring",
      "--direct=1",
      "--rw=write",
      "--bs=4096",
      `--size=${sizeBytes}`,
      "--time_based=1",
      "--runtime=1",
      how,
      "--output-format=json",
    ]);
    return 1000 / JSON.parse(text.slice(text.indexOf("{"))).jobs[0].write.iops;
  };
  const dsync: number[] = [], flush: number[] = [];
  for (let round = 0; round < rounds; round++) {
    dsync.push(await run("--sync=dsync"));
    flush.push(await run("--fdatasync=1"));
  }
  return { dsync: median(dsync), flush: median(flush) };
}

/** Nanoseconds of checksums; see bench/micro/checksum_bench.ts. */
async function checksumNanoseconds(): Promise<Record<string, number>> {
  const bench = fileURLToPath(new URL("../micro/checksum_bench.ts", import.meta.url));
  return JSON.parse(await runTool(Deno.execPath(), ["run", "--quiet", "--no-prompt", bench, "--json"]));
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "3" },
    "hot-mib": { type: "string", default: "256" },
    directory: { type: "string" },
    json: { type: "string" },
  },
});
const rounds = Number(options.rounds), seconds = Number(options.seconds);
const areaBytes = Number(options["hot-mib"]) * (1 << 20);
const directory = await Deno.makeTempDir({ dir: options.directory, prefix: "brmr-bench-" });
const clusters = new Map<string, Cluster>();
const samples = new Map<string, Sample[]>();
let durable, dropBlocks = 0;
try {
  durable = await durableWriteMs(directory, rounds);
  for (const { name, options, isDegraded } of SHAPES) {
    const size = `${2 * areaBytes / (1 << 20)}M`;
    const cluster = await Cluster.start({ ...options, size, parentDirectory: directory });
    clusters.set(name, cluster);
    await fillOnce({ uri: cluster.uri }, areaBytes);
    if (isDegraded) dropBlocks = await dropOne(cluster);
    await runFio({ uri: cluster.uri }, QD32, WARM_UP_SECONDS, areaBytes);
  }
  for (let round = 0; round < rounds; round++) {
    for (const { title, shape, profile } of CASES) {
      const sample = await measure(clusters.get(shape)!, profile, seconds, areaBytes);
      samples.set(title, [...samples.get(title) ?? [], sample]);
      console.error(`round ${round + 1} ${title}: ${Math.round(sample.iops)} IOPS`);
    }
  }
} finally {
  for (const cluster of clusters.values()) await cluster.close();
  await Deno.remove(directory, { recursive: true });
}

const results = CASES.map(({ title, profile }) => {
  const isAlike = ({ profile: other }: Case) => other.depth === profile.depth && other.rw === profile.rw;
  const base = samples.get(CASES.find(isAlike)!.title)!;
  const mine = samples.get(title)!;
  return {
    case: title,
    iops: median(mine.map((sample) => sample.iops)),
    // Round by round: the machine's speed drifts.
    ofBase: median(mine.map((sample, round) => sample.iops / base[round].iops)),
    cpuUs: median(mine.map((sample) => sample.cpuUs)),
    metadataPerMillion: median(mine.map((sample) => sample.metadataPerMillion)),
  };
});
const checksums = await checksumNanoseconds();
console.log(formatTable([
  ["4k, at random", "IOPS", "of the first", "CPU us/IO, all", "metadata blocks / million I/Os, leg"],
  ...results.map((row) => [
    row.case,
    row.iops.toFixed(0),
    row.ofBase.toFixed(2),
    row.cpuUs.toFixed(1),
    row.metadataPerMillion.toFixed(0),
  ]),
]));
console.log(
  `One durable write of 4 KiB to a plain file: ${durable.dsync.toFixed(3)} ms with O_DSYNC, ` +
    `${
      durable.flush.toFixed(3)
    } ms as a write and a flush. A record (superblock, epoch, intents, a page of a dirty map) is two. ` +
    `To drop a leg of an idle pool took ${dropBlocks} blocks of metadata on the other.`,
);
console.log(
  `Checksums: ${checksums.payload4k.toFixed(0)} ns for 4 KiB and ${checksums.payload128k.toFixed(0)} ns for 128 KiB, ` +
    `made once per write and checked once per leg, and not at all in shared memory; a header ` +
    `${checksums.headerEncode.toFixed(0)} ns to encode and ${checksums.headerDecode.toFixed(0)} ns to check ` +
    `and decode, its sum included.`,
);
await writeJson(options.json, {
  rounds,
  seconds,
  areaBytes,
  results,
  durableWriteMs: durable,
  checksumNanoseconds: checksums,
});
