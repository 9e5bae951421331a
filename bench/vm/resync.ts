/**
 * A leg falls silent and returns, across three guests on RDMA: a client and two storage nodes. What an application gets in
 * sync, on one leg and during the resync; how soon that begins and how fast it is, by bytes missed; what it copies.
 *
 * The link to a node is cut silently and mended; everything else happens by itself. Rates under emulation say nothing,
 * their ratios something.
 *
 *     deno task bench:vm-resync [--mebibytes 128,256,512,1024] [--transport rdma] [--warm-up 120] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import type { Guest } from "../../tests/vm/bed/guest.ts";
import { formatTable, writeJson } from "../macro/statistics.ts";
import { BlockFio, measured, RateLog } from "./block_fio.ts";

/** fio's part of the pool, at its beginning; what is missed on purpose lies behind it. */
const FIO_MIB = 200;
const PROFILE = "write QD512 batch 128";
/** Before the link is mended, and after the leg is in sync again. */
const STEADY_MS = 6_000;
/** The rate needs so long to settle after a change. */
const SETTLE_MS = 1_000;
const LIMIT_MS = 900_000;
const RANDOM_SECONDS = 25;
/** What some systems keep one bit for. */
const COARSE_BYTES = 128 << 10;
/** The leg that goes away, and its guest. */
const LEG = 1;
const GUEST = 3;

/** What one return gave. */
interface Row {
  readonly what: string;
  readonly missedMib: number;
  readonly oneLegIops: number;
  readonly resyncingIops: number | null;
  /** Once the leg is in sync again. */
  readonly inSyncIops: number | null;
  /** From the mended link to the start of the resync, and from that to all in sync. */
  readonly startMs: number;
  readonly resyncMs: number;
  readonly longestMs: number;
}

const { values } = parseArgs({
  options: {
    mebibytes: { type: "string", default: "128,256,512,1024" },
    transport: { type: "string", default: "rdma" },
    "warm-up": { type: "string", default: "120" },
    json: { type: "string" },
  },
});
const sizesMib = values.mebibytes.split(",").map(Number);
const poolMib = FIO_MIB + Math.max(...sizesMib, FIO_MIB);
const diskMib = poolMib + 48;

await using bed = await Bed.open({ guests: 3, memoryMib: diskMib + 1280, modules: ["ublk_drv"] });
const client = bed.guest(1);
const legs: { guest: Guest; leg: string }[] = [];
for (const number of [2, GUEST]) {
  await bed.guest(number).expect(`modprobe brd rd_nr=1 rd_size=${diskMib << 10} max_part=0`);
  legs.push({ guest: bed.guest(number), leg: "/dev/ram0" });
}
const pool = await GuestPool.create(bed.directory, legs, poolMib, { rdma: true });
const device = await pool.attach(client, `--device ublk --transport ${values.transport} --log-format json`);
const fio = new BlockFio(client, FIO_MIB);

/** This machine's clock less the client's, by the quickest of some answers of a guest that has nothing else to do. */
async function clockOffsetMs(): Promise<number> {
  let offsetMs = 0;
  let leastMs = Infinity;
  for (let i = 0; i < 10; i++) {
    const before = Date.now();
    const guestMs = Number(await client.expect("date +%s%3N"));
    const tookMs = Date.now() - before;
    if (tookMs < leastMs) offsetMs = before + tookMs / 2 - guestMs;
    leastMs = Math.min(leastMs, tookMs);
  }
  return offsetMs;
}
const offsetMs = await clockOffsetMs();

/** Waits for the next event `name` of the leg after `sinceMs`. Both times of this machine's clock. */
async function eventAt(name: string, sinceMs: number): Promise<number> {
  return (await pool.waitEvent(name, LEG, sinceMs - offsetMs, LIMIT_MS)) + offsetMs;
}

async function cutAndDrop(): Promise<void> {
  const cutMs = Date.now();
  await bed.cut(GUEST);
  await eventAt("leg-dropped", cutMs);
}

/** Writes `mib` that the leg misses, each place once, from `atMib` on. */
async function miss(atMib: number, mib: number): Promise<void> {
  await client.expect(
    `dd if=/dev/urandom of=/run/noise bs=1M count=8 status=none 2>/dev/null; for ((i = ${atMib}; i < ${
      atMib + mib
    }; i += 8)); do ` +
      `dd if=/run/noise of=${device} bs=1M seek=$i count=8 oflag=direct status=none; done`,
    LIMIT_MS,
  );
}

/** The leg is away already and misses `missedMib`: it returns under load. */
async function returns(what: string, missedMib: number): Promise<Row> {
  const run = await fio.start(device, PROFILE, LIMIT_MS / 1000, RateLog.OPTIONS);
  await pause(STEADY_MS);
  const mendedMs = Date.now();
  await bed.mend(GUEST);
  const startMs = await eventAt("resync-started", mendedMs);
  const endMs = await eventAt("leg-in-sync", mendedMs);
  await pause(STEADY_MS);
  await run.signal("INT");
  const { maxUs } = await measured(run);
  const rates = await RateLog.read(client);
  const mean = (fromMs: number, toMs: number) => rates.mean(fromMs - offsetMs, toMs - offsetMs);
  return {
    what,
    missedMib,
    oneLegIops: rates.mean(rates.firstMs + SETTLE_MS, mendedMs - offsetMs) ?? 0,
    resyncingIops: mean(startMs, endMs),
    inSyncIops: mean(endMs + SETTLE_MS, endMs + STEADY_MS),
    startMs: startMs - mendedMs,
    resyncMs: endMs - startMs,
    longestMs: maxUs / 1000,
  };
}

