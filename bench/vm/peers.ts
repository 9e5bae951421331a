/**
 * A pool beside the kernel's own replicated disks, under emulation: brmr on RDMA (soft-RoCE) and on TCP as /dev/ublkbN, md
 * raid1 over NVMe-oF, DRBD, and RNBD where the guests' kernel has it. Every disk under them is a RAM disk. All in one guest,
 * or a client in one and the copies in two others (DRBD, which is a pair, keeps one copy with the client).
 *
 * Rounds are interleaved, every peer once and then again, so that a slow minute of the machine hits all of them. Rates
 * under emulation say nothing; ratios say something.
 *
 * Ours sum payloads over TCP, which the others do not unless told to: `--payload-crc never` has ours do as they do.
 *
 *     deno task bench:vm [--guests 1|3] [--rounds 3] [--seconds 5] [--warm-up 120] [--peers brmr-rdma,drbd]
 *       [--payload-crc auto|always|never] [--memory MIB] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import { guestTools } from "../../tests/vm/bed/tools.ts";
import { formatTable, median, writeJson } from "../macro/statistics.ts";
import { BlockFio, type Measured } from "./block_fio.ts";
import { KERNEL_PEERS, makeKernelPeer, type Place } from "./kernel_peers.ts";

/** "-in-place": one copy is the client's own, as with DRBD. */
const OURS = ["brmr-rdma", "brmr-tcp", "brmr-rdma-in-place", "brmr-tcp-in-place"];
const DISK_MIB = 160;
/** Metadata of every peer fits beside it. */
const POOL_MIB = 128;
const PROFILES = ["randwrite QD32", "write QD512 batch 128"] as const;
const PEER_WARM_UP_SECONDS = 10;
/** Of a guest, besides its RAM disks; a pool's processes in one guest take more. */
const GUEST_MIB = { 1: 2368, 3: 1280 };

interface Row extends Measured {
  readonly round: number;
  readonly peer: string;
  readonly profile: string;
}

const { values } = parseArgs({
  options: {
    guests: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
    "warm-up": { type: "string", default: "120" },
    peers: { type: "string" },
    memory: { type: "string" },
    "payload-crc": { type: "string", default: "auto" },
    json: { type: "string" },
  },
});
// In one guest every copy is in place.
const usual = OURS.filter((peer) => values.guests !== "1" || !peer.endsWith("-in-place"));
const wanted = values.peers?.split(",") ?? [...usual, ...KERNEL_PEERS];
const unknown = wanted.filter((peer) => ![...OURS, ...KERNEL_PEERS].includes(peer));
if (unknown.length > 0) {
  console.error(`There is no peer ${unknown.join(", ")}. There are ${[...OURS, ...KERNEL_PEERS].join(", ")}`);
  Deno.exit(2);
}
const guests = Number(values.guests);
if (guests !== 1 && guests !== 3) {
  console.error(`--guests is 1 or 3, not ${values.guests}`);
  Deno.exit(2);
}

const diskCount = (guests === 1 ? 2 : 1) * wanted.length;
const memoryMib = Number(values.memory ?? GUEST_MIB[guests] + diskCount * DISK_MIB);

const layer = await guestTools(["mdadm", "drbd-utils"]);
await using bed = await Bed.open({ guests, memoryMib, modules: ["ublk_drv"], layer });
const client = bed.guest(1);
for (const guest of bed.guests) {
  await guest.expect(`modprobe brd rd_nr=${diskCount} rd_size=${DISK_MIB << 10} max_part=0`);
}

/** Where the copies of a peer lie. */
function placesOf(peer: string, number: number): [Place, Place] {
  const place = (guest: number, disk: number) => ({ guest: bed.guest(guest), disk: `/dev/ram${disk}` });
  if (guests === 1) return [place(1, 2 * number - 2), place(1, 2 * number - 1)];
  const isInPlace = peer === "drbd" || peer.endsWith("-in-place");
  return isInPlace ? [place(1, number - 1), place(2, number - 1)] : [place(2, number - 1), place(3, number - 1)];
}

/** Makes a peer; returns its device, or null where the guests' kernel has no module for it. */
async function make(peer: string, number: number): Promise<string | null> {
  const places = placesOf(peer, number);
  if (!OURS.includes(peer)) return await makeKernelPeer(peer, number, client, places);
  const legs = places.map(({ guest, disk }) => ({ guest, leg: disk }));
  const sums = `--payload-crc ${values["payload-crc"]}`;
  const options = { name: peer, firstPort: 7700 + 10 * number, rdma: true, serveOptions: sums };
  const pool = await GuestPool.create(bed.directory, legs, POOL_MIB, options);
  return await pool.attach(client, `--device ublk --transport ${peer.split("-")[1]} ${sums}`);
}

const devices = new Map<string, string>();
for (const [index, peer] of wanted.entries()) {
  const device = await make(peer, index + 1);
  if (device === null) console.error(`${peer}: this kernel has no such module; left out`);
  else devices.set(peer, device);
}
const fio = new BlockFio(client, POOL_MIB - 8);
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
