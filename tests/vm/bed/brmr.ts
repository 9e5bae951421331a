/**
 * brmr in guests: one module, as it is shipped to machines with Deno, because a guest reads few files much faster than many.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { allPermissionFlags } from "../../../cli/build/permissions.ts";
import type { ClientOperations } from "../../../lib/control/control_api.ts";
import { decodeSuperblock } from "../../../lib/disk_format/superblock.ts";
import type { Guest, GuestCommand } from "./guest.ts";
import { expectOutput } from "./host_command.ts";

const ENTRY = fileURLToPath(new URL("../../../cli/main.ts", import.meta.url));
/** Starting a node takes seconds under emulation, half a minute when three guests start at once, minutes on a busy machine. */
const READY_LIMIT_MS = 300_000;

/** What may be chosen. */
export interface GuestPoolOptions {
  /** Default "vol1". */
  readonly name?: string;
  /** The first node's; the others' follow. Default 7701. */
  readonly firstPort?: number;
  /** Whether nodes listen on RDMA as well as on TCP. */
  readonly rdma?: boolean;
  /** On how many of its networks a node does; on TCP it listens on the first. Default 1. */
  readonly rdmaNics?: number;
  /** What `brmr serve` is given besides. */
  readonly serveOptions?: string;
  /** For Deno: "--v8-flags=--perf-basic-prof". */
  readonly runtimeFlags?: readonly string[];
}

/** What a client tells of itself. */
export type ClientStatus = ClientOperations["client.status"]["result"];

interface PoolNode {
  readonly guest: Guest;
  readonly port: number;
  readonly state: string;
  readonly leg: string;
}

/** Writes brmr as one module into `directory` of this machine; returns its path. */
export async function bundleBrmr(directory: string): Promise<string> {
  const bundle = `${directory}/brmr.js`;
  await expectOutput(Deno.execPath(), ["bundle", "--quiet", "--output", bundle, ENTRY]);
  return bundle;
}

/** A pool on nodes in guests. The first guest attaches it. */
export class GuestPool {
  readonly name: string;
  readonly #rdmaNics: number;
  readonly #run: string;
  readonly #serveOptions: string;
  readonly #nodes: readonly PoolNode[];
  readonly #serving: (GuestCommand | null)[];
  #client: GuestCommand | null = null;

  private constructor(bundle: string, nodes: readonly PoolNode[], options: GuestPoolOptions) {
    this.name = options.name ?? "vol1";
    this.#rdmaNics = options.rdma ? options.rdmaNics ?? 1 : 0;
    this.#serveOptions = options.serveOptions ?? "";
    const addresses = nodes.map((node) => addressOf(node)).join(",");
    const flags = [...options.runtimeFlags ?? [], ...allPermissionFlags()];
    const environment = `BRMR_RUNTIME_DIR=/run/brmr BRMR_NODES=${addresses} NO_COLOR=1`;
    this.#run = `env ${environment} ${Deno.execPath()} run --quiet ${flags.join(" ")} ${bundle}`;
    this.#nodes = nodes;
    this.#serving = nodes.map(() => null);
  }

  /**
   * Starts a node for each of `legs` and creates the pool.
   * @param directory of this machine, for the module
   */
  static async create(
    directory: string,
    legs: readonly { readonly guest: Guest; readonly leg: string; readonly state?: string }[],
    sizeMib: number,
    options: GuestPoolOptions = {},
  ): Promise<GuestPool> {
    const bundle = await bundleBrmr(directory);
    const firstPort = options.firstPort ?? 7701;
    const pool = new GuestPool(
      bundle,
      legs.map(({ guest, leg, state }, index) => ({
        guest,
        leg,
        port: firstPort + index,
        state: state ?? `/var/lib/brmr-node${firstPort + index}`,
      })),
      options,
    );
    await Promise.all(legs.map((_, index) => pool.startNode(index)));
    const places = pool.#nodes.map((node) => `--leg ${addressOf(node)}:${node.leg}`).join(" ");
    // A node that says it is ready may still be too slow for the first question when the machine is busy.
    await pool.#nodes[0].guest.expect(`for ((i = 0; i < 20; i++)); do ${pool.#run} pool list && exit; done; exit 1`);
    await pool.#nodes[0].guest.expect(`${pool.#run} pool create ${pool.name} --size ${sizeMib}M ${places}`);
    return pool;
  }

