/**
 * A pool beside the kernel's own replicated disks, in one guest under emulation: brmr on RDMA (soft-RoCE) and on TCP as
 * /dev/ublkbN, md raid1 over NVMe-oF, DRBD, and RNBD where the guest's kernel has it. Every disk under them is a RAM disk.
 *
 * Rounds are interleaved, every peer once and then again, so that a slow minute of the machine hits all of them. Rates
 * under emulation say nothing; ratios say something.
 *
 *     deno task bench:vm [--rounds 3] [--seconds 5] [--warm-up 120] [--peers brmr-rdma,drbd] [--memory MIB] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import type { Guest } from "../../tests/vm/bed/guest.ts";
import { guestTools } from "../../tests/vm/bed/tools.ts";
import { formatTable, median, writeJson } from "../macro/statistics.ts";
import { BlockFio, type Measured } from "./block_fio.ts";

const OURS = ["brmr-rdma", "brmr-tcp"];
const THEIRS = ["md-nvme-rdma", "md-nvme-rdma-bitmap", "md-nvme-tcp", "md-rnbd", "drbd"];
const DISK_MIB = 160;
/** Metadata of every peer fits beside it. */
const POOL_MIB = 128;
const PROFILES = ["randwrite QD32", "write QD512 batch 128"] as const;
const SCRIPT = "tests/vm/guest/peers.sh";
const PEER_WARM_UP_SECONDS = 10;

interface Row extends Measured {
  readonly round: number;
  readonly peer: string;
  readonly profile: string;
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
    "warm-up": { type: "string", default: "120" },
    peers: { type: "string", default: [...OURS, ...THEIRS].join(",") },
    memory: { type: "string", default: "4608" },
    json: { type: "string" },
  },
});
const wanted = values.peers.split(",");
const unknown = wanted.filter((peer) => ![...OURS, ...THEIRS].includes(peer));
if (unknown.length > 0) {
  console.error(`There is no peer ${unknown.join(", ")}. There are ${[...OURS, ...THEIRS].join(", ")}`);
  Deno.exit(2);
}

/** Makes `peer` on two RAM disks; returns its device, or null where the guest's kernel has no module for it. */
async function make(guest: Guest, directory: string, peer: string, number: number): Promise<string | null> {
  const disks = [`/dev/ram${2 * number - 2}`, `/dev/ram${2 * number - 1}`];
  if (OURS.includes(peer)) {
    const legs = disks.map((leg) => ({ guest, leg }));
    const pool = await GuestPool.create(directory, legs, POOL_MIB, {
      name: peer,
      firstPort: 7700 + 10 * number,
      rdma: true,
    });
    return await pool.attach(guest, `--device ublk --transport ${peer.slice("brmr-".length)}`);
  }
  if (peer === "md-rnbd" && (await guest.run("modprobe -n -q rnbd_client")).status !== 0) return null;
  return (await guest.expect(`bash ${SCRIPT} ${peer} ${disks.join(" ")} ${number}`)).trim();
}

const layer = await guestTools(["mdadm", "drbd-utils"]);
await using bed = await Bed.open({ memoryMib: Number(values.memory), modules: ["ublk_drv"], layer });
const guest = bed.guest(1);
await guest.expect(`modprobe brd rd_nr=${2 * wanted.length} rd_size=${DISK_MIB << 10} max_part=0`);
const devices = new Map<string, string>();
for (const [index, peer] of wanted.entries()) {
  const device = await make(guest, bed.directory, peer, index + 1);
  if (device === null) console.error(`${peer}: this kernel has no such module; left out`);
  else devices.set(peer, device);
}
const fio = new BlockFio(guest, POOL_MIB - 8);
// RAM disks take their memory when they are first written. What compiles itself while it runs does so for minutes under
// emulation, and rates are meant to be those of a program that has run for a while; C needs no such time.
for (const device of devices.values()) await fio.fill(device);
for (const [peer, device] of devices) {
  const seconds = OURS.includes(peer)
    ? Number(values["warm-up"])
    : Math.min(PEER_WARM_UP_SECONDS, Number(values["warm-up"]));
  for (const profile of PROFILES) {
    const { iops } = await fio.run(device, profile, seconds);
    console.error(`warm-up of ${seconds} s: ${peer}, ${profile}: ${Math.round(iops)} IOPS`);
  }
}

const rows: Row[] = [];
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const [peer, device] of devices) {
    for (const profile of PROFILES) {
      const measured = await fio.run(device, profile, Number(values.seconds));
      rows.push({ round, peer, profile, ...measured });
      console.error(`round ${round}: ${peer}, ${profile}: ${Math.round(measured.iops)} IOPS`);
    }
  }
}

const of = (peer: string, profile: string, value: (row: Row) => number) =>
  median(rows.filter((row) => row.peer === peer && row.profile === profile).map(value));
const table = [["4k writes, two copies", ...PROFILES.flatMap((profile) => [`${profile}: IOPS`, "p50 us", "p99 us"])]];
for (const peer of devices.keys()) {
  table.push([
    peer,
    ...PROFILES.flatMap((profile) =>
      [
        of(peer, profile, (row) => row.iops),
        of(peer, profile, (row) => row.p50Us),
        of(peer, profile, (row) => row.p99Us),
      ].map((value) => Math.round(value).toLocaleString("en"))
    ),
  ]);
}
console.log(formatTable(table));
await writeJson(values.json, rows);
