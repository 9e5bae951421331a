/**
 * How long I/O stands when a storage node falls silent, across three guests: a client, and two that hold a copy each. A pool on
 * RDMA and on TCP with the limits that it has by itself, beside md raid1 over NVMe-oF, which by itself waits for ten minutes
 * and is told to give a path up after three seconds. The link of the second copy is cut without a word while fio writes.
 *
 *     deno task bench:vm-gap [--rounds 3] [--peers brmr-rdma,md-nvme-rdma] [--json FILE]
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Bed } from "../../tests/vm/bed/bed.ts";
import { GuestPool } from "../../tests/vm/bed/brmr.ts";
import { guestTools } from "../../tests/vm/bed/tools.ts";
import { formatTable, median, writeJson } from "../macro/statistics.ts";
import { BlockFio, measured } from "./block_fio.ts";
import { makeKernelPeer } from "./kernel_peers.ts";

const PEERS = ["brmr-rdma", "brmr-tcp", "md-nvme-rdma", "md-nvme-tcp"];
const POOL_MIB = 32;
const DISK_MIB = 64;
const PROFILE = "randwrite QD32";
const WARM_UP_SECONDS = 20;
/** fio writes for so long before the cut, and after it for longer than any of them stands. */
const BEFORE_MS = 5_000;
const SECONDS = 40;
/** The guest that is cut off. */
const GUEST = 3;
/** Of an NVMe-oF connection: its path has failed three seconds after it was silent for three. */
const NVME_OPTIONS = ["ctrl_loss_tmo=60,fast_io_fail_tmo=3,keep_alive_tmo=3"];

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    peers: { type: "string", default: PEERS.join(",") },
    json: { type: "string" },
  },
});
const wanted = values.peers.split(",");
const unknown = wanted.filter((peer) => !PEERS.includes(peer));
if (unknown.length > 0) {
  console.error(`There is no peer ${unknown.join(", ")}. There are ${PEERS.join(", ")}`);
  Deno.exit(2);
}

const diskCount = wanted.length * Number(values.rounds);
const layer = await guestTools(["mdadm"]);
await using bed = await Bed.open({
  guests: 3,
  memoryMib: 1280 + diskCount * DISK_MIB,
  modules: ["ublk_drv"],
  layer,
});
const client = bed.guest(1);
for (const number of [2, GUEST]) {
  await bed.guest(number).expect(`modprobe brd rd_nr=${diskCount} rd_size=${DISK_MIB << 10} max_part=0`);
}

/** Makes a peer on the next disk; returns its device and how it is ended, for what is left behind would disturb the next one. */
async function make(peer: string, number: number): Promise<{ device: string; end: () => Promise<void> }> {
  const disk = `/dev/ram${number - 1}`;
  const places = [2, GUEST].map((guest) => ({ guest: bed.guest(guest), disk }));
  if (!peer.startsWith("brmr-")) {
    const device = await makeKernelPeer(peer, number, client, [places[0], places[1]], NVME_OPTIONS);
    return { device: device!, end: async () => void await client.expect(`mdadm --stop ${device}`) };
  }
  const legs = places.map(({ guest }) => ({ guest, leg: disk }));
  const pool = await GuestPool.create(bed.directory, legs, POOL_MIB, {
    name: `pool${number}`,
    firstPort: 7700 + 10 * number,
    rdma: true,
  });
  const device = await pool.attach(client, `--device ublk --transport ${peer.slice("brmr-".length)}`);
  return {
    device,
    async end(): Promise<void> {
      await pool.detach();
      await pool.killNode(0);
      await pool.killNode(1);
    },
  };
}

const fio = new BlockFio(client, POOL_MIB - 4);
const rows: { round: number; peer: string; longestMs: number }[] = [];
let number = 0;
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const peer of wanted) {
    const { device, end } = await make(peer, ++number);
    await fio.fill(device);
    await fio.run(device, PROFILE, WARM_UP_SECONDS);
    const run = await fio.start(device, PROFILE, SECONDS);
    await new Promise((resolve) => setTimeout(resolve, BEFORE_MS));
    await bed.cut(GUEST);
    const { maxUs } = await measured(run);
    rows.push({ round, peer, longestMs: maxUs / 1000 });
    console.error(`round ${round}: ${peer}: ${(maxUs / 1e6).toFixed(1)} s`);
    await bed.mend(GUEST);
    await end();
  }
}
console.log(formatTable([
  ["a node falls silent", "longest I/O, median", "rounds"],
  ...wanted.map((peer) => {
    const seconds = rows.filter((row) => row.peer === peer).map(({ longestMs }) => longestMs / 1000);
    return [peer, `${median(seconds).toFixed(1)} s`, seconds.map((each) => each.toFixed(1)).join(" ")];
  }),
]));
await writeJson(values.json, rows);
