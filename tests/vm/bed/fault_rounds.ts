/**
 * A client and two storage nodes, each in a guest of its own, and what may happen to a node or to the client's process while
 * fio writes to the pool's device, or to a file in a file system on it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Bed } from "./bed.ts";
import { type ClientStatus, GuestPool } from "./brmr.ts";
import { type FileSystem, MOUNT_POINT, mountNew, unmountChecked } from "./file_systems.ts";
import type { Guest, GuestCommand } from "./guest.ts";
import { expectVerified, type FioResult, startFioVerify, VERIFIED_MIB } from "./fio.ts";

/** What happens while fio writes: to a node, or to the process of the client. */
export const FAULTS = ["silence", "power cut", "flapping link", "kill", "client kill"] as const;
/** The same where the pool is on RDMA, and what can happen only there. */
export const RDMA_FAULTS = [...FAULTS, "device removal"] as const;
export type Fault = typeof RDMA_FAULTS[number];

/** What of the three guests may be chosen. */
export interface FaultRoundsOptions {
  /** Whether nodes listen on RDMA as well as on TCP. */
  readonly rdma: boolean;
  /** Networks between the guests, all with RDMA; default 1. */
  readonly nics?: number;
  /** Of the pool, default 128. */
  readonly sizeMib?: number;
}

/** How the pool is attached, and what fio writes on. */
export interface Attachment {
  readonly transport: "tcp" | "rdma" | "auto";
  /** Default ublk. */
  readonly device?: "ublk" | "nbd";
  /** What is made on the device; by default nothing is, and fio writes to the device itself. */
  readonly fileSystem?: FileSystem;
  /** More options of `brmr attach`. */
  readonly options?: string;
}

/** Long enough for a silent node to be dropped, and for writes that it misses. */
const SILENCE_MS = 8_000;
const FIO_SECONDS = 20;
/** fio's file in a file system. */
const FILE = `${MOUNT_POINT}/verified`;
/** What the kernel says when a device or a file system fails somebody other than fio. */
const KERNEL_ERRORS =
  "I/O error|EXT4-fs error|EXT4-fs .*(warning|remount)|JBD2.*(error|abort)|XFS .*([Ee]rror|[Cc]orrupt|[Ss]hut)";

/** Three guests with a pool on /dev/vda of the second and the third. */
export class FaultRounds implements AsyncDisposable {
  readonly #bed: Bed;
  readonly #client: Guest;
  readonly #pool: GuestPool;
  #attachment: Attachment = { transport: "auto" };
  #device = "";
  /** Of an RDMA device, under way. */
  #removal: GuestCommand | null = null;

  private constructor(bed: Bed, pool: GuestPool) {
    this.#bed = bed;
    this.#client = bed.guest(1);
    this.#pool = pool;
  }

  /** Boots everything and creates the pool. */
  static async open({ rdma, nics = 1, sizeMib = 128 }: FaultRoundsOptions): Promise<FaultRounds> {
    // The second disk is for a node's state, which must outlive a power cut as its leg does.
    const disks = [{ sizeMib: sizeMib + 128 }, { sizeMib: 16 }];
    const bed = await Bed.open({ guests: 3, modules: ["ublk_drv", "nbd"], rdma, nics, memoryMib: 1536, disks });
    try {
      for (const number of [2, 3]) {
        await bed.guest(number).expect("mkfs.ext4 -q -F /dev/vdb && mkdir /state && mount /dev/vdb /state");
      }
      const legs = [2, 3].map((number) => ({ guest: bed.guest(number), leg: "/dev/vda", state: "/state/node" }));
      return new FaultRounds(bed, await GuestPool.create(bed.directory, legs, sizeMib, { rdma, rdmaNics: nics }));
    } catch (error) {
      await bed.close();
      throw error;
    }
  }

