/**
 * A client node: the main isolate of `brmr attach`. It finds the pool, starts the data plane, answers operators, and never
 * touches data itself.
 *
 * @module
 */

import { unlessAborted } from "../base/unless_aborted.ts";
import { ControlError } from "../control/control_api.ts";
import { connectNode } from "../control/node_control_client.ts";
import { NodeConnections } from "../control/node_connections.ts";
import { findPool, type FoundPool, noLegText } from "../control/pool_lookup.ts";
import type { BusyPollPolicy } from "../io/turns.ts";
import type { PayloadCrcPolicy } from "../transport/payload_crc.ts";
import type { TransportPolicy } from "../transport/transport_choice.ts";
import { clientSocketPath, makeRuntimeDir } from "../control/runtime_dir.ts";
import type { CoreEvent } from "../core/output.ts";
import { AttachAnnouncement } from "./attach_announcement.ts";
import { ClientControlServer } from "./client_control_server.ts";
import { CLIENT_REQUESTS, isClientRequest, parseClientRequest } from "./client_requests.ts";
import { hostName } from "./host_name.ts";
import type { NodeHandle } from "./node_handle.ts";
import type { DeviceChoice } from "../frontend/device_choice.ts";
import { WorkerPort } from "./worker_port.ts";
import { type ClientWorkerStatus, UNCLEAN_DETACH, type WorkerReport } from "./worker_messages.ts";

export type { BusyPollPolicy, PayloadCrcPolicy, TransportPolicy };

/** Memory for payloads unless told otherwise. */
export const DEFAULT_CLIENT_MEMORY_BYTES = 64 << 20;
/** With one, a take-over is quick and I/O may wait for legs as long as it is told to: see `nbd_device.ts`. */
export const DEFAULT_NBD_SOCKETS = 1;
/** Silence of a leg for this long counts as its loss. */
export const DEFAULT_HEARTBEAT_MS = 3_000;
/** How long to wait for a storage node while the pool is looked up. */
const LOOKUP_LIMIT_MS = 3_000;
/** How long to rest before nodes that did not answer are asked again. */
const LOOKUP_PAUSE_MS = 500;

/** What a client node is told at its start. */
export interface ClientNodeOptions {
  /** Name or UUID. */
  readonly pool: string;
  /** Addresses of storage nodes; any one reachable node of the pool is enough. */
  readonly nodes: readonly string[];
  /** Where to offer NBD: paths of unix sockets, or "tcp://127.0.0.1:10809". */
  readonly nbd: readonly string[];
  /** Makes the pool a block device; "auto" falls back on the first place of `nbd`. */
  readonly device?: DeviceChoice;
  /** Sockets between the kernel and this process, should the device be /dev/nbdN; 1 by default. */
  readonly nbdSocketCount?: number;
  /** For people; host name and process by default. */
  readonly clientName?: string;
  readonly workerUrl: string | URL;
  /** A leg that is silent for so long is lost, in ms: 3000 by default, from 300 to 10,000. */
  readonly heartbeatMs?: number;
  /** How to reach legs: "auto" (by default) takes RDMA where both ends have it. */
  readonly transport?: TransportPolicy;
  /** Where payloads that it sends are summed; "auto" by default. */
  readonly payloadCrc?: PayloadCrcPolicy;
  /** Whether the data plane looks before it sleeps; "auto" by default, which is where that pays. */
  readonly busyPoll?: BusyPollPolicy;
  /** How long I/O waits for legs before it fails; the pool's own by default. */
  readonly ioTimeoutMs?: number;
  /**
   * How long to wait for a node that answers, and then for a leg that the pool may not start without. By default nodes are
   * asked once, and legs are waited for as long as the core does by itself.
   */
  readonly startTimeoutMs?: number;
  /** Bytes of payload buffers; 64 MiB by default. */
  readonly memoryBytes?: number;
  /** Only reads, and claims nothing: there may be any number of such clients, beside one that writes or without one. */
  readonly readOnly?: boolean;
  /** Takes the pool from another client that holds it. */
  readonly takeover?: boolean;
  /** Starts from what is reachable when the start rule refuses, giving up what is on the legs of `without` (leg indices). */
  readonly force?: { readonly without: readonly number[] };
  /** Directory of the control socket. */
  readonly runtimeDir: string;
  /** Ends a start that is under way: what it has begun is taken back, and then it rejects with the signal's reason. */
  readonly stopping?: AbortSignal;
  /** The pool is served; the first of `uris` belongs to the first of `nbd`. */
  readonly onReady?: (uris: readonly string[]) => void;
  /** Things an operator wants to know. */
  readonly onEvent?: (pool: string, event: CoreEvent) => void;
}

