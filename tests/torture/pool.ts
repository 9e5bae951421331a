/**
 * The pool of a torture world: its machines, disks, storage nodes and clients, all real.
 *
 * @module
 */

import { assert } from "../../lib/base/assert.ts";
import { connectClient } from "../../lib/control/client_control_client.ts";
import type { LegStatus } from "../../lib/control/control_api.ts";
import { connectNode } from "../../lib/control/node_control_client.ts";
import type { ClientSnapshot } from "../../lib/core/snapshot.ts";
import { layoutOf } from "../../lib/disk_format/layout.ts";
import { decodeEpochRecord } from "../../lib/disk_format/epoch_record.ts";
import { BLOCK_BYTES, compareRank, type SharedEpoch } from "../../lib/disk_format/records.ts";
import { decodeSuperblock } from "../../lib/disk_format/superblock.ts";
import { brmrCommand, runCommand, ServerProcess, waitFor } from "../integration/cluster.ts";
import type { Bed } from "./bed.ts";
import type { LegDisk } from "./disks.ts";
import type { TorturePlan } from "./plan.ts";

const POOL = "torture";
const PORT = 7701;
const CONTROL_MS = 5000;

/** One life of a client. */
export interface ClientLife {
  readonly number: number;
  readonly machine: number;
  readonly server: ServerProcess;
  readonly uri: string;
}

/** See the module comment. */
export class TorturePool {
  readonly plan: TorturePlan;
  readonly bed: Bed;
  readonly disks: readonly LegDisk[];
  readonly directory: string;
  readonly nodes: (ServerProcess | null)[];
  /** The client in force; null while there is none. */
  client: ClientLife | null = null;
  /** What every process that has ended has printed. */
  readonly logs: string[] = [];
  #clients = 0;
  readonly #boots: number[];
  /** Of each node: how many losses of power its machine suffers just now. */
  readonly #powerLosses: number[];
  #powering: Promise<void> = Promise.resolve();

  constructor(plan: TorturePlan, bed: Bed, disks: readonly LegDisk[], directory: string) {
    this.plan = plan;
    this.bed = bed;
    this.disks = disks;
    this.directory = directory;
    this.nodes = disks.map(() => null);
    this.#boots = disks.map(() => 1);
    this.#powerLosses = disks.map(() => 0);
  }

  get legCount(): number {
    return this.disks.length;
  }

  /** Where clients run: the first and the second of two. */
  clientMachine(which: 0 | 1): number {
    return which === 0 && this.plan.isBesideNode ? 0 : this.legCount + which;
  }

  /** Address of node `index`. */
  addressOf(index: number): string {
    return `${this.bed.machines[index].address}:${PORT}`;
  }

