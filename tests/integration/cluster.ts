/**
 * A real pool for tests and benchmarks: storage nodes and a client as processes of their own, started through the command
 * line, on free ports, in a directory of their own. Whatever happens, nothing of it survives `close()`.
 *
 * Runs the command line from source, or the executable that `BRMR_BIN` names.
 *
 * @module
 */

import { ReservedPorts } from "../../lib/demo/reserved_ports.ts";
import { fileURLToPath } from "node:url";
import { permissionFlags } from "../../cli/build/permissions.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const READY_LIMIT_MS = 120_000;
const COMMAND_LIMIT_MS = 180_000;
/** Status commands answer in full with 0 when all is in sync, with 5 when it is not. */
const STATUS_CODES = [0, 5];

/** A cluster's shape. */
export interface ClusterOptions {
  /** Default 2. Each node gets one leg. */
  readonly nodeCount?: number;
  /** Default "vol1". */
  readonly poolName?: string;
  /** As the command line takes it, e.g. "1G". Default "256M". */
  readonly size?: string;
  /** Paths of the legs; default files in the cluster's directory. */
  readonly legPaths?: readonly string[];
  /** More arguments of `brmr serve`, `brmr pool create`, `brmr attach`. */
  readonly serveArguments?: readonly string[];
  /** Besides, for one node. */
  readonly nodeArguments?: (index: number) => readonly string[];
  readonly createArguments?: readonly string[];
  readonly attachArguments?: readonly string[];
  /** More environment for the processes of `brmr serve` and `brmr attach`. */
  readonly environment?: {
    readonly serve?: Readonly<Record<string, string>>;
    readonly attach?: Readonly<Record<string, string>>;
  };
  /** Run this executable instead of the source. */
  readonly binary?: string;
  /** Run this module, from source, instead of the program's own. */
  readonly entry?: string;
  /** Where to put everything; default a new directory in the system's place for temporary files. */
  readonly parentDirectory?: string;
}

/** How a finished command ended. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What `brmr sync-status --json` tells of a leg, as far as the tests look at it. */
export interface LegReport {
  readonly legIndex: number;
  readonly state: string;
  /** Null when nobody reachable knows. */
  readonly missingBytes: number | null;
  readonly totalBytes: number | null;
  readonly copiedBytes: number | null;
  readonly skippedBytes: number | null;
}

/** One look of `sync-status --watch`, and when it came. */
export interface LegsAt {
  readonly atMs: number;
  readonly legs: readonly LegReport[];
}

const running = new Set<ServerProcess>();
// A test run that is stopped half-way must not leave nodes behind.
globalThis.addEventListener("unload", () => {
  for (const server of running) server.killNow();
});

/** How to run one brmr command: from source, or by `binary`. */
export function brmrCommand(
  args: readonly string[],
  binary: string | undefined = Deno.env.get("BRMR_BIN"),
  entry = MAIN,
): { path: string; args: string[] } {
  if (binary !== undefined && binary !== "") return { path: binary, args: [...args] };
  return { path: Deno.execPath(), args: ["run", "--quiet", ...permissionFlags(args[0]), entry, ...args] };
}

/** Waits until `condition` gives something other than null or false. Throws with `what` and the last error after the limit. */
export async function waitFor<T>(
  what: string,
  limitMs: number,
  condition: () => Promise<T | null | false>,
  stepMs = 100,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  let reason = "the condition did not hold";
  while (performance.now() < deadline) {
    try {
      const value = await condition();
      if (value !== null && value !== false) return value;
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, stepMs));
  }
  throw new Error(`Waited ${limitMs} ms for ${what}: ${reason}`);
}

/** A `brmr serve` or `brmr attach` process. Its output is kept. */
export class ServerProcess {
  readonly name: string;
  readonly #child: Deno.ChildProcess;
  readonly #pumps: Promise<unknown>;
  readonly #readers: ReadableStreamDefaultReader<Uint8Array>[] = [];
  #stdout = "";
  #stderr = "";
  #hasEnded = false;