/**
 * Attaches a pool. Resolves when it is served.
 * @throws {ControlError} "not-found", "unreachable" (lookup), "in-use" (held by another client, or attached here already),
 *   "refused" (the pool may not start from the legs that are reachable; the message names what is missed)
 */
export async function runClientNode(options: ClientNodeOptions): Promise<NodeHandle> {
  if (options.nbd.length === 0 && (options.device === undefined || options.device.kind === "auto")) {
    throw new ControlError("bad-request", "Say where to offer the pool, e.g. --nbd /run/vol1.sock");
  }
  if (options.readOnly && (options.takeover || options.force !== undefined)) {
    throw new ControlError(
      "bad-request",
      "A read-only attach takes nothing over and starts nothing. Leave --takeover and --force away.",
    );
  }
  const stopping = options.stopping ?? new AbortController().signal;
  const pool = await lookUp(options.pool, options.nodes, options.startTimeoutMs ?? 0, stopping, (problem) => {
    const message = `${problem}. Asking again for up to ${Math.ceil((options.startTimeoutMs ?? 0) / 1000)} s`;
    options.onEvent?.(options.pool, { level: "warning", name: "waiting-for-nodes", message });
  });
  const shape = pool.legs.map((leg) => leg.status?.snapshot).find((snapshot) => snapshot !== undefined)!;
  makeRuntimeDir(options.runtimeDir);

  let port: WorkerPort | null = null;
  const announcement = new AttachAnnouncement(options.runtimeDir, pool, (message) => {
    onEvent(pool.poolName, { level: "warning", name: "device", message });
  });
  /** The pool is let go of, and so is its place on this machine. */
  let released: Promise<void> = Promise.resolve();
  let finished: Promise<void> = Promise.resolve();
  /** Why the pool is no longer ours: another client took it over, or it was never to be had. */
  let failure: ControlError | null = null;
  /** Why the legs have to be compared at the next attach although this client has detached. */
  let uncleanEnd = "";
  const onEvent = options.onEvent ?? (() => undefined);

  async function answer(op: string, request: unknown): Promise<unknown> {
    if (port === null) throw new ControlError("refused", "The client is starting. Try again in a moment");
    switch (op) {
      case "client.status": {
        const status: ClientWorkerStatus = await port.request("status");
        return {
          uri: announcement.uris[0] ?? "",
          uris: announcement.uris,
          device: announcement.device,
          uses: announcement.uses,
          pid: Deno.pid,
          connections: status.connections,
          paths: status.paths,
          residentBytes: Deno.memoryUsage().rss,
          snapshot: status.snapshot,
        };
      }
      case "client.detach":
        checkUnused(announcement, request);
        port.stop();
        await released; // whoever is told that we are gone may attach the pool at once
        return uncleanEnd === "" ? {} : { unclean: uncleanEnd };
      default:
        if (isClientRequest(op)) return await port.request(op, parseClientRequest(op, request));
        throw new ControlError(
          "bad-request",
          `This client has no operation "${op}". It has client.status, client.detach, ${CLIENT_REQUESTS.join(", ")}`,
        );
    }
  }

  // The socket comes first: it keeps a second client of this pool on this machine from disturbing the first.
  const control = await ClientControlServer.listen(clientSocketPath(options.runtimeDir, pool.poolName), answer);
  const stop = () => port?.stop();
  stopping.addEventListener("abort", stop);
  try {
    stopping.throwIfAborted();
    announcement.checkLeft(options.device);
    const outcome = Promise.withResolvers<void>();
    const onReport = (report: WorkerReport) => {
      switch (report.kind) {
        case "ready":
          announcement.announce(report.uris, report.generation);
          outcome.resolve();
          return;
        case "claimed-anew":
          announcement.claimedAnew(report.generation);
          return;
        case "refused":
          failure = new ControlError(report.error.code, report.error.message);
          outcome.reject(failure);
          return;
        case "event":
          if (report.event.name === UNCLEAN_DETACH) uncleanEnd = report.event.message;
          onEvent(pool.poolName, report.event);
          return;
      }
    };
    checkGivenUp(options.force?.without ?? [], pool);
    port = new WorkerPort(options.workerUrl, {
      role: "client",
      memoryBytes: options.memoryBytes ?? DEFAULT_CLIENT_MEMORY_BYTES,
      poolUuid: pool.poolUuid,
      poolName: pool.poolName,
      clientUuid: crypto.randomUUID(),
      clientName: options.clientName ?? `${hostName()}:${Deno.pid}`,
      sizeBytes: pool.sizeBytes,
      extentBytes: shape.extentBytes,
      hotExtentCount: shape.hotExtentLimit,
      chunkBytes: pool.chunkBytes,
      logicalBlockBytes: pool.logicalBlockBytes,
      legs: pool.legs.map(({ legIndex, address, status }) => {
        return { legIndex, address, told: status?.snapshot.addresses };
      }),
      readOnly: options.readOnly ?? false,
      takeover: options.takeover ?? false,
      transport: options.transport ?? "auto",
      payloadCrc: options.payloadCrc ?? "auto",
      busyPoll: options.busyPoll ?? "auto",
      force: options.force && {
        historyId: crypto.randomUUID(),
        withoutMask: options.force.without.reduce((mask, legIndex) => mask | (1 << legIndex), 0),
      },
      heartbeatMs: options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS,
      startTimeoutMs: options.startTimeoutMs ?? 0,
      ioTimeoutMs: options.ioTimeoutMs ?? 0,
      poolIoTimeoutMs: pool.record.ioTimeoutMs,
      nbd: options.nbd,
      device: options.device ?? null,
      leftGeneration: announcement.leftGeneration,
      nbdSocketCount: options.nbdSocketCount ?? DEFAULT_NBD_SOCKETS,
    }, onReport);
    released = port.finished.finally(() => announcement.withdraw()).finally(() => control.leave());
    finished = released.finally(() => control.close()).then(() => {
      if (failure !== null) throw failure;
    });
    finished.catch(() => undefined); // told to whoever awaits it
    outcome.promise.catch(() => undefined); // told through the race, or through `finished`
    const ended = port.finished.then(() => {
      if (stopping.aborted) throw stopping.reason;
      throw failure ?? new ControlError("refused", "The client was stopped before the pool was ready");
    });
    ended.catch(() => undefined); // told through the race, or through `finished`
    await Promise.race([outcome.promise, ended]);
  } catch (error) {
    if (port === null) {
      await control.close();
    } else {
      port.stop();
      await finished.catch(() => undefined); // `error` is what is told
    }
    throw error;
  } finally {
    stopping.removeEventListener("abort", stop);
  }
  options.onReady?.(announcement.uris);
  const running = port;
  return {
    finished,
    stop(): Promise<void> {
      running.stop();
      return finished;
    },
  };
}

