/**
 * Speed, side by side with QEMU's quorum driver: two legs each, all four stores O_DIRECT files on the same disk, fio
 * through each unix socket, rounds interleaved so that a slow minute of the machine hits both, the disk's cache flushed
 * before each run. Reports medians, their ratio, CPU per I/O of client and storage nodes, and the share of what two raw
 * files give when both are written at once.
 *
 *     deno task bench [--rounds 3] [--seconds 4] [--size-mib 1024] [--directory DIR | --ram-disk MIB]
 *         [--only brmr|qemu] [--profile TEXT] [--transport auto|tcp] [--json FILE]
 *
 * With `--ram-disk` all stores are on a disk in memory of so many MiB (see ram_disk.ts; as root), an eighth of it each
 * unless `--size-mib` says otherwise: then the disk is no bound, and what is compared is the software alone. `--profile`
 * measures only those profiles whose title contains TEXT.
 *
 * Needs fio with its nbd engine, and qemu-storage-daemon. Run it on a machine that does nothing else.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Cluster } from "../../tests/integration/cluster.ts";
import { fillOnce, type FioProfile, type FioResult, type FioTarget, PROFILES, runFio, runTool } from "./fio.ts";
import { cpuSeconds } from "./process_usage.ts";
import { startQuorum } from "./qemu_quorum.ts";
import { makeRamDisk } from "./ram_disk.ts";
import { formatTable, median, writeJson } from "./statistics.ts";

/** How long each profile runs on each side before the first round, in seconds. */
const WARM_UP_SECONDS = 2;

/** A pool under test. */
interface Side {
  readonly name: string;
  readonly target: FioTarget;
  readonly clientPid: number;
  readonly nodePids: readonly number[];
  stop(): Promise<void>;
}

/** One run of one profile on one side. CPU is in microseconds per I/O. */
interface Sample extends FioResult {
  readonly clientCpuUs: number;
  readonly nodesCpuUs: number;
}

/** Medians over the rounds. */
interface Summary {
  readonly iops: number;
  readonly bytesPerSecond: number;
  readonly meanLatencyUs: number;
  readonly p99LatencyUs: number;
  readonly clientCpuUs: number;
  readonly nodesCpuUs: number;
}

/** What one run left in the disk's cache is not for the next one to pay. */
async function settle(): Promise<void> {
  await runTool("sync", ["--file-system", directory]);
}

async function measure(side: Side, profile: FioProfile, seconds: number, sizeBytes: number): Promise<Sample> {
  await settle();
  const clientBefore = await cpuSeconds([side.clientPid]);
  const nodesBefore = await cpuSeconds(side.nodePids);
  const result = await runFio(side.target, profile, seconds, sizeBytes);
  const client = await cpuSeconds([side.clientPid]) - clientBefore;
  const nodes = await cpuSeconds(side.nodePids) - nodesBefore;
  return { ...result, clientCpuUs: client * 1e6 / result.ioCount, nodesCpuUs: nodes * 1e6 / result.ioCount };
}

function summarize(samples: readonly Sample[]): Summary {
  const of = (value: (sample: Sample) => number) => median(samples.map(value));
  return {
    iops: of((sample) => sample.iops),
    bytesPerSecond: of((sample) => sample.bytesPerSecond),
    meanLatencyUs: of((sample) => sample.meanLatencyUs),
    p99LatencyUs: of((sample) => sample.p99LatencyUs),
    clientCpuUs: of((sample) => sample.clientCpuUs),
    nodesCpuUs: of((sample) => sample.nodesCpuUs),
  };
}

async function startBrmr(directory: string, sizeBytes: number): Promise<Side> {
  const cluster = await Cluster.start({
    size: `${sizeBytes / (1 << 20)}M`,
    parentDirectory: directory,
    attachArguments: ["--transport", options.transport],
  });
  return {
    name: "brmr",
    target: { uri: cluster.uri },
    clientPid: cluster.client.pid,
    nodePids: cluster.nodePids,
    stop: () => cluster.close(),
  };
}

async function startQemu(directory: string, sizeBytes: number): Promise<Side> {
  const pool = await startQuorum(directory, sizeBytes);
  return {
    name: "qemu quorum",
    target: { uri: pool.uri },
    clientPid: pool.clientPid,
    nodePids: pool.nodePids,
    stop: () => pool.stop(),
  };
}

const RAW = "two raw files";