  /** Attaches the pool in guest 1, in sync, and makes what fio is to write on. */
  async attach(attachment: Attachment): Promise<void> {
    this.#attachment = attachment;
    this.#device = await this.#attachDevice();
    await this.#pool.waitInSync(this.#client);
    if (attachment.fileSystem !== undefined) await mountNew(this.#client, this.#device, attachment.fileSystem);
  }

  #attachDevice(): Promise<string> {
    const { device = "ublk", transport, options = "" } = this.#attachment;
    return this.#pool.attach(this.#client, `--device ${device} --transport ${transport} ${options}`);
  }

  /** Strikes, the node of leg `index` if it is a fault of nodes, while fio writes and verifies; over when fio has ended and the legs are in sync. */
  round(fault: Fault, index: number): Promise<FioResult> {
    return this.#underFio(FIO_SECONDS, () => this.#strike(fault, index));
  }

  /**
   * The node of leg `index` loses its RDMA device, to a client that may take TCP and goes on by it: the leg is never out of the
   * set. Soft-RoCE waits for all who have a device open, so that its removal ends only with the node.
   */
  async withoutNodesDevice(index: number): Promise<FioResult> {
    const guest = this.#nodeGuest(index);
    const result = await this.#withoutDrop(async () => {
      await this.#waitRdmaPaths(2);
      await this.#removeDevice(guest);
      await this.#waitRdmaPaths(1);
    });
    await this.#pool.killNode(index);
    await this.#restoreDevice(guest);
    await this.#pool.startNode(index);
    await this.#pool.waitInSync(this.#client);
    return result;
  }

  /** The client's machine loses its RDMA device: all legs are reached by TCP, and none is ever out of the set. Detaches. */
  async withoutClientsDevice(): Promise<FioResult> {
    const result = await this.#withoutDrop(async () => {
      await this.#waitRdmaPaths(2);
      await this.#removeDevice(this.#client);
      await this.#waitRdmaPaths(0);
    });
    await this.finish();
    await this.#restoreDevice(this.#client);
    return result;
  }

  /**
   * What the node of leg `index` gets by RDMA is dropped for a while, and nothing else, as fio writes to a client that may
   * take either: the leg is reached over TCP then, and by RDMA again afterwards, and is never out of the set.
   */
  withoutRdma(index: number): Promise<FioResult> {
    const guest = this.#nodeGuest(index);
    return this.#withoutDrop(async () => {
      await this.#waitRdmaPaths(2);
      await guest.expect("modprobe -a sch_ingress cls_u32 act_gact && tc qdisc add dev eth0 clsact");
      // Port 4791 of UDP is RoCE's.
      const isRoce = "match ip protocol 17 0xff match ip dport 4791 0xffff";
      await guest.expect(`tc filter add dev eth0 ingress protocol ip u32 ${isRoce} action drop`);
      await this.#waitRdmaPaths(1);
      await guest.expect("tc qdisc del dev eth0 clsact");
      await this.#waitRdmaPaths(2);
    });
  }

  /**
   * The node of leg `index` is reached by RDMA in two networks: the link of one is cut, and once that is mended the other's.
   * The leg is reached by the one that is left each time, and is never out of the set.
   */
  withoutLinks(index: number): Promise<FioResult> {
    const { number } = this.#nodeGuest(index);
    return this.#withoutDrop(async () => {
      await this.#waitPath(index, this.#pool.rdmaAddress(index, 0));
      for (const nic of [0, 1]) {
        await this.#bed.cut(number, nic);
        await this.#waitPath(index, this.#pool.rdmaAddress(index, 1 - nic));
        await this.#bed.mend(number, nic);
      }
    });
  }

  /** Does `body` while fio writes. No leg may be dropped, nor the epoch be another afterwards. */
  async #withoutDrop(body: () => Promise<void>): Promise<FioResult> {
    const before = (await this.#pool.client(this.#client)).snapshot;
    const result = await this.#underFio(2 * FIO_SECONDS, body);
    const after = (await this.#pool.client(this.#client)).snapshot;
    const told = await this.#pool.log();
    assert.equal(after.counters.legDrops, before.counters.legDrops, told);
    assert.equal(after.epoch, before.epoch, told);
    return result;
  }

  async #underFio(seconds: number, body: () => Promise<void>): Promise<FioResult> {
    const { fileSystem } = this.#attachment;
    if (fileSystem !== undefined) {
      // Anew each time: its blocks are freed, and others are allocated and become part of it as they are written.
      await this.#client.expect(`rm -f ${FILE} && fallocate -l ${VERIFIED_MIB}M ${FILE} && sync`);
    }
    const target = fileSystem === undefined ? this.#device : FILE;
    const fio = await startFioVerify(this.#client, this.#device, seconds, target);
    await body();
    const result = await expectVerified(fio);
    await this.#pool.waitInSync(this.#client);
    return result;
  }

  /** Waits until so many legs are reached by RDMA. All of them must be reached. */
  #waitRdmaPaths(count: number): Promise<void> {
    const isIt = ({ paths = [] }: ClientStatus) =>
      paths.length === 2 && paths.filter(({ transport }) => transport === "rdma").length === count;
    return this.#pool.waitClient(this.#client, `${count} legs reached by RDMA`, isIt);
  }

  /** Waits until a leg is reached at an address. */
  #waitPath(index: number, address: string): Promise<void> {
    const isIt = ({ snapshot }: ClientStatus) =>
      snapshot.legs.some(({ legIndex, path }) => legIndex === index && path === address);
    return this.#pool.waitClient(this.#client, `leg ${index} at ${address}`, isIt);
  }

  #nodeGuest(index: number): Guest {
    return this.#bed.guest(index + 2);
  }

  async #removeDevice(guest: Guest): Promise<void> {
    this.#removal = await guest.spawn("rdma link delete rxe0", "removal");
  }

  async #restoreDevice(guest: Guest): Promise<void> {
    const { status } = await this.#removal!.ended;
    if (status !== 0) throw new Error(`The device could not be removed: ${await this.#removal!.log()}`);
    await guest.expect("rdma link add rxe0 type rxe netdev eth0");
  }

  async #strike(fault: Fault, index: number): Promise<void> {
    const guest = this.#nodeGuest(index);
    switch (fault) {
      case "silence":
        await this.#bed.cut(guest.number);
        await pause(SILENCE_MS);
        return await this.#bed.mend(guest.number);
      case "power cut":
        await guest.powerCut();
        await guest.start();
        await guest.expect("mkdir /state && mount /dev/vdb /state");
        return await this.#pool.startNode(index);
      case "flapping link":
        for (let i = 0; i < 4; i++) {
          await guest.plug(false);
          await pause(300 + 900 * i);
          await guest.plug(true);
          await pause(500);
        }
        return;
      case "device removal": {
        await this.#removeDevice(guest);
        await pause(SILENCE_MS);
        await this.#pool.killNode(index);
        await this.#restoreDevice(guest);
        return await this.#pool.startNode(index);
      }
      case "kill":
        await this.#pool.killNode(index);
        return await this.#pool.startNode(index);
      case "client kill":
        assert.equal(await this.#pool.detach("KILL"), 137);
        // The next attach takes the device back that the dead one has left, with the I/O that waits in it.
        assert.equal(await this.#attachDevice(), this.#device);
    }
  }

  /** Looks whether the file system is whole and the kernel has seen no error; detaches and compares the legs. */
  async finish(): Promise<void> {
    const { fileSystem } = this.#attachment;
    if (fileSystem !== undefined) await unmountChecked(this.#client, this.#device, fileSystem);
    await this.#client.expect(`! dmesg | grep -E '${KERNEL_ERRORS}' >&2`);
    const status = await this.#pool.detach();
    if (status !== 0) throw new Error(`attach ended with ${status}: ${await this.#pool.log()}`);
    await this.#pool.expectLegsIdentical();
  }

  /** What all processes said. */
  log(): Promise<string> {
    return this.#pool.log();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#bed.close();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
