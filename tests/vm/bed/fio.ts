/**
 * fio as a checker in a guest: it writes blocks with checksums and reads them back in between.
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

/** No machine writes faster than this, so that a fault comes while fio is under way. */
const WRITES_PER_SECOND = 200;

/**
 * Starts to write and verify, for `seconds` at least. How much is written is fixed and not how long it takes: a slow machine
 * that stands still for most of a time limit would have verified nothing.
 */
export function startFioVerify(guest: Guest, device: string, seconds: number): Promise<GuestCommand> {
  return guest.spawn(
    `exec fio --name=verify --filename=${device} --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=16 ` +
      `--size=48M --io_size=${seconds * WRITES_PER_SECOND * 4}K --rate_iops=,${WRITES_PER_SECOND} --verify=crc32c ` +
      `--verify_fatal=1 --verify_backlog=512 --randrepeat=0 --output-format=json --eta=never`,
    "fio",
  );
}

/** Waits for its end. Throws when a request failed or a block was wrong. */
export async function expectVerified(fio: GuestCommand): Promise<FioResult> {
  const { status } = await fio.ended;
  assert.equal(status, 0, await fio.log());
  const [job] = JSON.parse((await fio.stdout()).replace(/^[^{]*/, "")).jobs;
  assert.equal(job.error, 0);
  assert.ok(job.write.total_ios > 0 && job.read.total_ios > 0, "it wrote, and read back");
  const longestMs = Math.max(job.write.clat_ns.max, job.read.clat_ns.max) / 1e6;
  return { writes: job.write.total_ios, reads: job.read.total_ios, longestMs };
}