  constructor(name: string, command: { path: string; args: string[] }, env: Record<string, string>) {
    this.name = name;
    this.#child = new Deno.Command(command.path, {
      args: command.args,
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    running.add(this);
    const pump = async (stream: ReadableStream<Uint8Array>, keep: (text: string) => void) => {
      const decoder = new TextDecoder();
      const reader = stream.getReader();
      this.#readers.push(reader);
      for (let look = await reader.read(); !look.done; look = await reader.read()) {
        keep(decoder.decode(look.value, { stream: true }));
      }
    };
    this.#pumps = Promise.all([
      pump(this.#child.stdout, (text) => this.#stdout += text),
      pump(this.#child.stderr, (text) => this.#stderr += text),
      this.#child.status.then(() => {
        this.#hasEnded = true;
        running.delete(this);
      }),
    ]);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** When it has ended. */
  get ended(): Promise<unknown> {
    return this.#child.status;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** What it printed, both streams. */
  get log(): string {
    return `--- ${this.name} (pid ${this.pid}${this.#hasEnded ? ", ended" : ""})\n${this.#stdout}${this.#stderr}`;
  }

  /** Waits for the line that says it is ready; returns what stands behind the word. Throws as soon as the process has ended without. */
  async ready(): Promise<string> {
    const line = /^ready\b[ \t]*(.*)\n/m;
    await waitFor(`${this.name} to be ready`, READY_LIMIT_MS, () => {
      return Promise.resolve(this.#hasEnded || line.test(this.#stdout));
    }, 20);
    if (this.#hasEnded) await this.#pumps;
    const match = line.exec(this.#stdout);
    if (match === null) throw new Error(`${this.name} ended before it was ready: ${this.log}`);
    return match[1] === "" ? "ready" : match[1];
  }

  /** Closes our ends of its output: whatever it writes from now on fails with EPIPE. */
  async closeOutput(): Promise<void> {
    await Promise.all(this.#readers.map((reader) => reader.cancel()));
  }

  signal(signal: Deno.Signal): void {
    if (!this.#hasEnded) this.#child.kill(signal);
  }

  /** Sends SIGKILL without waiting. */
  killNow(): void {
    this.signal("SIGKILL");
  }

  /** Sends `signal` and waits for the end. Returns the exit code (137 after SIGKILL). */
  async stop(signal: Deno.Signal = "SIGKILL"): Promise<number> {
    this.signal(signal);
    const { code } = await this.#child.status;
    await this.#pumps;
    return code;
  }
}

/** A pool `vol1` on real storage nodes. */
export class Cluster {
  readonly directory: string;
  readonly poolName: string;
  readonly addresses: readonly string[];
  readonly legPaths: readonly string[];
  readonly sizeText: string;
  readonly #options: ClusterOptions;
  readonly #ports: ReservedPorts;
  readonly #nodes: (ServerProcess | null)[];
  readonly #past: ServerProcess[] = [];
  #client: ServerProcess | null = null;
  #uri = "";

  private constructor(directory: string, ports: ReservedPorts, options: ClusterOptions) {
    this.directory = directory;
    this.#ports = ports;
    const addresses = ports.ports.map((port) => `127.0.0.1:${port}`);
    this.addresses = addresses;
    this.#options = options;
    this.poolName = options.poolName ?? "vol1";
    this.sizeText = options.size ?? "256M";
    this.legPaths = options.legPaths ?? addresses.map((_, index) => `${directory}/leg${index}.img`);
    this.#nodes = addresses.map(() => null);
  }

  /** Starts the nodes, creates the pool and attaches it. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = await Cluster.startNodes(options);
    try {
      await cluster.createPool();
      await cluster.attach();
      return cluster;
    } catch (error) {
      const logs = cluster.logs();
      await cluster.close();
      throw new Error(`The cluster did not start: ${error instanceof Error ? error.message : error}\n${logs}`);
    }
  }

  /** Starts the nodes only. */
  static async startNodes(options: ClusterOptions = {}): Promise<Cluster> {
    const directory = await Deno.makeTempDir({ dir: options.parentDirectory, prefix: "brmr-" });
    const cluster = new Cluster(directory, new ReservedPorts(options.nodeCount ?? 2), options);
    try {
      await Promise.all(cluster.addresses.map((_, index) => cluster.startNode(index)));
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** The NBD URI of the attached pool. */
  get uri(): string {
    return this.#uri;
  }

  get client(): ServerProcess {
    if (this.#client === null) throw new Error("The pool is not attached");
    return this.#client;
  }

  node(index: number): ServerProcess {
    const node = this.#nodes[index];
    if (node === null) throw new Error(`Node ${index} is down`);
    return node;
  }

  /** Process ids of the nodes that run. */
  get nodePids(): number[] {
    return this.#nodes.filter((node) => node !== null).map((node) => node.pid);
  }

  #environment(): Record<string, string> {
    return { BRMR_RUNTIME_DIR: this.directory, BRMR_NODES: this.addresses.join(","), NO_COLOR: "1" };
  }

  #command(args: readonly string[]): { path: string; args: string[] } {
    const { entry, binary } = this.#options;
    return entry === undefined ? brmrCommand(args, binary) : brmrCommand(args, "", entry);
  }

  #nodeArguments(): string[] {
    return this.addresses.flatMap((address) => ["--node", address]);
  }

  /** Starts node `index` (again), on its old state. */
  async startNode(index: number): Promise<void> {
    const command = this.#command([
      "serve",
      "--state",
      `${this.directory}/state${index}`,
      "--listen",
      `tcp://${this.addresses[index]}`,
      ...this.#options.serveArguments ?? [],
      ...this.#options.nodeArguments?.(index) ?? [],
    ]);
    const node = new ServerProcess(`node ${index}`, command, {
      ...this.#environment(),
      ...this.#options.environment?.serve,
    });
    this.#nodes[index] = node;
    await node.ready();
  }

  /** Ends node `index`, by default with SIGKILL. */
  async stopNode(index: number, signal: Deno.Signal = "SIGKILL"): Promise<number> {
    const node = this.node(index);
    const code = await node.stop(signal);
    this.#nodes[index] = null;
    this.#past.push(node);
    return code;
  }

  /** Creates the pool over one leg on each node. */
  async createPool(): Promise<void> {
    await this.expect([
      "pool",
      "create",
      this.poolName,
      "--size",
      this.sizeText,
      ...this.addresses.flatMap((address, index) => ["--leg", `${address}:${this.legPaths[index]}`]),
      ...this.#options.createArguments ?? [],
    ]);
  }

  /** Attaches the pool; `uri` is then set. */
  async attach(more: readonly string[] = []): Promise<void> {
    const command = this.#command([
      "attach",
      this.poolName,
      ...this.#nodeArguments(),
      "--nbd",
      `${this.directory}/${this.poolName}.sock`,
      ...this.#options.attachArguments ?? [],
      ...more,
    ]);
    const client = new ServerProcess("client", command, {
      ...this.#environment(),
      ...this.#options.environment?.attach,
    });
    this.#client = client;
    this.#uri = await client.ready();
  }

  /** Ends the client, by default as a person would. */
  async detach(signal: Deno.Signal = "SIGTERM"): Promise<number> {
    const client = this.client;
    const code = await client.stop(signal);
    this.#client = null;
    this.#past.push(client);
    return code;
  }

  /** Runs one brmr command to its end. */
  async brmr(args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> {
    const command = this.#command(args);
    return await runCommand(command.path, command.args, { ...this.#environment(), ...env });
  }

  /** Runs one brmr command that must end with one of `codes`; returns its stdout. */
  async expect(args: readonly string[], codes: readonly number[] = [0]): Promise<string> {
    const result = await this.brmr(args);
    if (!codes.includes(result.code)) {
      throw new Error(`brmr ${args.join(" ")} ended with ${result.code}: ${result.stderr}`);
    }
    return result.stdout;
  }

  /** `brmr status --json`, as it is. */
  // deno-lint-ignore no-explicit-any -- what the command prints; each test checks the part it reads
  async status(): Promise<any> {
    return JSON.parse(await this.expect(["status", this.poolName, "--json", ...this.#nodeArguments()], STATUS_CODES));
  }

  /** State and missing bytes of each leg, by `brmr sync-status --json`. */
  async legs(): Promise<LegReport[]> {
    const text = await this.expect(["sync-status", this.poolName, "--json", ...this.#nodeArguments()], STATUS_CODES);
    const legs = JSON.parse(text).legs as LegReport[];
    return [...legs].sort((a, b) => a.legIndex - b.legIndex);
  }

  /**
   * Looks at the legs again and again, with one process, until all are in sync. `onLook` sees each look.
   * Throws when that takes longer than `limitMs`.
   */
  async watchUntilInSync(onLook: (look: LegsAt) => void, limitMs: number, intervalMs = 50): Promise<void> {
    const command = this.#command([
      ...["sync-status", this.poolName, "--watch", "--json", "--interval", `${intervalMs}ms`],
      ...this.#nodeArguments(),
    ]);
    const child = new Deno.Command(command.path, {
      args: command.args,
      env: this.#environment(),
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
    try {
      let rest = "";
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        const atMs = performance.now();
        for (const line of lines) onLook({ atMs, legs: JSON.parse(line).legs });
      }
      const { code } = await child.status;
      if (code !== 0) throw new Error(`The legs were not in sync after ${limitMs} ms (sync-status ended with ${code})`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until every leg is in sync. Returns the milliseconds it took. */
  async waitInSync(limitMs = 120_000): Promise<number> {
    const start = performance.now();
    let last: LegReport[] = [];
    try {
      await waitFor("all legs to be in sync", limitMs, async () => {
        last = await this.legs();
        return last.length === this.addresses.length && last.every((leg) => leg.state === "in-sync");
      });
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}; legs: ${JSON.stringify(last)}`);
    }
    return performance.now() - start;
  }

  /** Waits until leg `index` is no longer in sync. */
  async waitDropped(index: number, limitMs = 30_000): Promise<void> {
    await waitFor(`leg ${index} to be dropped`, limitMs, async () => (await this.legs())[index].state !== "in-sync");
  }

  /** What every process printed so far, for a failure's message. */
  logs(): string {
    return [...this.#past, ...this.#nodes, this.#client].filter((server) => server !== null)
      .map((server) => server.log).join("\n");
  }

  /** Ends everything and removes the directory. */
  async close(): Promise<void> {
    for (const server of [this.#client, ...this.#nodes]) await server?.stop("SIGKILL");
    this.#ports.release();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** Runs `body` on a fresh cluster, and closes it. A failure comes with what the processes printed. */
export async function withCluster(options: ClusterOptions, body: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.start(options);
  try {
    await body(cluster);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.stack : error}\n${cluster.logs().slice(-8000)}`);
  } finally {
    await cluster.close();
  }
}

/** Runs a command to its end. One that has not ended after `limitMs` is killed and its exit code is 137. */
export async function runCommand(
  path: string,
  args: readonly string[],
  env: Record<string, string> = {},
  limitMs = COMMAND_LIMIT_MS,
): Promise<CommandResult> {
  const child = new Deno.Command(path, {
    args: [...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  const output = await child.output().finally(() => clearTimeout(timer));
  const decoder = new TextDecoder();
  return { code: output.code, stdout: decoder.decode(output.stdout), stderr: decoder.decode(output.stderr) };
}

/** Runs a command that must succeed; returns its stdout. */
export async function expectCommand(path: string, args: readonly string[]): Promise<string> {
  const result = await runCommand(path, args);
  if (result.code !== 0) {
    throw new Error(`${path} ${args.join(" ")} ended with ${result.code}: ${result.stderr}${result.stdout}`);
  }
  return result.stdout;
}
