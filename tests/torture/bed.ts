/**
 * Machines made of network namespaces: each has one address on a bridge, and traffic from one machine to another can be
 * cut, in one direction or both, or a machine's cable pulled. Must run in a network namespace of its own (see `main.ts`),
 * whose end takes all of it away.
 *
 * A cut in one direction is a neighbour entry with an address of the link layer that nobody has: the frames leave, and no
 * one takes them, which is how a network that loses packets looks to both sides.
 *
 * @module
 */

import { expectCommand } from "../integration/cluster.ts";

const NOBODY = "02:00:00:00:ff:ff";

/** One machine. */
export interface Machine {
  readonly index: number;
  readonly address: string;
  readonly mac: string;
  /** The process that keeps its namespace alive: it ends when its input does, so with ours. */
  readonly keeper: Deno.ChildProcess;
}

/** The machines of a world, on one bridge. */
export class Bed {
  readonly machines: readonly Machine[];

  private constructor(machines: Machine[]) {
    this.machines = machines;
  }

  static async create(count: number): Promise<Bed> {
    await ip("link", "set", "lo", "up");
    await ip("link", "add", "bridge", "type", "bridge");
    await ip("address", "add", "10.99.0.254/24", "dev", "bridge");
    await ip("link", "set", "bridge", "up");
    const machines: Machine[] = [];
    for (let index = 0; index < count; index++) {
      const keeper = new Deno.Command("unshare", {
        args: ["--net", "sh", "-c", "echo ready; exec cat"],
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      // Its first line says that the namespace is there.
      const reader = keeper.stdout.getReader();
      await reader.read();
      reader.releaseLock();
      const mac = `02:00:00:00:00:${(index + 1).toString(16).padStart(2, "0")}`;
      const machine = { index, address: `10.99.0.${index + 1}`, mac, keeper };
      machines.push(machine);
      await ip("link", "add", `m${index}`, "type", "veth", "peer", "name", "eth0", "netns", String(keeper.pid));
      await ip("link", "set", `m${index}`, "master", "bridge", "up");
      for (
        const words of [
          ["link", "set", "lo", "up"],
          ["link", "set", "eth0", "address", mac],
          ["address", "add", `${machine.address}/24`, "dev", "eth0"],
          ["link", "set", "eth0", "up"],
        ]
      ) await ipIn(machine, words);
    }
    const bed = new Bed(machines);
    await bed.heal();
    return bed;
  }

  /** A command that runs on a machine. It keeps its process id. */
  command(machine: number, path: string, args: readonly string[]): { path: string; args: string[] } {
    return {
      path: "nsenter",
      args: [`--net=/proc/${this.machines[machine].keeper.pid}/ns/net`, "--", path, ...args],
    };
  }

  /** What machine `from` sends to machine `to` is lost from now on. */
  async cut(from: number, to: number): Promise<void> {
    await this.#neighbour(from, to, NOBODY);
  }

  /** What machine `from` sends to machine `to` arrives again. */
  async mend(from: number, to: number): Promise<void> {
    await this.#neighbour(from, to, this.machines[to].mac);
  }

  /** Pulls a machine's cable, or puts it back. */
  async plug(machine: number, isPlugged: boolean): Promise<void> {
    await ip("link", "set", `m${machine}`, isPlugged ? "up" : "down");
  }

  /** All cables are in and nothing is cut. */
  async heal(): Promise<void> {
    for (const { index } of this.machines) {
      await this.plug(index, true);
      for (const other of this.machines) if (other.index !== index) await this.mend(index, other.index);
    }
  }

  /** Takes everything down. */
  async close(): Promise<void> {
    for (const machine of this.machines) {
      // Not left to the end of the namespace, which comes when the kernel has time for it.
      await ip("link", "delete", `m${machine.index}`);
      await machine.keeper.stdin.close();
      await machine.keeper.stdout.cancel();
      await machine.keeper.status;
    }
    await ip("link", "delete", "bridge");
  }

  async #neighbour(from: number, to: number, mac: string): Promise<void> {
    const words = ["neighbour", "replace", this.machines[to].address, "lladdr", mac, "dev", "eth0", "nud", "permanent"];
    await ipIn(this.machines[from], words);
  }
}

async function ip(...words: string[]): Promise<void> {
  await expectCommand("ip", words);
}

async function ipIn(machine: Machine, words: readonly string[]): Promise<void> {
  await expectCommand("nsenter", [`--net=/proc/${machine.keeper.pid}/ns/net`, "--", "ip", ...words]);
}
