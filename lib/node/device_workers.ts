/**
 * The main isolate's end of work on devices that are not served: each piece of it runs in a worker of its own, which ends with it. Work on one
 * path is done in the order in which it was asked for; a path that is being probed is taken until that is over.
 *
 * A worker stops cooperatively, between two calls of the system. One that a device holds longer than that is left to the end of the process.
 *
 * @module
 */

import { ControlError, type LegProbe } from "../control/control_api.ts";
import type { FormatLegOptions } from "../store/leg_device.ts";
import type { DeviceStart, ErasedLeg, WorkerReport } from "./worker_messages.ts";

/** Workers at a time; each takes the memory of an isolate, and anyone who reaches the node can ask for one. */
const MOST_WORKERS = 4;
/** How long `stop` waits for devices to answer. */
const STOP_LIMIT_MS = 5_000;

/** Work on devices that are not served. All of it rejects with a {@link ControlError}; "refused" once `stop` was called. */
export interface DeviceWork {
  /** What is at `path`; only its known marks if so wanted, which takes no time. */
  probe(path: string, signaturesOnly: boolean): Promise<LegProbe>;
  /** Whether the leg at `path` can be opened: rejects with what is wrong. May take for ever. */
  look(path: string): Promise<void>;
  /** Makes a leg. `createdFile`: nothing was there before. */
  format(options: FormatLegOptions): Promise<{ readonly createdFile: boolean }>;
  /** Unmakes a leg. "foreign-data" when that leg is not there, or not any more. */
  erase(leg: ErasedLeg): Promise<void>;
  /** Ends what is under way and refuses what comes. Resolves when no worker is at a device any more, or does not let go of it. */
  stop(): Promise<void>;
}

/** Runs each piece in a worker of the program's own module. */
export class DeviceWorkers implements DeviceWork {
  readonly #workerUrl: string | URL;
  readonly #stopWord = new SharedArrayBuffer(4);
  /** By path: the last piece of work that was asked for. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #running = new Set<Promise<unknown>>();
  /** Called in order when a worker has ended. */
  readonly #waiting: (() => void)[] = [];
  #isStopping = false;

  readonly #stopLimitMs: number;
  /** Ends the waiting for what is under way. */
  readonly #abandon = new AbortController();

  /** @param workerUrl the module that calls `runWorker()` when it runs in a worker */
  constructor(workerUrl: string | URL, stopLimitMs = STOP_LIMIT_MS) {
    this.#workerUrl = workerUrl;
    this.#stopLimitMs = stopLimitMs;
  }

  probe(path: string, signaturesOnly: boolean): Promise<LegProbe> {
    return this.#inTurn("probe", { path, signaturesOnly }) as Promise<LegProbe>;
  }

  async look(path: string): Promise<void> {
    await this.#inTurn("look", { path });
  }

  format(options: FormatLegOptions): Promise<{ readonly createdFile: boolean }> {
    return this.#inTurn("format", options) as Promise<{ createdFile: boolean }>;
  }

  async erase(leg: ErasedLeg): Promise<void> {
    await this.#inTurn("erase", leg);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    Atomics.store(new Int32Array(this.#stopWord), 0, 1);
    for (const go of this.#waiting.splice(0)) go();
    const timer = setTimeout(() => this.#abandon.abort(), this.#stopLimitMs);
    await Promise.allSettled(this.#running);
    clearTimeout(timer);
  }

  #inTurn(op: DeviceStart["op"], request: DeviceStart["request"]): Promise<unknown> {
    const before = this.#turns.get(request.path) ?? Promise.resolve();
    const done = before.then(() => this.#withWorker(op, request));
    const settled = done.catch(() => undefined).finally(() => { // the caller has the error; the next in turn goes on all the same
      if (this.#turns.get(request.path) === settled) this.#turns.delete(request.path);
    });
    this.#turns.set(request.path, settled);
    return done;
  }

  async #withWorker(op: DeviceStart["op"], request: DeviceStart["request"]): Promise<unknown> {
    while (this.#running.size >= MOST_WORKERS && !this.#isStopping) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#isStopping) throw new ControlError("refused", "The node is stopping");
    const start = { role: "device", op, request, stopWord: this.#stopWord } as DeviceStart;
    const work = runInWorker(this.#workerUrl, start, this.#abandon.signal);
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
      this.#waiting.shift()?.();
    }
  }
}

async function runInWorker(workerUrl: string | URL, start: DeviceStart, abandon: AbortSignal): Promise<unknown> {
  const worker = new Worker(workerUrl, { type: "module", name: "brmr-device" });
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const onAbort = () =>
    reject(new ControlError("refused", `The node is stopping, and "${start.request.path}" does not answer`));
  abandon.addEventListener("abort", onAbort);
  worker.onmessage = ({ data: report }: MessageEvent<WorkerReport>) => {
    // A worker loses what comes before it has a listener, so it is told when it says it has.
    if (report.kind === "loaded") worker.postMessage(start);
    else if (report.kind !== "response") return;
    else if (report.error === undefined) resolve(report.result);
    else reject(new ControlError(report.error.code, report.error.message));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new ControlError("internal", `The worker for "${start.request.path}" failed: ${event.message}`));
  };
  try {
    return await promise;
  } finally {
    abandon.removeEventListener("abort", onAbort);
    worker.terminate();
  }
}
