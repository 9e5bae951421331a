/**
 * One torture world: a pool of real processes, a load, faults; and now and then calm, in which the pool must become whole
 * and every leg must hold the same, and what the application was promised.
 *
 * @module
 */

import { AssertionFailure } from "../../lib/base/assert.ts";
import { Prng } from "../../lib/base/prng.ts";
import { bitCount } from "../../lib/core/start_rule.ts";
import { NbdSocket } from "../integration/nbd_socket.ts";
import { Bed } from "./bed.ts";
import { DiskRoom, type LegDisk, MountedDisk, PlainDisk } from "./disks.ts";
import { strike } from "./faults.ts";
import { Judge, SECTOR_BYTES } from "./judge.ts";
import { Load } from "./load.ts";
import { drawPlan, type TorturePlan } from "./plan.ts";
import { type ClientLife, TorturePool } from "./pool.ts";

/** How long the pool may take to become whole when all faults are over: far more than it needs on a busy machine. */
/** How long no client may be able to attach the pool, faults that strike meanwhile included. */
const CLIENT_LIMIT_MS = 300_000;
const WHOLE_LIMIT_MS = 180_000;
/** Data and metadata of the largest pool. */
const DISK_BYTES = 40 * 1024 * 1024;
const STORM_MS = 15_000;

/** How a world went. */
export interface WorldOutcome {
  readonly failure: string | null;
  readonly requests: number;
  readonly faults: number;
  readonly comparisons: number;
}

/** See the module comment. */
export class TortureWorld {
  readonly plan: TorturePlan;
  readonly prng: Prng;
  readonly judge: Judge;
  readonly pool: TorturePool;
  /** The first sector of data on the disks. */
  dataSector = 0;
  faultCount = 0;
  comparisons = 0;
  #unitSectors = 1;
  #isCalm = false;
  #endRest: () => void = () => undefined;
  #calm: Promise<void> = Promise.resolve();
  #loads: Load[] = [];
  #attaching: Promise<void> = Promise.resolve();
  /** Bit i: leg i lost power since it was last known to hold everything. */
  #brokenMask = 0;
  readonly #strikes = new Set<Promise<void>>();
  /** By node: its start, while one is under way. */
  readonly #starting: (Promise<void> | null)[] = [];
  readonly #log: (line: string) => void;
  failure: Error | null = null;

  private constructor(plan: TorturePlan, pool: TorturePool, log: (line: string) => void) {
    this.plan = plan;
    this.pool = pool;
    this.prng = new Prng(plan.seed).fork();
    this.judge = new Judge(plan.sizeBytes / SECTOR_BYTES);
    this.#log = log;
  }

  /** Lives through a seed, for about `ms`. */
  static async run(seed: number, ms: number, directory: string, log: (line: string) => void): Promise<WorldOutcome> {
    const plan = drawPlan(seed);
    const room = new DiskRoom();
    const bed = await Bed.create(plan.legCount + 2);
    const disks: LegDisk[] = plan.hasFaults.map((hasFaults, index) =>
      hasFaults
        ? new MountedDisk(room, index, directory, DISK_BYTES, seed * 8 + index)
        : new PlainDisk(`${directory}/leg${index}.img`)
    );
    const pool = new TorturePool(plan, bed, disks, directory);
    const world = new TortureWorld(plan, pool, log);
    log(`seed ${seed}: ${plan.legCount} legs, ${JSON.stringify(plan)}`);
    try {
      for (const disk of disks) await disk.start();
      await world.#live(ms);
    } catch (error) {
      world.failure ??= error as Error;
    }
    if (room.failure !== null) world.failure ??= new Error(room.failure);
    if (world.failure !== null) await Deno.writeTextFile(`${directory}/processes.log`, pool.allLogs());
    world.#becomeCalm();
    try {
      await Promise.all(world.#strikes);
      for (const disk of disks) await disk.heal();
      await pool.close();
    } finally {
      room.close();
    }
    const { counts } = world.judge;
    return {
      failure: world.failure === null ? null : `${world.failure.stack ?? world.failure.message}`,
      requests: counts.reads + counts.writes + counts.flushes + counts.failed + counts.unknown,
      faults: world.faultCount,
      comparisons: world.comparisons,
    };
  }

  async #live(ms: number): Promise<void> {
    const { pool } = this;
    for (let index = 0; index < pool.legCount; index++) await this.startNode(index);
    await pool.create();
    const { snapshot } = await pool.legStatus(0);
    this.#unitSectors = snapshot.logicalBlockBytes / SECTOR_BYTES;
    this.dataSector = (await pool.dataOffset(0)) / SECTOR_BYTES;
    await this.ensureClient();
    const endMs = performance.now() + ms;
    do {
      await this.#storm(Math.min(STORM_MS, Math.max(5000, endMs - performance.now())));
      await this.#calmDown();
    } while (performance.now() < endMs);
  }

