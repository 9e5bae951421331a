/**
 * Where the processors' time goes while a pool is written, in one guest or by a client in the first of three and nodes in the
 * others ("--in-place": one of them beside the client): by process, by what kind of code, by function. perf samples one guest;
 * JavaScript functions have their names. Needs perf (Debian: linux-perf).
 *
 *     deno task bench:vm-profile [--guests 1|3] [--sampled GUEST] [--in-place] [--transport rdma]
 *       [--payload-crc auto|always|never] [--profile "randwrite QD32"] [--warm-up 120] [--seconds 20]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import { BlockFio, measured, PROFILES } from "./block_fio.ts";

const POOL_MIB = 128;
/** fio is ended when perf has seen enough, which takes long to start under emulation. */
const FIO_LIMIT_SECONDS = 900;
const LIMIT_MS = FIO_LIMIT_SECONDS * 1000;
/** What perf sorts by: one table each, of so many lines at most. */
const VIEWS = [["comm"], ["comm", "dso"], ["comm", "symbol"]];
const LINES = 40;

const { values } = parseArgs({
  options: {
    guests: { type: "string", default: "1" },
    sampled: { type: "string", default: "1" },
    "in-place": { type: "boolean", default: false },
    "payload-crc": { type: "string", default: "auto" },
    transport: { type: "string", default: "rdma" },
    profile: { type: "string", default: "randwrite QD32" },
    "warm-up": { type: "string", default: "120" },
    seconds: { type: "string", default: "20" },
  },
});
if (!Object.hasOwn(PROFILES, values.profile)) {
  console.error(`There is no profile "${values.profile}". There are ${Object.keys(PROFILES).join(", ")}`);
  Deno.exit(2);
}

const guests = Number(values.guests);
if (guests !== 1 && guests !== 3) {
  console.error(`--guests is 1 or 3, not ${values.guests}`);
  Deno.exit(2);
}

await using bed = await Bed.open({ guests, memoryMib: guests === 1 ? 3072 : 1536, modules: ["ublk_drv"] });
const guest = bed.guest(1);
const sampled = bed.guest(Number(values.sampled));
for (const each of bed.guests) {
  await each.expect(`modprobe brd rd_nr=2 rd_size=${(POOL_MIB + 32) << 10} max_part=0`);
}
const legs = guests === 1
  ? ["/dev/ram0", "/dev/ram1"].map((leg) => ({ guest, leg }))
  : (values["in-place"] ? [1, 2] : [2, 3]).map((number) => ({ guest: bed.guest(number), leg: "/dev/ram0" }));
const sums = `--payload-crc ${values["payload-crc"]}`;
const pool = await GuestPool.create(bed.directory, legs, POOL_MIB, {
  rdma: true,
  serveOptions: sums,
  runtimeFlags: ["--v8-flags=--perf-basic-prof"],
});
const device = await pool.attach(guest, `--device ublk --transport ${values.transport} ${sums}`);
const fio = new BlockFio(guest, POOL_MIB - 8);
await fio.fill(device);
await fio.run(device, values.profile, Number(values["warm-up"]));
const run = await fio.start(device, values.profile, FIO_LIMIT_SECONDS);
// The seventh number of the statistics counts sectors written: sampling begins when there is I/O.
const written = `awk '{ print $7 }' /sys/block/${device.slice("/dev/".length)}/stat`;
await guest.expect(`before=$(${written}); while [ $(${written}) = $before ]; do sleep 0.2; done`, LIMIT_MS);
await sampled.expect(
  `perf record -q -F 299 -e cpu-clock -a -o /run/perf.data -- sleep ${Number(values.seconds)}`,
  LIMIT_MS,
);
await run.signal("INT");
const { iops } = await measured(run);
const where = guests === 1 ? "the guest" : `guest ${sampled.number}`;
console.log(`${values.transport}, ${values.profile}: ${Math.round(iops)} IOPS while perf sampled ${where}`);
for (const keys of VIEWS) {
  console.log(`\nby ${keys.join(", ")}`);
  const report = `perf report -i /run/perf.data --no-children --sort ${keys.join(",")} --stdio 2>/dev/null`;
  console.log((await sampled.expect(`${report} | grep -v -e '^#' -e '^ *$' | head -n ${LINES}; true`)).trimEnd());
}
