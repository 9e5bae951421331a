/**
 * The demo: a pool with two legs on two real storage-node processes and a client process, all on this machine, in a
 * temporary directory, unprivileged. Writes through the NBD socket, kills one node with SIGKILL mid-load, watches the dirty
 * map grow, brings the node back, watches the resync under load, and proves that both legs are identical and hold every
 * acked write. Cleans up, whatever happens.
 *
 * Nothing here is simulated: the numbers are read from the running nodes by the same control API as `brmr status`.
 *
 * @module
 */

import type { ControlClient, NodeOperations } from "../control/control_api.ts";
import { connectNode } from "../control/node_control_client.ts";
import { NodeConnections } from "../control/node_connections.ts";
import { createPool } from "../control/pool_creation.ts";
import { findPool } from "../control/pool_lookup.ts";
import { syncStatusOf } from "../control/sync_status.ts";
import { NbdClient } from "../frontend/nbd_client.ts";
import { BrmrProcess, type Program, thisProgram } from "./child_process.ts";
import { compareDataAreas } from "./leg_compare.ts";
import { ReservedPorts } from "./reserved_ports.ts";
import { LOAD_BLOCK_BYTES, WriteLoad } from "./write_load.ts";

/** What the demo ends with. */
export interface DemoResult {
  readonly writesAcked: number;
  /** Bytes that the killed leg lacked when it came back. */
  readonly bytesMissed: number;
  /** Bytes that it pulled from the other leg. */
  readonly bytesResynced: number;
  /** bytesResynced / bytesMissed: 1 or less, because what the client overwrites meanwhile needs no pull. */
  readonly amplification: number;
  /** From the node's return to its leg being in sync. */
  readonly resyncMs: number;
  /** Longest time without an acked write around the kill. */
  readonly failoverMs: number;
  /** The data areas are byte-identical, and every acked write reads back. */
  readonly identical: boolean;
}

/** A moment of the demo, for whoever shows it. */
export type DemoEvent =
  | {
    readonly kind: "setting";
    readonly directory: string;
    readonly sizeBytes: number;
    readonly addresses: readonly string[];
  }
  /** A step begins. */
  | { readonly kind: "step"; readonly step: DemoStep }
  /** Several times a second while a step lasts. */
  | { readonly kind: "pulse"; readonly step: DemoStep; readonly pulse: DemoPulse }
  /** A step is over; `text` says how it went. */
  | { readonly kind: "done"; readonly step: DemoStep; readonly text: string };

/** The steps, in order. */
export type DemoStep = "start" | "create" | "attach" | "load" | "kill" | "return" | "prove" | "tidy";

/** Where things stand. */
export interface DemoPulse {
  readonly writesAcked: number;
  readonly writesPerSecond: number;
  readonly missingBytes: number;
  /** While resyncing: bytes missing when it began, and the rate. */
  readonly totalBytes: number;
  readonly rateBytesPerSecond: number;
  /** Dirty chunks over the address space, in equal buckets; empty when not asked. */
  readonly buckets: readonly number[];
  readonly chunksPerBucket: number;
}

/** How the demo is run. */
export interface DemoOptions {
  readonly onEvent: (event: DemoEvent) => void;
  /** Stop early and clean up. */
  readonly signal?: AbortSignal;
  readonly sizeBytes?: number;
  readonly program?: Program;
}

const POOL = "demo";
/** What the two commands read of the environment. */
const ENVIRONMENT =
  "--allow-env=BRMR_*,XDG_RUNTIME_DIR,XDG_CONFIG_HOME,HOME,NO_COLOR,FORCE_COLOR,TERM,NOTIFY_SOCKET,TMPDIR,COLUMNS";
const BUCKET_COUNT = 64;
/** How long load runs before the kill, and how long the node stays away. */
const LOAD_MS = 2_000;
const AWAY_MS = 3_000;
const PULSE_MS = 100;
/** For anything that should take a moment, on a machine that may be slow. */
const LIMIT_MS = 120_000;
/** The load leaves the machine some room, so that the resync is seen to run beside it. */
const WRITES_PER_SECOND = 4_000;
const LOAD_DEPTH = 16;