  /** Faults strike for a while. */
  async #storm(ms: number): Promise<void> {
    this.#isCalm = false;
    this.#calm = new Promise((resolve) => this.#endRest = resolve);
    const endMs = performance.now() + ms;
    for (;;) {
      await this.rest(-Math.log(1 - this.prng.fraction()) * this.plan.faultMeanMs);
      this.#throwIfFailed();
      if (performance.now() >= endMs) break;
      if (this.#strikes.size >= 3) continue;
      const fault = this.prng.pick(this.plan.faults);
      this.faultCount++;
      this.note(`fault: ${fault}`);
      const strikes = this.#strikes;
      const over: Promise<void> = strike(this, fault).catch((error) => {
        this.failure ??= error as Error;
      }).finally(() => strikes.delete(over));
      strikes.add(over);
    }
    this.#becomeCalm();
    await Promise.all(this.#strikes);
  }

  #becomeCalm(): void {
    this.#isCalm = true;
    this.#endRest();
  }

  /** Waits; not longer than until it is calm. */
  async rest(ms: number): Promise<void> {
    if (this.#isCalm) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([this.#calm, new Promise<void>((resolve) => timer = setTimeout(resolve, ms))]);
    clearTimeout(timer);
  }

  note(text: string): void {
    this.judge.note(text);
    this.#log(`${(this.judge.elapsedMs / 1000).toFixed(2)} s ${text}`);
  }

  #throwIfFailed(): void {
    for (const load of this.#loads) this.failure ??= load.failure;
    if (this.failure !== null) throw this.failure;
  }

  // ---- nodes and clients -----------------------------------------------------------------------------------------

  /** Starts a node that is down, until it serves its leg. Faults that overlap at a node share its start. */
  startNode(index: number): Promise<void> {
    return this.#starting[index] ??= this.#start(index).finally(() => this.#starting[index] = null);
  }

  async #start(index: number): Promise<void> {
    const { pool } = this;
    for (let tries = 0; pool.nodes[index] === null; tries++) {
      while (!pool.hasPower(index)) await new Promise((resolve) => setTimeout(resolve, 20));
      try {
        await pool.startNode(index);
        this.#watch(index);
        return;
      } catch (error) {
        if (error instanceof AssertionFailure) throw error;
        // Its disk may be failing; its address may be in use until the process before has let go of its I/O.
        await pool.stopNode(index);
        if (tries >= 100) throw error;
        await this.rest(200);
      }
    }
  }