/** The disk itself: two files at once, one job each. What a pool of two legs could reach if all else were free. */
async function startRaw(directory: string, sizeBytes: number): Promise<FioTarget> {
  const target = { files: [`${directory}/raw1.img`, `${directory}/raw2.img`] };
  await fillOnce(target, sizeBytes);
  return target;
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "4" },
    "size-mib": { type: "string" },
    directory: { type: "string" },
    "ram-disk": { type: "string" },
    only: { type: "string" },
    profile: { type: "string", default: "" },
    transport: { type: "string", default: "auto" },
    json: { type: "string" },
  },
});
const rounds = Number(options.rounds);
const seconds = Number(options.seconds);
const ramMebibytes = options["ram-disk"] === undefined ? 0 : Number(options["ram-disk"]);
const sizeMebibytes = options["size-mib"] ?? (ramMebibytes > 0 ? Math.floor(ramMebibytes / 8) : 1024);
const sizeBytes = Number(sizeMebibytes) * (1 << 20);
const profiles = PROFILES.filter((profile) => profile.title.includes(options.profile));
if (profiles.length === 0) throw new Error(`No profile's title contains "${options.profile}"`);
const ramDisk = ramMebibytes > 0 ? await makeRamDisk(ramMebibytes * (1 << 20)) : null;
const directory = await Deno.makeTempDir({ dir: ramDisk?.directory ?? options.directory, prefix: "brmr-bench-" });
const sides: Side[] = [];
const samples = new Map<string, Sample[]>();
const rawRates = new Map<string, number[]>();
try {
  if (options.only !== "brmr") sides.push(await startQemu(directory, sizeBytes));
  if (options.only !== "qemu") sides.push(await startBrmr(directory, sizeBytes));
  const raw = await startRaw(directory, sizeBytes);
  for (const side of sides) await fillOnce(side.target, sizeBytes);
  // Neither side is measured cold: ours is compiled while it runs, and both have caches.
  for (const side of sides) for (const profile of profiles) await measure(side, profile, WARM_UP_SECONDS, sizeBytes);
  for (let round = 0; round < rounds; round++) {
    for (const profile of profiles) {
      // Who goes first changes from round to round.
      for (const side of round % 2 === 0 ? sides : [...sides].reverse()) {
        const sample = await measure(side, profile, seconds, sizeBytes);
        const key = `${side.name}/${profile.title}`;
        samples.set(key, [...samples.get(key) ?? [], sample]);
        console.error(`round ${round + 1} ${profile.title} ${side.name}: ${Math.round(sample.iops)} IOPS`);
      }
      await settle();
      const rate = (await runFio(raw, profile, seconds, sizeBytes)).iops;
      rawRates.set(profile.title, [...rawRates.get(profile.title) ?? [], rate]);
    }
  }
} finally {
  for (const side of sides) await side.stop();
  await Deno.remove(directory, { recursive: true });
  await ramDisk?.remove();
}

/** Our rate over theirs, for each round. */
function ratios(title: string): number[] {
  const theirs = samples.get(`qemu quorum/${title}`)!;
  return samples.get(`brmr/${title}`)!.map((sample, round) => sample.iops / theirs[round].iops);
}

const results = profiles.map((profile) => {
  const bySide = new Map(sides.map((side) => [side.name, summarize(samples.get(`${side.name}/${profile.title}`)!)]));
  const brmr = bySide.get("brmr");
  const qemu = bySide.get("qemu quorum");
  const rawIops = median(rawRates.get(profile.title)!);
  // For reads the pair could serve twice the rate of one file.
  const mostIops = profile.rw === "randread" ? 2 * rawIops : rawIops;
  return {
    profile: profile.title,
    brmr,
    qemuQuorum: qemu,
    // Round by round, since the machine's speed may drift from one to the next.
    ratio: brmr && qemu ? median(ratios(profile.title)) : undefined,
    rawFilePairIops: rawIops,
    shareOfRaw: brmr ? brmr.iops / mostIops : undefined,
    qemuShareOfRaw: qemu ? qemu.iops / mostIops : undefined,
  };
});
const whole = (value: number | undefined) => value === undefined ? "-" : `${Math.round(value)}`;
const fine = (value: number | undefined, digits = 2) => value === undefined ? "-" : value.toFixed(digits);
const heading = ["profile", "brmr IOPS", "qemu IOPS", "ratio", "of raw", "qemu of raw", "p99 us", "qemu p99 us"];
console.log(formatTable([
  [...heading, "client us/IO", "nodes us/IO", "qemu client", "qemu nodes"],
  ...results.map((row) => [
    row.profile,
    whole(row.brmr?.iops),
    whole(row.qemuQuorum?.iops),
    fine(row.ratio),
    fine(row.shareOfRaw),
    fine(row.qemuShareOfRaw),
    whole(row.brmr?.p99LatencyUs),
    whole(row.qemuQuorum?.p99LatencyUs),
    fine(row.brmr?.clientCpuUs, 1),
    fine(row.brmr?.nodesCpuUs, 1),
    fine(row.qemuQuorum?.clientCpuUs, 1),
    fine(row.qemuQuorum?.nodesCpuUs, 1),
  ]),
]));
console.log(
  `${rounds} rounds of ${seconds} s, medians (ratio: of the rounds' ratios); "of raw": share of what ${RAW} give each when both are driven at once ` +
    `(reads: of their sum); us/IO: CPU microseconds per I/O, both storage nodes together.`,
);
await writeJson(options.json, { rounds, seconds, sizeBytes, ramMebibytes, results });