  /** Starts the node of leg `index`. */
  async startNode(index: number): Promise<void> {
    const { guest, state } = this.#nodes[index];
    const listen = [`tcp://${addressOf(this.#nodes[index])}`];
    for (let nic = 0; nic < this.#rdmaNics; nic++) listen.push(this.rdmaAddress(index, nic));
    const places = listen.map((each) => `--listen ${each}`).join(" ");
    const serve = `serve --state ${state} ${places} --insecure ${this.#serveOptions}`;
    const command = await guest.spawn(`exec ${this.#run} ${serve}`, `node ${index}`);
    this.#serving[index] = command;
    await command.waitFor(this.#rdmaNics > 0 ? /^ready rdma/m : /^ready/m, READY_LIMIT_MS);
  }

  /** Where the node of leg `index` listens on RDMA in network `nic`. */
  rdmaAddress(index: number, nic = 0): string {
    return `rdma://${addressOf(this.#nodes[index], nic)}`;
  }

  /** Kills the node of leg `index`. */
  async killNode(index: number): Promise<void> {
    await this.#serving[index]?.stop("KILL");
    this.#serving[index] = null;
  }

  /**
   * Attaches in `guest`, by `wrapper` if that is given; returns where the pool is. Nodes of a starved guest may be slow to
   * answer: they are waited for.
   */
  async attach(guest: Guest, options: string, wrapper = ""): Promise<string> {
    const command = await guest.spawn(
      `mkdir -p /run/brmr; exec ${wrapper} ${this.#run} attach ${this.name} --start-timeout 120s ${options}`,
      "attach",
    );
    this.#client = command;
    return (await command.waitFor(/^ready (.*)$/m, READY_LIMIT_MS))[1];
  }

  /** Ends the attach, as a person does or with SIGKILL. Returns its exit status. */
  async detach(signal: "TERM" | "KILL" = "TERM"): Promise<number> {
    const { status } = await this.#client!.stop(signal);
    return status;
  }

  /** Runs a brmr command in a guest, to a status among `statuses`; returns its stdout. */
  async brmr(guest: Guest, args: string, statuses: readonly number[] = [0]): Promise<string> {
    const { status, stdout, stderr } = await guest.run(`${this.#run} ${args}`);
    if (!statuses.includes(status)) throw new Error(`brmr ${args} ended with ${status}: ${stderr}`);
    return stdout;
  }

  /** Runs a brmr command in a guest that must end with `status`; returns its stderr. */
  async failure(guest: Guest, args: string, status: number): Promise<string> {
    const ended = await guest.run(`${this.#run} ${args}`);
    if (ended.status !== status) throw new Error(`brmr ${args} ended with ${ended.status}: ${ended.stderr}`);
    return ended.stderr;
  }

  /** What the client tells of itself in `guest`, where it runs. */
  async client(guest: Guest): Promise<ClientStatus> {
    return JSON.parse(await this.brmr(guest, `status ${this.name} --json`, [0, 5])).client;
  }

  /** Waits until what the client tells is as it should be. */
  async waitClient(
    guest: Guest,
    what: string,
    is: (client: ClientStatus) => boolean,
    limitMs = 300_000,
  ): Promise<void> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const client = await this.client(guest);
      if (is(client)) return;
      if (performance.now() > deadline) throw new Error(`No ${what} after ${limitMs} ms: ${JSON.stringify(client)}`);
    }
  }

  /** Waits until all legs are in sync, as an operator would. */
  async waitInSync(guest: Guest, limitMs = 180_000): Promise<void> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const text = await this.brmr(guest, `sync-status ${this.name} --json`, [0, 5]);
      const states = JSON.parse(text).legs.map((leg: { state: string }) => leg.state);
      if (states.every((state: string) => state === "in-sync")) return;
      if (performance.now() > deadline) throw new Error(`The legs are ${states.join(", ")} after ${limitMs} ms`);
    }
  }

  /**
   * When the first event `name` of a leg after `sinceMs` happened, as the client's log tells it once it has; the pool is
   * attached with --log-format json. Both in ms of the clock of the client's guest.
   */
  async waitEvent(name: string, legIndex: number, sinceMs: number, limitMs = 120_000): Promise<number> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      for (const line of (await this.#client!.stderr()).split("\n").filter((line) => line.endsWith("}"))) {
        const event = JSON.parse(line);
        const atMs = Date.parse(event.time);
        if (event.name === name && event.legIndex === legIndex && atMs >= sinceMs) return atMs;
      }
      if (performance.now() > deadline) throw new Error(`no ${name} of leg ${legIndex} came:\n${await this.log()}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Bytes that the process of leg `index`'s node has sent to its disks. */
  async writtenBytes(index: number): Promise<number> {
    const { guest, state } = this.#nodes[index];
    return Number(
      await guest.expect(`awk '/^write_bytes/ { print $2 }' /proc/$(pgrep -o -f -- "serve --state ${state}")/io`),
    );
  }

  /** Throws unless all legs hold the same data. Nobody may be writing to them. */
  async expectLegsIdentical(): Promise<void> {
    const data = await Promise.all(this.#nodes.map(async ({ guest, leg }) => {
      const start = await guest.expect(`head -c 4096 ${leg} | base64 -w 0`);
      const superblock = decodeSuperblock(Uint8Array.from(atob(start), (char) => char.charCodeAt(0)), null);
      if (!superblock.ok) throw new Error(`The superblock of ${leg} is broken: ${JSON.stringify(superblock)}`);
      const { dataOffset, sizeBytes } = superblock.value;
      // A file may end before its leg does: what is beyond reads as zeroes.
      return `{ tail -c +${dataOffset + 1} ${leg}; head -c ${sizeBytes} /dev/zero; } | head -c ${sizeBytes}`;
    }));
    const { guest } = this.#nodes[0];
    if (this.#nodes.every((node) => node.guest === guest)) {
      // Within one guest, which is several times faster than sums under emulation.
      for (const other of data.slice(1)) await guest.expect(`cmp <(${data[0]}) <(${other})`);
      return;
    }
    const sums = await Promise.all(this.#nodes.map(({ guest }, index) => guest.expect(`${data[index]} | sha256sum`)));
    if (sums.some((sum) => sum !== sums[0])) throw new Error(`The legs differ: ${sums.join(" ")}`);
  }

  /** What the processes said, for a failure's message. */
  async log(): Promise<string> {
    const commands = [this.#client, ...this.#serving].filter((command) => command !== null);
    return (await Promise.all(commands.map((command) => command.log()))).join("\n");
  }
}

function addressOf({ guest, port }: PoolNode, nic = 0): string {
  return `${guest.addressOn(nic)}:${port}`;
}