  /** A node ends only when it is told to. */
  #watch(index: number): void {
    const node = this.pool.nodes[index];
    node?.ended.then(() => {
      if (this.pool.nodes[index] === node) this.failure ??= new Error(`node ${index} has ended by itself`);
    });
  }

  /** There is a client in force: starts one until one is ready, or the world has failed. One attempt at a time. */
  ensureClient(): Promise<void> {
    return this.#inTurn(async () => {
      const endMs = performance.now() + CLIENT_LIMIT_MS;
      while (this.pool.client === null && this.failure === null && performance.now() < endMs) {
        await this.#attach(this.pool.clientMachine(0), true);
        if (this.pool.client === null) await new Promise((resolve) => setTimeout(resolve, 200));
      }
      if (this.pool.client === null) {
        throw this.failure ?? new Error(`No client could attach the pool: ${this.pool.logs.at(-1)}`);
      }
    });
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#attaching.then(step);
    this.#attaching = turn.catch(() => undefined);
    return turn;
  }

  async #attach(machine: number, isTakeover: boolean): Promise<void> {
    const before = this.judge.oracle.tick();
    const client = await this.pool.attach(machine, isTakeover);
    if (client === null) return;
    this.pool.client = client;
    // Whatever other clients had under way before this one began has happened by now, or never will.
    this.judge.oracle.settle(before);
    this.note(`client ${client.number} is in force`);
    const isInForce = () => this.pool.client === client;
    this.#loads.push(new Load(this.plan, this.prng.fork(), this.judge, client, this.#unitSectors, isInForce));
    client.server.ended.then(() => {
      if (this.pool.client !== client) return;
      this.pool.client = null;
      this.note(`client ${client.number} has ended by itself`);
      if (!this.#isCalm) this.ensureClient().catch((error) => this.failure ??= error);
    });
  }

  async killClient(): Promise<void> {
    await this.#inTurn(async () => {
      const client = this.pool.client;
      if (client === null) return;
      this.pool.client = null;
      await this.pool.stopClient(client, "SIGKILL");
    });
    await this.ensureClient();
  }

  async detach(): Promise<void> {
    await this.#inTurn(async () => {
      const client = this.pool.client;
      if (client === null) return;
      this.pool.client = null;
      const timer = setTimeout(() => client.server.killNow(), 20_000);
      await this.pool.stopClient(client, "SIGTERM");
      clearTimeout(timer);
    });
    await this.ensureClient();
  }

  /** Another client takes the pool over; the one that has it lives on for a while, perhaps stopped. */
  async takeOver(isStopped: boolean): Promise<void> {
    let former: ClientLife | null = null;
    await this.#inTurn(async () => {
      former = this.pool.client;
      if (former === null) return;
      if (isStopped) former.server.signal("SIGSTOP");
      const other = this.pool.clientMachine(former.machine === this.pool.clientMachine(0) ? 1 : 0);
      await this.#attach(other, true);
    });
    await this.rest(2000);
    const past = former as ClientLife | null;
    if (past !== null && this.pool.client !== past) await this.pool.stopClient(past, "SIGKILL");
    else past?.server.signal("SIGCONT");
    await this.ensureClient();
  }

  // ---- what may be lost ------------------------------------------------------------------------------------------

  /** The machines of nodes lose their power, and get it back. */
  async losePower(nodes: readonly number[]): Promise<void> {
    await this.#beforePowerLoss();
    const legs = nodes.filter((node) => this.pool.disks[node].hasFaults);
    // The others' disks keep what they were given.
    const others = nodes.filter((node) => !legs.includes(node));
    await Promise.all([
      this.pool.losePower(legs, () => this.#afterPowerLoss(legs)),
      ...others.map((node) => this.pool.stopNode(node)),
    ]);
  }

  /** Legs that the client has had in sync for a while hold everything again. */
  async #beforePowerLoss(): Promise<void> {
    if (this.#brokenMask !== 0 && performance.now() - this.#brokenAtMs > 10_000) {
      const snapshot = await this.pool.clientSnapshot();
      if (snapshot?.state === "ready") this.#brokenMask &= ~snapshot.inSyncMask;
    }
  }

  #brokenAtMs = 0;

  /**
   * When all members of the in-sync set have lost power since they were whole, unflushed data may be gone. With min-in-sync m, as
   * many as m - 1 members may be left out of a start, so m of them must be unbroken for nothing to be lost.
   */
  async #afterPowerLoss(legs: readonly number[]): Promise<void> {
    for (const leg of legs) this.#brokenMask |= 1 << leg;
    this.#brokenAtMs = performance.now();
    const record = await this.pool.newestRecord();
    const unbroken = (record?.inSyncMask ?? 0) & ~this.#brokenMask;
    if (bitCount(unbroken) >= Math.max(1, this.plan.minInSync)) return;
    this.note("all unflushed data may be lost");
    this.judge.oracle.losePower();
  }

  // ---- calm ------------------------------------------------------------------------------------------------------

  /** Everything is up again; the pool must become whole, and be what it should be. */
  async #calmDown(): Promise<void> {
    const { pool } = this;
    this.note("calm");
    await pool.bed.heal();
    for (let index = 0; index < pool.legCount; index++) {
      await pool.disks[index].heal();
      pool.nodes[index]?.signal("SIGCONT");
      this.#throwIfFailed();
      await this.startNode(index);
      await this.#reopen(index);
      await pool.setResync(index, false, 0);
    }
    pool.client?.server.signal("SIGCONT");
    await this.ensureClient();
    await pool.waitWhole(WHOLE_LIMIT_MS);
    this.#throwIfFailed();
    for (const load of this.#loads) load.stop();
    await Promise.all(this.#loads.map((load) => load.ended()));
    this.#throwIfFailed();
    this.#loads = [];
    await pool.waitWhole(WHOLE_LIMIT_MS);
    await this.#compare();
    this.#brokenMask = 0;
    const client = pool.client;
    if (client === null) return await this.ensureClient();
    const isInForce = () => this.pool.client === client;
    this.#loads.push(new Load(this.plan, this.prng.fork(), this.judge, client, this.#unitSectors, isInForce));
  }

  /** A node whose disk failed while it opened its leg has to be started again. */
  async #reopen(index: number): Promise<void> {
    for (let tries = 0; await this.pool.legStatus(index).then(() => false, () => true); tries++) {
      if (tries >= 20) throw new Error(`node ${index} does not serve its leg`);
      this.note(`node ${index} does not serve its leg, and is started again`);
      await this.pool.stopNode(index);
      await this.startNode(index);
    }
  }

  /** All legs hold the same, and it is what may be read. */
  async #compare(): Promise<void> {
    const { pool, judge } = this;
    const client = pool.client;
    if (client === null) throw new Error("The client has ended in calm");
    const socket = await NbdSocket.connect(client.uri);
    const flush = judge.begin("flush", client.number, 0, 0, false);
    await socket.flush();
    judge.succeed(flush, null);
    await socket.close();
    const invoke = judge.oracle.tick();
    const first = await pool.legData(0);
    for (let index = 1; index < pool.legCount; index++) {
      const other = await pool.legData(index);
      const at = firstDifference(first, other);
      if (at < 0) continue;
      const sector = Math.floor(at / SECTOR_BYTES);
      throw new Error(`Leg 0 and leg ${index} differ at byte ${at}, sector ${sector}:\n${judge.story(sector)}`);
    }
    judge.checkRead(first, 0, invoke);
    this.comparisons++;
    this.note(
      `whole: ${pool.legCount} legs are identical and hold what was promised (${JSON.stringify(judge.counts)})`,
    );
  }
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const left = new Uint32Array(a.buffer, a.byteOffset, a.length / 4);
  const right = new Uint32Array(b.buffer, b.byteOffset, b.length / 4);
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return i * 4;
  return -1;
}
