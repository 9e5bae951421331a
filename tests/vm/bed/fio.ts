/**
 * fio as a checker in a guest: it writes blocks with checksums and reads them back, in between or at the end.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Guest, GuestCommand } from "./guest.ts";

/** What a run has shown. */
export interface FioResult {
  readonly writes: number;
  readonly reads: number;
  /** The longest that one request took. */
  readonly longestMs: number;
}

/** What fio reports of one kind of request. */
interface Direction {
  readonly total_ios: number;
  readonly io_kbytes: number;
  readonly clat_ns: { readonly max: number };
}

/** What fio reports of a job, as far as it is looked at here. */
export interface FioJob {
  readonly error: number;
  readonly read: Direction;
  readonly write: Direction;
  readonly trim: Direction;
  readonly sync: { readonly total_ios: number };
}

/** No machine writes faster than this, so that a fault comes while fio is under way. */
const WRITES_PER_SECOND = 200;

/** Writes after which fio counts as being under way. */
const FIRST_WRITES = 20;

/** The part of a device, or the file, that is written while faults strike. */
export const VERIFIED_MIB = 48;

/**
 * Starts to write and verify, for `seconds` at least, and waits until it is under way. How much is written is fixed and not how long it takes: a slow machine
 * that stands still for most of a time limit would have verified nothing.
 * @param target a file on the device, of VERIFIED_MIB; by default it is the device itself
 */
export async function startFioVerify(
  guest: Guest,
  device: string,
  seconds: number,
  target = device,
): Promise<GuestCommand> {
  // The fifth number of the kernel's statistics counts writes.
  const count = `awk '{ print $5 }' /sys/block/${device.slice("/dev/".length)}/stat`;
  const before = Number(await guest.expect(count));
  const fio = await guest.spawn(
    `exec fio --name=verify --filename=${target} --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=16 ` +
      `--size=${VERIFIED_MIB}M --io_size=${seconds * WRITES_PER_SECOND * 4}K --rate_iops=,${WRITES_PER_SECOND} ` +
      `--verify=crc32c --verify_fatal=1 --verify_backlog=512 --randrepeat=0 --output-format=json --eta=never`,
    "fio",
  );
  const wait = `for ((i = 0; i < 600; i++)); do [ $(${count}) -ge ${before + FIRST_WRITES} ] && exit; sleep 0.1; done`;
  await guest.expect(`${wait}; exit 1`);
  return fio;
}

/** Waits for its end. Throws when a request failed or a block was wrong. */
export async function expectVerified(fio: GuestCommand): Promise<FioResult> {
  const { status } = await fio.ended;
  assert.equal(status, 0, await fio.log());
  const [job] = jobsOf(await fio.stdout());
  assert.equal(job.error, 0);
  assert.ok(job.write.total_ios > 0 && job.read.total_ios > 0, "it wrote, and read back");
  const longestMs = Math.max(job.write.clat_ns.max, job.read.clat_ns.max) / 1e6;
  return { writes: job.write.total_ios, reads: job.read.total_ios, longestMs };
}

/** Runs jobs, which must end without an error. Each is given by its options, and has those of `common` as well. */
export async function runFioJobs(guest: Guest, common: string, jobs: readonly string[]): Promise<FioJob[]> {
  const named = jobs.map((options, index) => `--name=job${index} ${options}`);
  return jobsOf(
    await guest.expect(`fio --name=global ${common} ${named.join(" ")} --output-format=json --eta=never`, 300_000),
  );
}

/** The jobs of a report. What fio says before it is for people. */
function jobsOf(report: string): FioJob[] {
  return JSON.parse(report.replace(/^[^{]*/, "")).jobs;
}
