/**
 * A client and two storage nodes, each in a guest of its own, and what may happen to a node.
 *
 * @module
 */

import { Bed } from "./bed.ts";
import { GuestPool } from "./brmr.ts";
import type { Guest, GuestCommand } from "./guest.ts";
import { expectVerified, type FioResult, startFioVerify } from "./fio.ts";

/** What happens to a node while fio writes. */
export const FAULTS = ["silence", "power cut", "flapping link", "kill"] as const;
/** The same where the pool is on RDMA, and what can happen only there. */
export const RDMA_FAULTS = [...FAULTS, "device removal"] as const;
export type Fault = typeof RDMA_FAULTS[number];

/** Long enough for a silent node to be dropped, and for writes that it misses. */
const SILENCE_MS = 8_000;
const FIO_SECONDS = 20;
/** The client looks for RDMA every ten seconds at first, and less and less often. */
const PATH_LIMIT_MS = 300_000;

/** Three guests with a pool on /dev/vda of the second and the third. */
export class FaultRounds implements AsyncDisposable {
  readonly #bed: Bed;
  readonly pool: GuestPool;
  #device = "";

  private constructor(bed: Bed, pool: GuestPool) {
    this.#bed = bed;
    this.pool = pool;
  }

  /**
   * Boots everything and attaches the pool in guest 1.
   * @param transport of the client
   * @param rdma whether nodes listen on RDMA as well as on TCP
   */
  static async open(transport: "tcp" | "rdma", rdma = transport === "rdma"): Promise<FaultRounds> {
    // The second disk is for a node's state, which must outlive a power cut as its leg does.
    const disks = [{ sizeMib: 256 }, { sizeMib: 16 }];
    const bed = await Bed.open({ guests: 3, modules: ["ublk_drv"], rdma, memoryMib: 1536, disks });
    try {
      for (const number of [2, 3]) {
        await bed.guest(number).expect("mkfs.ext4 -q -F /dev/vdb && mkdir /state && mount /dev/vdb /state");
      }
      const legs = [2, 3].map((number) => ({ guest: bed.guest(number), leg: "/dev/vda", state: "/state/node" }));
      const pool = await GuestPool.create(bed.directory, legs, 128, { rdma });
      const rounds = new FaultRounds(bed, pool);
      await rounds.attach(transport);
      return rounds;
    } catch (error) {
      await bed.close();
      throw error;
    }
  }

  async attach(transport: "tcp" | "rdma" | "auto", options = ""): Promise<void> {
    this.#device = await this.pool.attach(this.#bed.guest(1), `--device ublk --transport ${transport} ${options}`);
  }

  /** Strikes the node of leg `index` while fio writes and verifies; over when fio has ended and the legs are in sync. */
  async round(fault: Fault, index: number): Promise<FioResult> {
    const fio = await startFioVerify(this.#bed.guest(1), this.#device, FIO_SECONDS);
    await this.#strike(fault, index);
    const result = await expectVerified(fio);
    await this.pool.waitInSync(this.#bed.guest(1));
    return result;
  }

  /**
   * The node of leg `index` loses its RDMA device while fio writes, to a client that may take TCP: the leg is in sync again
   * without it. Soft-RoCE waits for all who have a device open, so that its removal ends only with the node.
   */
  async withoutDevice(index: number): Promise<FioResult> {
    const guest = this.#bed.guest(index + 2);
    const fio = await startFioVerify(this.#bed.guest(1), this.#device, FIO_SECONDS);
    const removal = await guest.spawn("rdma link delete rxe0", "removal");
    const result = await expectVerified(fio);
    await this.pool.waitInSync(this.#bed.guest(1));
    await this.pool.killNode(index);
    await this.#restoreDevice(guest, removal);
    await this.pool.startNode(index);
    await this.pool.waitInSync(this.#bed.guest(1));
    return result;
  }

  /**
   * What the node of leg `index` gets by RDMA is dropped for a while, and nothing else, as fio writes to a client that may
   * take either: the leg is reached over TCP then, and by RDMA again afterwards.
   */
  async withoutRdma(index: number): Promise<FioResult> {
    const guest = this.#bed.guest(index + 2);
    const fio = await startFioVerify(this.#bed.guest(1), this.#device, 2 * FIO_SECONDS);
    await this.#waitRdmaPaths(2);
    await guest.expect("modprobe -a sch_ingress cls_u32 act_gact && tc qdisc add dev eth0 clsact");
    // Port 4791 of UDP is RoCE's.
    const isRoce = "match ip protocol 17 0xff match ip dport 4791 0xffff";
    await guest.expect(`tc filter add dev eth0 ingress protocol ip u32 ${isRoce} action drop`);
    await this.#waitRdmaPaths(1);
    await guest.expect("tc qdisc del dev eth0 clsact");
    await this.#waitRdmaPaths(2);
    const result = await expectVerified(fio);
    await this.pool.waitInSync(this.#bed.guest(1));
    return result;
  }

  /** Waits until so many legs are reached by RDMA. */
  async #waitRdmaPaths(count: number): Promise<void> {
    const deadline = performance.now() + PATH_LIMIT_MS;
    for (;;) {
      const text = await this.pool.brmr(this.#bed.guest(1), `status ${this.pool.name}`, [0, 5]);
      if (text.split("RDMA on").length - 1 === count) return;
      if (performance.now() > deadline) throw new Error(`Not ${count} legs are reached by RDMA:\n${text}`);
      await pause(500);
    }
  }

  async #restoreDevice(guest: Guest, removal: GuestCommand): Promise<void> {
    const { status } = await removal.ended;
    if (status !== 0) throw new Error(`The device could not be removed: ${await removal.log()}`);
    await guest.expect("rdma link add rxe0 type rxe netdev eth0");
  }

  async #strike(fault: Fault, index: number): Promise<void> {
    const guest = this.#bed.guest(index + 2);
    switch (fault) {
      case "silence":
        await this.#bed.cut(guest.number);
        await pause(SILENCE_MS);
        return await this.#bed.mend(guest.number);
      case "power cut":
        await guest.powerCut();
        await guest.start();
        await guest.expect("mkdir /state && mount /dev/vdb /state");
        return await this.pool.startNode(index);
      case "flapping link":
        for (let i = 0; i < 4; i++) {
          await guest.plug(false);
          await pause(300 + 900 * i);
          await guest.plug(true);
          await pause(500);
        }
        return;
      case "device removal": {
        const removal = await guest.spawn("rdma link delete rxe0", "removal");
        await pause(SILENCE_MS);
        await this.pool.killNode(index);
        await this.#restoreDevice(guest, removal);
        return await this.pool.startNode(index);
      }
      case "kill":
        await this.pool.killNode(index);
        return await this.pool.startNode(index);
    }
  }

  /** Detaches and compares the legs. */
  async finish(): Promise<void> {
    const status = await this.pool.detach();
    if (status !== 0) throw new Error(`attach ended with ${status}: ${await this.pool.log()}`);
    await this.pool.expectLegsIdentical();
  }

  /** What all processes said. */
  log(): Promise<string> {
    return this.pool.log();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#bed.close();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
