/**
 * The life of a client's data plane besides its I/O: from assembling the legs to being ready, and from a wish to stop to
 * being detached. Looked at once a turn.
 *
 * @module
 */

import { ControlError, type ControlErrorCode } from "../control/control_api.ts";
import { DeviceUnavailable } from "../frontend/device_unavailable.ts";
import type { Frontend } from "../frontend/frontend.ts";
import { ListenFailed } from "../io/listen_socket.ts";
import type { Reactor } from "../io/reactor.ts";
import { AddressError } from "../io/socket_address.ts";
import type { ClientWorker } from "./client_worker.ts";
import { plainError } from "./storage_operations.ts";
import { type ClientWorkerStatus, UNCLEAN_DETACH, type WorkerReport, type WorkerRequest } from "./worker_messages.ts";

/**
 * How long a detach may wait for requests and legs, at least, before the client goes without a goodbye; the legs then clean up. No less
 * than I/O may wait for legs.
 */
const DETACH_LIMIT_MS = 15_000;
/** How long applications that are still connected have to leave after a wish to stop. */
const FRONTEND_LIMIT_MS = 5_000;
/** How long the kernel has to take a device away once nothing is left that it could wait for. */
const DEVICE_LIMIT_MS = 5_000;

const Phase = {
  ASSEMBLING: 0,
  OPENING: 1,
  SERVING: 2,
  CLOSING_FRONTENDS: 3,
  DETACHING: 4,
  ENDING_DEVICES: 5,
  OVER: 6,
} as const;

/** See the module's description. */
export class ClientLife {
  readonly #worker: ClientWorker;
  readonly #reactor: Reactor;
  readonly #openFrontends: () => Frontend[];
  readonly #report: (report: WorkerReport) => void;
  #phase: number = Phase.ASSEMBLING;
  /** The pool was ready once. */
  #hasServed = false;
  /** The claim under which it is known to be served. */
  #toldGeneration = 0;
  #limitMs = Infinity;
  readonly #detachLimitMs: number;

  /**
   * @param openFrontends called once, when the pool is ready to be served
   * @param ioTimeoutMs how long I/O waits for legs before it fails
   */
  constructor(
    worker: ClientWorker,
    reactor: Reactor,
    openFrontends: () => Frontend[],
    report: (report: WorkerReport) => void,
    ioTimeoutMs: number,
  ) {
    this.#detachLimitMs = Math.max(DETACH_LIMIT_MS, ioTimeoutMs);
    this.#worker = worker;
    this.#reactor = reactor;
    this.#openFrontends = openFrontends;
    this.#report = report;
    worker.onChangeDone = (id, problem) => {
      if (problem === "") report({ kind: "response", id, result: {} });
      else report({ kind: "response", id, error: { code: "refused", message: problem } });
    };
  }

  /** Looks whether what is to be offered can be, by `check`, before the pool is claimed. If not, that is told, and all is over. */
  mayStart(check: () => void): boolean {
    try {
      check();
      return true;
    } catch (error) {
      this.#report({ kind: "refused", error: refusalOf(error) });
      this.#end();
      return false;
    }
  }

  get isOver(): boolean {
    return this.#phase === Phase.OVER;
  }

