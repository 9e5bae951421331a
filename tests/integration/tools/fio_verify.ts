/**
 * fio as a checker: it writes blocks with checksums over several connections and reads them back.
 *
 * @module
 */

import { runCommand } from "../cluster.ts";

/** What fio shall do. Each job has a connection and a part of the pool of its own. */
export interface VerifyOptions {
  readonly jobs?: number;
  readonly mebibytesPerJob?: number;
  /** fio's bsrange, e.g. "4k-64k". */
  readonly blockRange?: string;
  readonly depth?: number;
  readonly rw?: "randwrite" | "write" | "randrw";
}

/** Writes and verifies once. Throws with what fio said on the first wrong byte or failed request. */
export async function runFioVerify(uri: string, options: VerifyOptions = {}): Promise<void> {
  const mebibytes = options.mebibytesPerJob ?? 32;
  const result = await runCommand("fio", [
    "--name=verify",
    "--ioengine=nbd",
    `--uri=${uri}`,
    `--rw=${options.rw ?? "randwrite"}`,
    `--bsrange=${options.blockRange ?? "4k-64k"}`,
    `--iodepth=${options.depth ?? 16}`,
    `--numjobs=${options.jobs ?? 4}`,
    `--size=${mebibytes}M`,
    `--offset_increment=${mebibytes}M`,
    "--verify=crc32c",
    "--verify_fatal=1",
    "--verify_state_save=0",
    "--do_verify=1",
    "--randrepeat=0",
    "--group_reporting",
    // 200 flushes a job would be the disk's speed, a few are what an application does.
    "--fsync=256",
  ]);
  const text = result.stdout + result.stderr;
  if (result.code !== 0 || /verify: bad|err=\s*[1-9]/.test(text)) {
    throw new Error(`fio --verify failed (${result.code}): ${text.slice(-4000)}`);
  }
}
