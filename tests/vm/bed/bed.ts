/**
 * The bed that virtual-machine suites lie in: guests under emulation, on private networks that only they see.
 *
 * ```ts
 * await using bed = await Bed.open({ guests: 3, disks: [{ sizeMib: 512 }] });
 * await bed.guest(2).expect("lsblk /dev/vda");
 * await bed.cut(2);           // its frames are lost silently
 * await bed.guest(3).powerCut();
 * ```
 *
 * Needs QEMU and a Debian kernel, which is fetched at the first use (`kernel.ts`); no KVM, nothing of the machine's network.
 *
 * @module
 */

import { Guest, type GuestDisk, type GuestPlan } from "./guest.ts";
import { writeInitramfs } from "./initramfs.ts";
import { guestKernel } from "./kernel.ts";
import { QemuProcess } from "./qemu_process.ts";

/** What a bed is made of. */
export interface BedOptions {
  /** Default 1. */
  readonly guests?: number;
  /** Of each guest, in MiB; default 1536. */
  readonly memoryMib?: number;
  /** Of each guest; by default 2 for a guest alone, else 1: more than the machine has only slow each other down. */
  readonly cpus?: number;
  /** Network interfaces of each guest, each on a network of its own; default 1. */
  readonly nics?: number;
  /** Default 9000, with which soft-RoCE has its largest MTU. */
  readonly mtu?: number;
  /** Whether interface k is also RDMA device rxek. Default true. */
  readonly rdma?: boolean;
  /** Modules to load at the start: "ublk_drv", "nbd". */
  readonly modules?: readonly string[];
  /** Disks of each guest. */
  readonly disks?: readonly GuestDisk[];
  readonly layer?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** More arguments for the guests' kernel. */
  readonly kernelArguments?: string;
  /** Where disks, sockets and logs go; kept when it is given, else a temporary directory. */
  readonly directory?: string;
}

/** Guests and what connects them. */
export class Bed implements AsyncDisposable {
  readonly directory: string;
  readonly guests: readonly Guest[];
  readonly #keeps: boolean;
  readonly #hub: QemuProcess | null;
  readonly #nicCount: number;

  private constructor(sharedPlan: Omit<GuestPlan, "powered">, keeps: boolean, hub: QemuProcess | null) {
    const plan = { ...sharedPlan, powered: (number: number, isOn: boolean) => this.#powered(number, isOn) };
    this.directory = plan.directory;
    this.#nicCount = plan.nics;
    this.#keeps = keeps;
    this.#hub = hub;
    this.guests = Array.from({ length: plan.count }, (_, index) => new Guest(index + 1, plan));
  }

  /** Starts all guests. */
  static async open(options: BedOptions = {}): Promise<Bed> {
    const kernel = await guestKernel();
    // Unix socket paths end at 107 characters, so the directory is near the root.
    const directory = options.directory ?? await Deno.makeTempDir({ prefix: "brmr-vm-" });
    const count = options.guests ?? 1;
    const plan: Omit<GuestPlan, "powered"> = {
      kernel,
      directory,
      count,
      initramfs: `${directory}/initramfs.cpio`,
      memoryMib: options.memoryMib ?? 1536,
      cpus: options.cpus ?? (count === 1 ? 2 : 1),
      nics: options.nics ?? 1,
      mtu: options.mtu ?? 9000,
      rdma: options.rdma ?? true,
      modules: options.modules ?? [],
      disks: options.disks ?? [],
      layer: options.layer ?? null,
      environment: options.environment ?? {},
      kernelArguments: options.kernelArguments ?? "",
    };
    await Deno.mkdir(directory, { recursive: true });
    await writeInitramfs(kernel, plan.initramfs);
    const hub = count > 1 ? await startHub(plan) : null;
    const bed = new Bed(plan, options.directory !== undefined, hub);
    try {
      await Promise.all(bed.guests.map((guest) => guest.start()));
      return bed;
    } catch (error) {
      await bed.close();
      throw error;
    }
  }

  /** Guest `number`, from 1. */
  guest(number: number): Guest {
    const guest = this.guests[number - 1];
    if (guest === undefined) throw new Error(`There is no guest ${number}; there are ${this.guests.length}`);
    return guest;
  }

  /** Loses all frames from and to a guest, which does not notice. */
  cut(number: number, nic = 0): Promise<void> {
    return this.#setPort(number, nic, false);
  }

  /** Ends a cut. */
  mend(number: number, nic = 0): Promise<void> {
    return this.#setPort(number, nic, true);
  }

  /**
   * The hub sends every frame to every port and waits for those whose QEMU takes none: one whose guest is still booting would
   * stop the others' frames until it is up. So its port is closed meanwhile, on the side of the hub: the other one opens by
   * itself when QEMU connects.
   */
  async #powered(number: number, isOn: boolean): Promise<void> {
    if (this.#hub === null) return;
    for (let nic = 0; nic < this.#nicCount; nic++) {
      await this.#hub.command("set_link", { name: `hub${nic}-${number}`, up: isOn });
    }
  }

  async #setPort(number: number, nic: number, up: boolean): Promise<void> {
    if (this.#hub === null) throw new Error("A guest alone has no network to be cut from");
    await this.#hub.command("set_link", { name: `port${nic}-${number}`, up });
  }

  /** Ends everything and removes what it wrote. */
  async close(): Promise<void> {
    await Promise.all(this.guests.map((guest) => guest.powerCut()));
    await this.#hub?.kill();
    if (!this.#keeps) await Deno.remove(this.directory, { recursive: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A switch: a QEMU without a machine, with a hub for each network and a unix socket for each guest's interface. */
async function startHub({ directory, count, nics }: Omit<GuestPlan, "powered">): Promise<QemuProcess> {
  const args = ["-machine", "none", "-nodefaults", "-display", "none"];
  for (let k = 0; k < nics; k++) {
    for (let number = 1; number <= count; number++) {
      const port = `port${k}-${number}`;
      const path = `${directory}/net${k}-${number}`;
      args.push("-netdev", `stream,id=${port},server=on,addr.type=unix,addr.path=${path}`);
      args.push("-netdev", `hubport,id=hub${k}-${number},hubid=${k},netdev=${port}`);
    }
  }
  return await QemuProcess.start(args, `${directory}/hub`, `${directory}/hub.log`);
}
