/**
 * What an attached pool costs that nobody uses, over RDMA and over TCP, in one guest: CPU time, how often its threads wake,
 * memory registered with the RDMA device. Under emulation CPU time says little; its ratio, and the wake-ups, say something.
 *
 *     deno task bench:vm-idle [--seconds 20] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import type { Guest } from "../../tests/vm/bed/guest.ts";
import { formatTable, writeJson } from "../macro/statistics.ts";

/** So long after its last work a process has nothing left to do, collections of garbage included. */
const SETTLE_MS = 15_000;
/** For so long the pool is used before. */
const WARM_SECONDS = 30;

/** What the processes that match `pattern` have used. */
interface Use {
  /** In units of 10 ms. */
  readonly ticks: number;
  readonly wakeUps: number;
}

const { values } = parseArgs({ options: { seconds: { type: "string", default: "20" }, json: { type: "string" } } });
const seconds = Number(values.seconds);

async function use(guest: Guest, pattern: string): Promise<Use> {
  const text = await guest.expect(
    `p=$(pgrep -o -f -- "${pattern}"); awk '{ print $14 + $15 }' /proc/$p/stat; ` +
      `cat /proc/$p/task/*/status | awk '/^voluntary/ { n += $2 } END { print n }'`,
  );
  const [ticks, wakeUps] = text.trim().split("\n").map(Number);
  return { ticks, wakeUps };
}

await using bed = await Bed.open({ memoryMib: 2560, modules: ["ublk_drv"] });
const guest = bed.guest(1);
await guest.expect("modprobe brd rd_nr=2 rd_size=65536 max_part=0");
const legs = ["/dev/ram0", "/dev/ram1"].map((leg) => ({ guest, leg }));
const pool = await GuestPool.create(bed.directory, legs, 32, { rdma: true });
const rows = [];
for (const transport of ["rdma", "tcp"]) {
  const device = await pool.attach(guest, `--device ublk --transport ${transport}`);
  // As a pool that has been in use: what runs for the first time is interpreted, not compiled, and costs several times as much.
  await guest.expect(
    `fio --name=use --filename=${device} --rw=randrw --bs=4k --iodepth=32 --ioengine=libaio --direct=1 --time_based ` +
      `--runtime=${WARM_SECONDS}`,
  );
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const patterns = { client: "brmr.js attach", node: "brmr.js serve" };
  const before = { client: await use(guest, patterns.client), node: await use(guest, patterns.node) };
  await guest.expect(`sleep ${seconds}`);
  for (const which of ["client", "node"] as const) {
    const after = await use(guest, patterns[which]);
    rows.push({
      transport,
      process: which,
      cpuPercent: (after.ticks - before[which].ticks) / seconds,
      wakeUpsPerSecond: (after.wakeUps - before[which].wakeUps) / seconds,
    });
  }
  console.error(await pool.brmr(guest, `status ${pool.name}`));
  await pool.detach();
}
console.log(formatTable([
  ["transport", "process", "CPU %", "wake-ups/s"],
  ...rows.map((row) => [row.transport, row.process, row.cpuPercent.toFixed(2), row.wakeUpsPerSecond.toFixed(1)]),
]));
await writeJson(values.json, rows);