  /** When `afterTurn` wants to be called at the latest. */
  get deadlineMs(): number {
    // Whoever is through with the pool has no deadline of its own, and perhaps nothing under way that could end a turn.
    const { state } = this.#worker.core;
    if (this.#phase <= Phase.SERVING && state === "refused") return 0;
    if (this.#phase === Phase.DETACHING && state === "detached") return 0;
    let deadlineMs = this.#limitMs;
    for (const frontend of this.#worker.frontends) deadlineMs = Math.min(deadlineMs, frontend.deadlineMs ?? Infinity);
    return deadlineMs;
  }

  /** Begins to end. */
  stop(): void {
    if (this.#phase >= Phase.CLOSING_FRONTENDS) return;
    if (this.#phase === Phase.ASSEMBLING) {
      this.#detach();
      return;
    }
    this.#phase = Phase.CLOSING_FRONTENDS;
    this.#limitMs = this.#reactor.nowMs + FRONTEND_LIMIT_MS;
    for (const frontend of this.#worker.frontends) frontend.stop();
  }

  handle({ id, op, request }: WorkerRequest): void {
    try {
      switch (op) {
        case "status":
          this.#report({ kind: "response", id, result: this.#status() });
          return;
        case "client.changeLegs":
          // Answered when it is over: see the constructor.
          this.#worker.core.changeLegs(request, id);
          this.#worker.drain();
          return;
        case "client.verify": {
          const problem = this.#worker.verifyWatch.start(this.#worker.core, request);
          this.#worker.drain();
          if (problem !== "") throw new ControlError("refused", problem);
          this.#report({ kind: "response", id, result: {} });
          return;
        }
        case "client.verifyStop":
          this.#worker.core.stopVerify();
          this.#worker.drain();
          this.#report({ kind: "response", id, result: {} });
          return;
        default:
          throw new ControlError("internal", `The data plane has no operation "${op}"`);
      }
    } catch (error) {
      this.#report({ kind: "response", id, error: plainError(error) });
    }
  }

  /** Moves on when it is time to. */
  afterTurn(): void {
    switch (this.#phase) {
      case Phase.ASSEMBLING:
        this.#checkAssembled();
        return;
      case Phase.OPENING:
        if (this.#worker.core.state === "refused") this.#refused();
        else this.#checkOpened();
        return;
      case Phase.SERVING:
        if (this.#worker.core.state === "refused") this.#refused();
        else this.#checkServed();
        return;
      case Phase.CLOSING_FRONTENDS:
        if (this.#connectionCount === 0 || this.#reactor.nowMs >= this.#limitMs) this.#detach();
        return;
      case Phase.DETACHING:
        if (this.#worker.core.state !== "detached" && this.#reactor.nowMs < this.#limitMs) return;
        this.#tellUnclean();
        this.#endDevices();
        return;
      case Phase.ENDING_DEVICES:
        if (!this.#isDeviceEnding || this.#reactor.nowMs >= this.#limitMs) this.#end();
        return;
    }
  }

  #checkAssembled(): void {
    const { state } = this.#worker.core;
    if (state === "refused") {
      this.#refused();
    } else if (state === "ready") {
      this.#serve();
    }
  }

  #serve(): void {
    this.#hasServed = true;
    try {
      this.#worker.frontends.push(...this.#openFrontends());
    } catch (error) {
      // A place that cannot be listened on is an operator's mistake: the pool is let go again in an orderly way.
      this.#report({ kind: "refused", error: refusalOf(error) });
      this.#detach();
      return;
    }
    if (this.#worker.frontends.some(({ isTakenOver }) => isTakenOver === true)) this.#worker.core.tookOver();
    this.#phase = Phase.OPENING;
    this.#checkOpened();
  }

  /** A block device is ready when the kernel has looked at it, which takes reads that are served meanwhile. */
  #checkOpened(): void {
    const { frontends } = this.#worker;
    const failure = frontends.find((frontend) => frontend.failure != null)?.failure;
    if (failure != null) {
      // What else was opened has to be closed, and a device that did not start is yet to be removed.
      this.#report({ kind: "refused", error: { code: "device", message: failure } });
      this.stop();
    } else if (frontends.every((frontend) => frontend.isReady !== false)) {
      this.#phase = Phase.SERVING;
      this.#toldGeneration = this.#worker.core.generation;
      const uris = frontends.map((frontend) => frontend.uri);
      this.#report({ kind: "ready", uris, generation: this.#toldGeneration });
    }
  }

  /** Without its device an attach is of no use to anybody. */
  #checkServed(): void {
    const { frontends, core } = this.#worker;
    if (core.generation !== this.#toldGeneration && core.state === "ready") {
      this.#toldGeneration = core.generation;
      this.#report({ kind: "claimed-anew", generation: core.generation });
    }
    for (let i = 0; i < frontends.length; i++) {
      const { failure } = frontends[i];
      if (failure == null) continue;
      this.#report({ kind: "refused", error: { code: "device", message: failure } });
      this.stop();
      return;
    }
  }

  #refused(): void {
    const { refusal } = this.#worker.core;
    this.#report({ kind: "refused", error: { code: "refused", message: refusal } });
    this.#end();
  }

  #detach(): void {
    this.#phase = Phase.DETACHING;
    this.#limitMs = this.#reactor.nowMs + this.#detachLimitMs;
    this.#worker.detach();
  }

  /** What the core has not told of itself: that legs have not let go of the pool, or could not be asked to. */
  #tellUnclean(): void {
    const { core, geometry } = this.#worker;
    // Who only reads leaves nothing to compare, and who never served the pool has changed nothing.
    if (geometry.readOnly || this.#phase !== Phase.DETACHING || !this.#hasServed) return;
    let message = "";
    if (core.state !== "detached") {
      message = `The legs have not let go of it within ${this.#detachLimitMs / 1000} s`;
    } else if (core.snapshot().watermark === 0) {
      // There is one as long as the pool is served.
      message = "The pool was waiting for legs: requests under way have failed";
    }
    if (message === "") return;
    const event = {
      level: "error",
      name: UNCLEAN_DETACH,
      message: `${message}; the legs are compared at the next attach`,
    } as const;
    this.#report({ kind: "event", pool: geometry.name, event });
  }

  /**
   * The pool is let go of, and I/O that it has not done fails. A device that the kernel takes away meanwhile is gone only when that is answered:
   * one whose process went before is dead, and in the way of the next attach.
   */
  #endDevices(): void {
    for (const frontend of this.#worker.frontends) frontend.failAll?.();
    this.#phase = Phase.ENDING_DEVICES;
    this.#limitMs = this.#reactor.nowMs + DEVICE_LIMIT_MS;
    if (!this.#isDeviceEnding) this.#end();
  }

  get #isDeviceEnding(): boolean {
    return this.#worker.frontends.some((frontend) => frontend.isEnding === true);
  }

  #end(): void {
    this.#phase = Phase.OVER;
  }

  get #connectionCount(): number {
    let count = 0;
    for (const frontend of this.#worker.frontends) count += frontend.connectionCount;
    return count;
  }

  #status(): ClientWorkerStatus {
    return {
      uris: this.#worker.frontends.map((frontend) => frontend.uri),
      connections: this.#connectionCount,
      paths: this.#worker.paths(),
      snapshot: this.#worker.core.snapshot(),
    };
  }
}

/** What is told of a place that cannot be had. Throws `error` again if it is another. */
function refusalOf(error: unknown): { code: ControlErrorCode; message: string } {
  if (error instanceof DeviceUnavailable) return { code: "device", message: error.message };
  if (error instanceof AddressError) return { code: "bad-request", message: error.message };
  if (error instanceof ListenFailed) return { code: "in-use", message: error.message };
  throw error;
}