/** Throws {@link ControlError} "in-use" when somebody would lose the device, unless the operator says so expressly. */
function checkUnused({ device, uses }: AttachAnnouncement, request: unknown): void {
  if (uses.length === 0 || (request as { force?: unknown }).force === true) return;
  throw new ControlError(
    "in-use",
    `${device} is ${uses.join(", ")}. Unmount it, or remove what is on top of it; --force takes it away all the same.`,
  );
}

/**
 * Finds the pool, asking again for `waitMs` while no node that answers knows it and others are silent: `onWait` hears of that
 * once. Throws as `findPool`, and the reason of `stopping`.
 */
async function lookUp(
  pool: string,
  addresses: readonly string[],
  waitMs: number,
  stopping: AbortSignal,
  onWait: (problem: string) => void,
): Promise<FoundPool> {
  const untilMs = performance.now() + waitMs;
  let isWaiting = false;
  for (;;) {
    const nodes = new NodeConnections((address) => connectNode(address, { timeoutMs: LOOKUP_LIMIT_MS }));
    try {
      return await unlessAborted(findPool(pool, addresses, nodes), stopping);
    } catch (error) {
      const isWorthAsking = error instanceof ControlError && error.code === "unreachable";
      if (!isWorthAsking || performance.now() >= untilMs) throw error;
      if (!isWaiting) onWait(error.message.replace(/\.$/, ""));
      isWaiting = true;
    } finally {
      nodes.close();
    }
    await unlessAborted(new Promise((resolve) => setTimeout(resolve, LOOKUP_PAUSE_MS)), stopping);
  }
}

/** A start by force gives up what is on these legs: a slip of the pen must not name others. Legs of another history may be in no table here. */
function checkGivenUp(without: readonly number[], pool: FoundPool): void {
  const known = [...new Set([...pool.legs, ...pool.strays].map((leg) => leg.legIndex))].sort((a, b) => a - b);
  const unknown = without.find((legIndex) => !known.includes(legIndex));
  if (unknown !== undefined) throw new ControlError("not-found", noLegText(pool, unknown, known));
}