/** Runs the demo. Throws when it cannot be run; a result that is not identical is returned, not thrown. */
export async function runDemo(options: DemoOptions): Promise<DemoResult> {
  const directory = await Deno.makeTempDir({ prefix: "brmr-demo-" });
  const demo = new Demo(options, directory);
  try {
    return await demo.run();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error(`${(error as Error).message}\n${demo.logs()}`, { cause: error });
  } finally {
    await demo.cleanUp();
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #directory: string;
  readonly #program: Program;
  readonly #sizeBytes: number;
  #ports: ReservedPorts | null = null;
  readonly #addresses: string[] = [];
  readonly #storage: BrmrProcess[] = [];
  #client: BrmrProcess | null = null;
  #nbd: NbdClient | null = null;
  #load: WriteLoad | null = null;

  constructor(options: DemoOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
    this.#program = options.program ?? thisProgram();
    this.#sizeBytes = options.sizeBytes ?? 256 << 20;
  }

  async run(): Promise<DemoResult> {
    await this.#start();
    await this.#create();
    await this.#attach();
    await this.#runLoad();
    const failoverMs = await this.#kill();
    const { bytesMissed, bytesResynced, resyncMs } = await this.#return();
    const { identical, writesAcked } = await this.#prove();
    const amplification = bytesMissed === 0 ? 0 : Math.round(bytesResynced / bytesMissed * 1000) / 1000;
    return { writesAcked, bytesMissed, bytesResynced, amplification, resyncMs, failoverMs, identical };
  }

  /** What the processes have said, for an error. */
  logs(): string {
    const processes = [...this.#storage, ...(this.#client === null ? [] : [this.#client])];
    return processes.map((each) => `--- ${each.name}, pid ${each.pid}\n${each.errorText}`).join("\n");
  }

  async cleanUp(): Promise<void> {
    await this.#load?.stop().catch(() => undefined); // why it failed has been thrown already, or is about to be
    await this.#nbd?.close();
    await this.#client?.end(5_000);
    for (const node of this.#storage) await node.end(5_000);
    this.#ports?.release();
    await Deno.remove(this.#directory, { recursive: true });
  }

  // ---- the steps ------------------------------------------------------------------------------------------------

  async #start(): Promise<void> {
    this.#begin("start");
    this.#ports = new ReservedPorts(2);
    this.#addresses.push(...this.#ports.ports.map((port) => `127.0.0.1:${port}`));
    this.#options.onEvent({
      kind: "setting",
      directory: this.#directory,
      sizeBytes: this.#sizeBytes,
      addresses: this.#addresses,
    });
    for (let i = 0; i < 2; i++) this.#storage.push(this.#startStorageNode(i));
    await Promise.all(this.#storage.map((node) => node.waitForLine(/^ready /, LIMIT_MS)));
    this.#end("start", `storage nodes ${this.#storage.map((node) => `pid ${node.pid}`).join(" and ")} listen`);
  }

  async #create(): Promise<void> {
    this.#begin("create");
    const nodes = this.#connections();
    try {
      await createPool({
        poolName: POOL,
        sizeBytes: this.#sizeBytes,
        legs: this.#addresses.map((address, i) => ({ address, path: this.#legPath(i) })),
      }, nodes);
    } finally {
      await nodes.close();
    }
    this.#end("create", `pool "${POOL}", one leg on each node, a sparse file each`);
  }

  async #attach(): Promise<void> {
    this.#begin("attach");
    const socket = `${this.#directory}/${POOL}.sock`;
    const runtimeDir = `${this.#directory}/run`;
    this.#client = new BrmrProcess(
      "The client",
      this.#program,
      [
        "--allow-ffi",
        "--allow-read",
        `--allow-write=${this.#directory}`,
        "--allow-net",
        "--allow-sys=hostname,uid",
        "--allow-env",
      ],
      ["attach", POOL, "--node", this.#addresses[0], "--nbd", socket],
      { BRMR_RUNTIME_DIR: runtimeDir },
    );
    await this.#client.waitForLine(/^ready /, LIMIT_MS);
    this.#nbd = await NbdClient.connect({ path: socket });
    this.#end("attach", `client pid ${this.#client.pid} serves NBD on a unix socket`);
  }

  async #runLoad(): Promise<void> {
    this.#begin("load");
    this.#load = new WriteLoad(this.#nbd!, {
      blockCount: Math.floor(this.#sizeBytes / LOAD_BLOCK_BYTES),
      depth: LOAD_DEPTH,
      writesPerSecond: WRITES_PER_SECOND,
      seed: 1,
    });
    await this.#pulseUntil("load", after(LOAD_MS), () => Promise.resolve(NOTHING_MISSING));
    this.#end("load", `${this.#load.ackedCount.toLocaleString("en")} random 4 KiB writes acked by both legs`);
  }

  async #kill(): Promise<number> {
    this.#begin("kill");
    const survivor = await connectNode(this.#addresses[0], { timeoutMs: LIMIT_MS });
    try {
      this.#load!.resetGap();
      this.#storage[1].kill("SIGKILL");
      await this.#storage[1].exited;
      await this.#pulseUntil("kill", after(AWAY_MS), () => this.#askDirtyMap(survivor));
      const failoverMs = Math.round(this.#load!.longestGapMs * 10) / 10;
      this.#end("kill", `writes went on; longest pause ${failoverMs} ms`);
      return failoverMs;
    } finally {
      survivor.close();
    }
  }

  async #return(): Promise<{ bytesMissed: number; bytesResynced: number; resyncMs: number }> {
    this.#begin("return");
    const survivor = await connectNode(this.#addresses[0], { timeoutMs: LIMIT_MS });
    let returned: ControlClient<NodeOperations> | null = null;
    try {
      this.#storage[1] = this.#startStorageNode(1);
      await this.#storage[1].waitForLine(/^ready /, LIMIT_MS);
      const startedMs = performance.now();
      returned = await connectNode(this.#addresses[1], { timeoutMs: LIMIT_MS });
      const target = returned;
      const isInSync = async () => {
        const { snapshot } = (await target.request("pool.status", { pool: POOL })).legs[0];
        const witness = (await survivor.request("pool.status", { pool: POOL })).legs[0].snapshot;
        return snapshot.resync === null && (witness.record.shared.inSyncMask & 2) !== 0 &&
          (snapshot.record.shared.inSyncMask & 2) !== 0;
      };
      await this.#pulseUntil("return", isInSync, async () => {
        const map = await this.#askDirtyMap(survivor);
        const resync = (await target.request("pool.status", { pool: POOL })).legs[0].snapshot.resync;
        return {
          ...map,
          missingBytes: resync?.missingBytes ?? map.missingBytes,
          totalBytes: resync?.totalBytes ?? map.missingBytes,
          rateBytesPerSecond: resync?.rateBytesPerSecond ?? 0,
        };
      });
      const resyncMs = Math.round(performance.now() - startedMs);
      const { lastResync } = (await target.request("pool.status", { pool: POOL })).legs[0].snapshot;
      if (lastResync === null || lastResync.state !== "done") throw new Error("The leg is back, but without a resync");
      this.#end("return", `back in sync after ${resyncMs} ms, with the load running all the while`);
      return { bytesMissed: lastResync.totalBytes, bytesResynced: lastResync.copiedBytes, resyncMs };
    } finally {
      survivor.close();
      returned?.close();
    }
  }

  async #prove(): Promise<{ identical: boolean; writesAcked: number }> {
    this.#begin("prove");
    const load = this.#load!;
    await load.stop();
    await this.#nbd!.flush();
    const wrongCount = await load.countWrong();
    await this.#expectWhole();
    await this.#nbd!.close();
    this.#nbd = null;
    await this.#client!.end(LIMIT_MS);
    this.#client = null;
    for (const node of this.#storage) await node.end(LIMIT_MS);
    this.#storage.length = 0;
    const difference = await compareDataAreas(this.#legPath(0), this.#legPath(1));
    const identical = difference === null && wrongCount === 0;
    this.#end(
      "prove",
      identical
        ? "both data areas are byte-identical, and every acked write reads back"
        : `NOT identical: ${difference ?? "the legs are equal"}; ${wrongCount} acked blocks read back wrong`,
    );
    return { identical, writesAcked: load.ackedCount };
  }

  // ---- small things -----------------------------------------------------------------------------------------------

  #begin(step: DemoStep): void {
    this.#options.signal?.throwIfAborted();
    this.#options.onEvent({ kind: "step", step });
  }

  #end(step: DemoStep, text: string): void {
    this.#options.onEvent({ kind: "done", step, text });
  }

  #legPath(index: number): string {
    return `${this.#directory}/leg-${"ab"[index]}.img`;
  }

  #connections(): NodeConnections {
    return new NodeConnections((address) => connectNode(address, { timeoutMs: LIMIT_MS }));
  }

  #startStorageNode(index: number): BrmrProcess {
    const name = "ab"[index];
    return new BrmrProcess(`Storage node ${name}`, this.#program, [
      "--allow-ffi",
      "--allow-read",
      `--allow-write=${this.#directory}`,
      "--allow-sys=hostname",
      ENVIRONMENT,
    ], ["serve", "--state", `${this.#directory}/state-${name}`, "--listen", `tcp://${this.#addresses[index]}`]);
  }

  async #askDirtyMap(survivor: ControlClient<NodeOperations>): Promise<Missing> {
    const map = await survivor.request("pool.dirtyMap", {
      pool: POOL,
      legIndex: 1,
      buckets: BUCKET_COUNT,
      maxRuns: 0,
    });
    return {
      missingBytes: map.dirtyBytes,
      totalBytes: map.dirtyBytes,
      rateBytesPerSecond: 0,
      buckets: map.buckets,
      chunksPerBucket: Math.ceil(map.sizeBytes / map.chunkBytes / BUCKET_COUNT),
    };
  }

  /** Tells where things stand until `isOver`. A write that failed meanwhile ends the demo. */
  async #pulseUntil(step: DemoStep, isOver: () => Promise<boolean>, ask: () => Promise<Missing>): Promise<void> {
    const deadlineMs = performance.now() + LIMIT_MS;
    const load = this.#load!;
    let lastCount = load.ackedCount;
    let lastMs = performance.now();
    let writesPerSecond = 0;
    while (!(await isOver())) {
      if (load.failure !== null) throw load.failure;
      this.#options.signal?.throwIfAborted();
      if (performance.now() > deadlineMs) throw new Error(`Step "${step}" did not end within ${LIMIT_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, PULSE_MS));
      const nowMs = performance.now();
      const rate = (load.ackedCount - lastCount) * 1000 / (nowMs - lastMs);
      writesPerSecond = writesPerSecond === 0 ? rate : writesPerSecond * 0.7 + rate * 0.3;
      lastCount = load.ackedCount;
      lastMs = nowMs;
      const pulse: DemoPulse = { writesAcked: load.ackedCount, writesPerSecond, ...await ask() };
      this.#options.onEvent({ kind: "pulse", step, pulse });
    }
  }

  async #expectWhole(): Promise<void> {
    const nodes = this.#connections();
    try {
      const status = syncStatusOf(await findPool(POOL, this.#addresses, nodes));
      if (!status.isWhole) throw new Error("The pool is not whole after the resync");
    } finally {
      await nodes.close();
    }
  }
}

type Missing = Omit<DemoPulse, "writesAcked" | "writesPerSecond">;

const NOTHING_MISSING: Missing = {
  missingBytes: 0,
  totalBytes: 0,
  rateBytesPerSecond: 0,
  buckets: [],
  chunksPerBucket: 0,
};

function after(durationMs: number): () => Promise<boolean> {
  const endMs = performance.now() + durationMs;
  return () => Promise.resolve(performance.now() >= endMs);
}