/** Bytes that the returning node's process writes to its disk for each byte missed; nobody else writes meanwhile. */
async function amplification(what: string, write: string, missedBytes: number): Promise<string[]> {
  // What a leg has not flushed when it goes counts as missed, too.
  await client.expect(`sync ${device}`);
  await cutAndDrop();
  await client.expect(write, LIMIT_MS);
  const before = await pool.writtenBytes(LEG);
  const mendedMs = Date.now();
  await bed.mend(GUEST);
  await eventAt("leg-in-sync", mendedMs);
  const written = await pool.writtenBytes(LEG) - before;
  return [what, `${missedBytes / 1048576} MiB`, (written / missedBytes).toFixed(3)];
}

/**
 * What a leg misses of 4 KiB written at random for {@link RANDOM_SECONDS}, as it says itself, beside what a map with a bit for
 * every 128 KiB would hold to be missing; and how soon it is back with nobody writing.
 */
async function randomMisses(): Promise<string[]> {
  await client.expect(`sync ${device}`);
  await cutAndDrop();
  const { iops } = await fio.run(device, "randwrite QD32", RANDOM_SECONDS);
  const missed = JSON.parse(await pool.brmr(client, `sync-status ${pool.name} --json`, [0, 5])).legs[LEG].missingBytes;
  const map = await pool.brmr(client, `dirty-map ${pool.name} --leg ${LEG} --runs 10000 --json`);
  const { runs, runCount } = JSON.parse(map).legs[0];
  const coarse = new Set<number>();
  for (const { offsetBytes, lengthBytes } of runs) {
    const end = offsetBytes + lengthBytes;
    for (let at = Math.floor(offsetBytes / COARSE_BYTES); at * COARSE_BYTES < end; at++) coarse.add(at);
  }
  const mendedMs = Date.now();
  await bed.mend(GUEST);
  const startMs = await eventAt("resync-started", mendedMs);
  const endMs = await eventAt("leg-in-sync", mendedMs);
  const mib = (bytes: number) => `${(bytes / 1048576).toFixed(1)} MiB`;
  return [
    ...[`${RANDOM_SECONDS} s at ${Math.round(iops)} IOPS in ${FIO_MIB} MiB`, mib(missed)],
    // As many runs as are listed are counted.
    ...[
      (runs.length < runCount ? "over " : "") + mib(coarse.size * COARSE_BYTES),
      `${((endMs - startMs) / 1000).toFixed(1)} s`,
    ],
  ];
}

// Everything is written once, and all programs have compiled themselves, which takes minutes here, before anything is measured.
await fio.fill(device);
const cold = await fio.run(device, PROFILE, Number(values["warm-up"]));
console.error(`warm-up: ${Math.round(cold.iops)} IOPS`);

const rows: Row[] = [];
const report = (row: Row) => {
  rows.push(row);
  console.error(JSON.stringify(row));
};
await cutAndDrop();
await miss(0, FIO_MIB);
report(await returns("fio writes what is missed", FIO_MIB));
for (const mib of sizesMib) {
  await cutAndDrop();
  await miss(FIO_MIB, mib);
  report(await returns("fio writes elsewhere", mib));
}
const scattered = `fio --name=missed --filename=${device} --ioengine=libaio --direct=1 --rw=write:124k --bs=4k ` +
  `--iodepth=32 --size=${FIO_MIB}M --io_size=${(FIO_MIB << 20) / 32} --output=/dev/null`;
const amplified = [
  ["amplification", "missed", "bytes written / missed"],
  await amplification("sequential", `dd if=/dev/zero of=${device} bs=1M count=64 oflag=direct status=none`, 64 << 20),
  await amplification("4 KiB in every 128 KiB", scattered, (FIO_MIB << 20) / 32),
];

const random = [["4 KiB at random", "missed", "in units of 128 KiB", "resync"], await randomMisses()];

const rounded = (value: number | null) => value === null ? "-" : `${Math.round(value)}`;
const kept = ({ resyncingIops, inSyncIops }: Row) =>
  resyncingIops === null || inSyncIops === null ? "-" : `${Math.round(resyncingIops / inSyncIops * 100)} %`;
console.log(formatTable([
  ["dirty", "", "one leg IOPS", "resyncing", "in sync again", "kept", "mend to start", "resync", "MB/s", "longest I/O"],
  ...rows.map((row) => [
    `${row.missedMib} MiB`,
    row.what,
    rounded(row.oneLegIops),
    rounded(row.resyncingIops),
    rounded(row.inSyncIops),
    kept(row),
    `${(row.startMs / 1000).toFixed(1)} s`,
    `${(row.resyncMs / 1000).toFixed(1)} s`,
    (row.missedMib * 1.048576 / (row.resyncMs / 1000)).toFixed(1),
    `${(row.longestMs / 1000).toFixed(1)} s`,
  ]),
]));
console.log(formatTable(amplified));
console.log(formatTable(random));
await writeJson(values.json, { warmUpIops: cold.iops, rows, amplified, random });

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
