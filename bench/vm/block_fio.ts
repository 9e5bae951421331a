/**
 * fio on block devices of a guest: the profiles that replicated disks are compared with.
 *
 * @module
 */

import type { Guest, GuestCommand } from "../../tests/vm/bed/guest.ts";

/** What one run gave. Latencies are of completion. */
export interface Measured {
  readonly iops: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  /** Share of both CPUs that fio itself took, in percent of one. */
  readonly fioCpuPercent: number;
}

/** What can be run, and fio's options for it. */
export const PROFILES: Readonly<Record<string, string>> = {
  "randwrite QD32": "--rw=randwrite --iodepth=32",
  "write QD512 batch 128": "--rw=write --iodepth=512 --iodepth_batch_submit=128 --iodepth_batch_complete_min=1 " +
    "--iodepth_batch_complete_max=128",
};

/** See the module's description. Runs cover the first `sizeMib` of a device. */
export class BlockFio {
  readonly #guest: Guest;
  readonly #sizeMib: number;

  constructor(guest: Guest, sizeMib: number) {
    this.#guest = guest;
    this.#sizeMib = sizeMib;
  }

  /** Writes all of it once. */
  async fill(device: string): Promise<void> {
    await this.#guest.expect(`dd if=/dev/zero of=${device} bs=1M count=${this.#sizeMib} oflag=direct status=none`);
  }

  /** Runs a profile for `seconds`, after one that does not count. */
  async run(device: string, profile: string, seconds: number): Promise<Measured> {
    return await measured(await this.start(device, profile, seconds));
  }

  /** Begins it. Extra options as fio has them; the last of a kind holds. */
  start(device: string, profile: string, seconds: number, options = ""): Promise<GuestCommand> {
    return this.#guest.spawn(
      `exec fio --name=bench --filename=${device} --size=${this.#sizeMib}M ${PROFILES[profile]} --bs=4k --direct=1 ` +
        `--ioengine=libaio --time_based --runtime=${seconds} --ramp_time=1 --randrepeat=0 --norandommap ` +
        `--output-format=json --eta=never ${options}`,
      "fio",
    );
  }
}

/** The rate of a run over time. */
export class RateLog {
  /** When each entry was written, in ms of the guest's clock, and I/Os per second since the one before. */
  readonly #entries: readonly (readonly [number, number])[];

  /** Options that make fio keep one, for the run that is to be read. */
  static readonly OPTIONS = "--ramp_time=0 --write_iops_log=/run/rates --log_avg_msec=250 --log_unix_epoch=1";

  private constructor(entries: readonly (readonly [number, number])[]) {
    this.#entries = entries;
  }

  /** Of the run that has just ended. */
  static async read(guest: Guest): Promise<RateLog> {
    const text = await guest.expect("cat /run/rates_iops.1.log");
    return new RateLog(
      text.trim().split("\n").map((line) => line.split(",").map(Number)).map(([atMs, iops]) => [atMs, iops]),
    );
  }

  get firstMs(): number {
    return this.#entries[0][0];
  }

  /** Mean rate of the entries that lie wholly between two times; null when there are none. */
  mean(fromMs: number, toMs: number): number | null {
    let count = 0;
    let lastedMs = 0;
    for (let i = 1; i < this.#entries.length; i++) {
      const [startMs] = this.#entries[i - 1];
      const [endMs, iops] = this.#entries[i];
      if (startMs < fromMs || endMs > toMs) continue;
      lastedMs += endMs - startMs;
      count += iops * (endMs - startMs);
    }
    return lastedMs === 0 ? null : count / lastedMs;
  }
}

/** How fio ends when it is told to by a signal; its report is whole, and has the errors of requests. */
const ENDED_BY_SIGNAL = 128;

/** Waits for the end of a run, by itself or by a signal. Throws when a request failed. */
export async function measured(fio: GuestCommand): Promise<Measured> {
  const { status } = await fio.ended;
  if (status !== 0 && status !== ENDED_BY_SIGNAL) throw new Error(`fio ended with ${status}: ${await fio.log()}`);
  const [job] = JSON.parse((await fio.stdout()).replace(/^[^{]*/, "")).jobs;
  if (job.error !== 0) throw new Error(`fio reports error ${job.error}`);
  const { iops, clat_ns: latency } = job.write;
  return {
    iops,
    p50Us: latency.percentile["50.000000"] / 1000,
    p99Us: latency.percentile["99.000000"] / 1000,
    maxUs: latency.max / 1000,
    fioCpuPercent: job.usr_cpu + job.sys_cpu,
  };
}