  get #nodeArguments(): string[] {
    return this.disks.flatMap((_, index) => ["--node", this.addressOf(index)]);
  }

  #environment(machine: number): Record<string, string> {
    return { BRMR_RUNTIME_DIR: `${this.directory}/run${machine}`, NO_COLOR: "1" };
  }

  /** Runs a brmr command on a machine. */
  async brmr(machine: number, args: readonly string[]): Promise<void> {
    const command = brmrCommand(args);
    const inside = this.bed.command(machine, command.path, command.args);
    const result = await runCommand(inside.path, inside.args, this.#environment(machine));
    if (result.code !== 0) throw new Error(`brmr ${args.join(" ")} ended with ${result.code}: ${result.stderr}`);
  }

  /** Makes the pool on nodes that run. */
  async create(): Promise<void> {
    const { plan } = this;
    await this.brmr(0, [
      ...["pool", "create", POOL, "--size", String(plan.sizeBytes), "--force"],
      ...this.disks.flatMap((disk, index) => ["--leg", `${this.addressOf(index)}:${disk.path}`]),
      ...["--min-in-sync", String(plan.minInSync), "--io-timeout", "120s"],
      ...["--hot-extents", String(plan.hotExtentCount), "--extent", String(plan.extentBytes)],
      ...["--chunk", String(plan.chunkBytes)],
    ]);
  }

  /** Whether the machine of node `index` has power. */
  hasPower(index: number): boolean {
    return this.#powerLosses[index] === 0;
  }

  /** Starts a node whose machine has power, until it is ready. */
  async startNode(index: number): Promise<void> {
    const boot = `${this.directory}/boot${index}`;
    await Deno.writeTextFile(boot, `00000000-0000-4000-8000-${String(this.#boots[index]).padStart(12, "0")}\n`);
    const command = brmrCommand([
      ...["serve", "--state", `${this.directory}/state${index}`, "--name", `node${index}`],
      ...["--listen", `tcp://${this.addressOf(index)}`, "--insecure"],
    ]);
    const inside = this.bed.command(index, command.path, command.args);
    if (!this.hasPower(index)) throw new Error(`the machine of node ${index} has lost its power`);
    // Two processes of one node would fight for its state, and one of them would be out of our hands.
    assert(this.nodes[index] === null, "a node is started when it does not run", index);
    // Its machine has a boot of its own, of which it is told what the kernel would tell.
    const script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"';
    const args = ["--mount", "sh", "-c", script, boot, inside.path, ...inside.args];
    const node = new ServerProcess(`node ${index}`, { path: "unshare", args }, this.#environment(index));
    this.nodes[index] = node;
    await node.ready();
  }

  async stopNode(index: number, signal: Deno.Signal = "SIGKILL"): Promise<void> {
    const node = this.nodes[index];
    if (node === null) return;
    this.nodes[index] = null;
    node.signal("SIGCONT");
    await node.stop(signal);
    this.logs.push(node.log);
  }

  /**
   * Nodes and what is unflushed on their disks are gone at once; `meanwhile` is called before they have power again. No fault
   * starts one of them until then: it would go on while its disk forgets.
   */
  async losePower(indexes: readonly number[], meanwhile: () => Promise<void>): Promise<void> {
    for (const index of indexes) this.#powerLosses[index]++;
    const before = this.#powering;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#powering = promise;
    try {
      await before;
      await Promise.all(indexes.map((index) => this.stopNode(index)));
      for (const index of indexes) {
        this.#boots[index]++;
        await this.disks[index].cyclePower();
      }
      await meanwhile();
    } finally {
      for (const index of indexes) this.#powerLosses[index]--;
      resolve();
    }
  }

  /** Starts a client on `machine`; it becomes the one in force when it is ready. Returns null when it was refused or ended. */
  async attach(machine: number, isTakeover: boolean): Promise<ClientLife | null> {
    const number = ++this.#clients;
    const command = brmrCommand([
      ...["attach", POOL, ...this.#nodeArguments, "--heartbeat", "1s"],
      ...["--nbd", `${this.directory}/nbd${number}.sock`, ...isTakeover ? ["--takeover"] : []],
      ...this.plan.isTcpOnly ? ["--transport", "tcp"] : [],
    ]);
    const inside = this.bed.command(machine, command.path, command.args);
    const server = new ServerProcess(`client ${number}`, inside, this.#environment(machine));
    let uri: string;
    try {
      uri = await server.ready();
    } catch {
      // Refused for the time being (no leg to be trusted is there, another client has it): the next attempt may fare better.
      await server.stop("SIGKILL");
      this.logs.push(server.log);
      return null;
    }
    return { number, machine, server, uri };
  }

  async stopClient(client: ClientLife, signal: Deno.Signal): Promise<number> {
    client.server.signal("SIGCONT");
    const code = await client.server.stop(signal);
    this.logs.push(client.server.log);
    return code;
  }

  /** How the client in force sees the pool; null when it does not answer. */
  async clientSnapshot(): Promise<ClientSnapshot | null> {
    if (this.client === null) return null;
    const runtimeDir = this.#environment(this.client.machine).BRMR_RUNTIME_DIR;
    try {
      const control = await connectClient(POOL, { runtimeDir, timeoutMs: CONTROL_MS });
      try {
        return (await control.request("client.status", {})).snapshot;
      } finally {
        control.close();
      }
    } catch {
      return null; // it is down, stopped, or busy ending
    }
  }

  /** How node `index` sees its leg; throws when it does not answer or has none. */
  async legStatus(index: number): Promise<LegStatus> {
    const control = await connectNode(this.addressOf(index), { timeoutMs: CONTROL_MS });
    try {
      return (await control.request("pool.status", { pool: POOL })).legs[0];
    } finally {
      control.close();
    }
  }

  /** Pauses or resumes the resync of leg `index`, if its node answers. */
  async setResync(index: number, paused: boolean, rateBytesPerSecond: number): Promise<void> {
    try {
      const control = await connectNode(this.addressOf(index), { timeoutMs: CONTROL_MS });
      try {
        await control.request("resync.set", { pool: POOL, paused, rateBytesPerSecond });
      } finally {
        control.close();
      }
    } catch (error) {
      if (this.nodes[index] !== null) this.logs.push(`resync.set at node ${index}: ${error}`);
    }
  }

  /** What keeps the pool from being whole; "" when nothing does. */
  async unwholeness(): Promise<string> {
    const snapshot = await this.clientSnapshot();
    if (snapshot === null) return "the client does not answer";
    if (snapshot.state !== "ready") return `the client is ${snapshot.state}`;
    if (snapshot.inSyncMask !== (1 << this.legCount) - 1) return `in sync is ${snapshot.inSyncMask.toString(2)}`;
    for (let index = 0; index < this.legCount; index++) {
      const { snapshot: leg } = await this.legStatus(index);
      if (leg.state !== "in-sync") return `leg ${index} holds itself to be ${leg.state}`;
      for (const { legIndex, dirtyBytes } of leg.dirty) {
        if (dirtyBytes > 0) return `leg ${index} has ${dirtyBytes} dirty bytes of leg ${legIndex}`;
      }
    }
    return "";
  }

  /** Waits until the pool is whole. */
  async waitWhole(limitMs: number): Promise<void> {
    let reason = "";
    await waitFor("the pool to be whole", limitMs, async () => {
      const now = await this.unwholeness();
      reason = now;
      return now === "";
    }, 250).catch((error) => {
      throw new Error(`${(error as Error).message}: ${reason}`);
    });
  }

  /** The newest epoch record on any leg's disk. */
  async newestRecord(): Promise<SharedEpoch | null> {
    let newest: SharedEpoch | null = null;
    for (const disk of this.disks) {
      const { epochOffset } = layoutOf(await this.#superblock(disk));
      for (const copy of [0, 1]) {
        const found = decodeEpochRecord(await disk.read(epochOffset + copy * BLOCK_BYTES, BLOCK_BYTES), null);
        if (!found.ok) continue;
        if (newest === null || compareRank(found.value.shared, newest) > 0) newest = found.value.shared;
      }
    }
    return newest;
  }

  /** Where the data of a leg begins on its disk. */
  async dataOffset(index: number): Promise<number> {
    return (await this.#superblock(this.disks[index])).dataOffset;
  }

  /** The data of a leg, as its disk holds it. */
  async legData(index: number): Promise<Uint8Array> {
    const disk = this.disks[index];
    const { dataOffset, sizeBytes } = await this.#superblock(disk);
    return await disk.read(dataOffset, sizeBytes);
  }

  async #superblock(disk: LegDisk) {
    for (const copy of [0, 1]) {
      const found = decodeSuperblock(await disk.read(copy * BLOCK_BYTES, BLOCK_BYTES), null);
      if (found.ok) return found.value;
    }
    throw new Error(`Both superblocks of ${disk.path} are broken`);
  }

  /** What everything has printed. */
  allLogs(): string {
    const live = [...this.nodes, this.client?.server ?? null].filter((server) => server !== null);
    return [...this.logs, ...live.map((server) => server.log)].join("\n");
  }

  async close(): Promise<void> {
    if (this.client !== null) await this.stopClient(this.client, "SIGKILL");
    for (let index = 0; index < this.legCount; index++) await this.stopNode(index);
    for (const disk of this.disks) await disk.close();
    await this.bed.close();
  }
}
