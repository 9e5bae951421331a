/**
 * The kernel's own replicated disks, made of parts in guests (`tests/vm/guest/peers.sh`): md raid1 over NVMe-oF or RNBD, and
 * DRBD.
 *
 * @module
 */

import type { Guest } from "../../tests/vm/bed/guest.ts";

/** What can be made. "-bitmap" is md with its write-intent bitmap. */
export const KERNEL_PEERS = [
  "md-nvme-rdma",
  "md-nvme-rdma-bitmap",
  "md-nvme-tcp",
  "md-nvme-tcp-bitmap",
  "md-rnbd",
  "drbd",
];
const SCRIPT = "tests/vm/guest/peers.sh";

/** Where a copy lies. */
export interface Place {
  readonly guest: Guest;
  readonly disk: string;
}

/**
 * Makes `peer` for `client`; returns its device, or null where the client's kernel has no module for it.
 * @param number keeps peers apart, from 1
 * @param places of the two copies; DRBD's first one is the client's own
 * @param nvmeOptions of connections to NVMe-oF targets, as the kernel takes them
 */
export async function makeKernelPeer(
  peer: string,
  number: number,
  client: Guest,
  places: readonly [Place, Place],
  nvmeOptions: readonly string[] = [],
): Promise<string | null> {
  if (peer === "drbd") return await drbd(2 * number, places);
  if (peer === "md-rnbd" && (await client.run("modprobe -n -q rnbd_client")).status !== 0) return null;
  const devices: string[] = [];
  for (const [index, place] of places.entries()) {
    const name = `peer${number}-${"ab"[index]}`;
    if (peer === "md-rnbd") {
      await part(place.guest, "rnbd_server");
      devices.push(await part(client, "rnbd_map", place.guest.address, place.disk, name));
    } else {
      const [, , way] = peer.split("-");
      const port = `${4400 + 2 * number + index}`;
      await part(place.guest, "nvme_target", way, place.disk, name, port);
      devices.push(await part(client, "nvme_host", way, place.guest.address, name, port, ...nvmeOptions));
    }
  }
  return await part(client, "md_mirror", `${number}`, peer.endsWith("-bitmap") ? "internal" : "none", ...devices);
}

async function drbd(minor: number, places: readonly [Place, Place]): Promise<string> {
  const addresses = places.map(({ guest }, index) => `${guest.address}:${7000 + minor + index}`);
  for (const [index, { guest, disk }] of places.entries()) {
    await part(guest, "drbd_node", `${minor + index}`, disk, addresses[index], addresses[1 - index]);
  }
  return await part(places[0].guest, "drbd_lead", `${minor}`);
}

/** Runs a part in a guest; returns what it prints. */
async function part(guest: Guest, ...words: string[]): Promise<string> {
  return (await guest.expect(`bash ${SCRIPT} ${words.join(" ")}`)).trim();
}
