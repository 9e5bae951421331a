/**
 * A storage node: the main isolate of `brmr serve`. Control plane only; it never touches data and never blocks.
 *
 * @module
 */

import { ControlError } from "../control/control_api.ts";
import { formatNodeAddress, isWildcard, parseNodeAddress } from "../control/node_address.ts";
import type { CoreEvent } from "../core/output.ts";
import { MOST_NODE_ADDRESSES } from "../wire/bodies.ts";
import { ControlService } from "./control_service.ts";
import { DeviceWorkers } from "./device_workers.ts";
import { LegRegistry } from "./leg_registry.ts";
import { LegRetries } from "./leg_retries.ts";
import { NodeState } from "./node_state.ts";
import type { NodeHandle } from "./node_handle.ts";
import type { BusyPollPolicy } from "../io/turns.ts";
import type { PayloadCrcPolicy } from "../transport/payload_crc.ts";
import { VERSION } from "./version.ts";
import { onceReleased, RELEASE_LIMIT_MS } from "./once_released.ts";
import { STOP_LIMIT_MS } from "./storage_operations.ts";
import { WorkerPort } from "./worker_port.ts";
import type { WorkerReport } from "./worker_messages.ts";

/** Memory for payloads unless told otherwise: four connections' worth of deep queues. */
export const DEFAULT_STORAGE_MEMORY_BYTES = 64 << 20;

/** How much longer than its legs the data plane may take to end. */
const STOP_GRACE_MS = 5_000;
/** How often a node takes note of what its legs are like, in its state directory; written only when it has changed. */
const REMEMBER_MS = 60_000;

/** What a storage node is told at its start. */
export interface StorageNodeOptions {
  /** Directory of the node's identity and the list of its legs; made when absent. */
  readonly stateDir: string;
  /** Addresses to listen on, "host:port" with a numeric host, "tcp://" optional; "rdma://host:port" for RDMA. */
  readonly listen: readonly string[];
  /** Addresses at which others are to reach it, best first, as for `listen`. By default those of `listen` that are not wildcards. */
  readonly advertise?: readonly string[];
  /** Bytes of payload buffers; 64 MiB by default. */
  readonly memoryBytes?: number;
  /** Where payloads that it sends are summed; "auto" by default. */
  readonly payloadCrc?: PayloadCrcPolicy;
  /** Whether the data plane looks before it sleeps; "auto" by default, which is where that pays. */
  readonly busyPoll?: BusyPollPolicy;
  /** For people. Kept in the state directory. */
  readonly nodeName?: string;
  /** Allows to listen beyond loopback although there is no authentication yet. */
  readonly insecure?: boolean;
  /** The module that calls `runWorker()` when it runs in a worker. */
  readonly workerUrl: string | URL;
  /** Things an operator wants to know; `pool` is a pool's name, or empty. */
  readonly onEvent?: (pool: string, event: CoreEvent) => void;
  /** The node listens and all legs were opened (or found broken). */
  readonly onReady?: (node: { addresses: readonly string[]; nodeName: string; legs: number; broken: number }) => void;
}

/**
 * Starts a storage node.
 * @throws {ControlError} "bad-request", "refused" (address not allowed), "in-use" (state directory, address), "device"
 */
export async function runStorageNode(options: StorageNodeOptions): Promise<NodeHandle> {
  const listen = options.listen.map((text) => listenAddress(text, options.insecure ?? false));
  if (listen.every(isRdma)) {
    throw new ControlError("bad-request", "A storage node needs a TCP address to listen on: operators reach it there");
  }
  const advertise = options.advertise?.map(advertisedAddress);
  const { length } = advertise ?? listen;
  if (length > MOST_NODE_ADDRESSES) {
    throw new ControlError(
      "bad-request",
      `${length} addresses are more than a node can tell others of (${MOST_NODE_ADDRESSES}). Name the best ones with --advertise`,
    );
  }
  const state = await NodeState.open(options.stateDir, options.nodeName);
  const onEvent = options.onEvent ?? (() => undefined);
  let service: ControlService | null = null;

  const onReport = (report: WorkerReport) => {
    switch (report.kind) {
      case "event":
        onEvent(report.pool, report.event);
        return;
      case "control":
        answer(report.key, report.requestId, report.text);
        return;
    }
  };
  const port = new WorkerPort(options.workerUrl, {
    role: "storage",
    memoryBytes: options.memoryBytes ?? DEFAULT_STORAGE_MEMORY_BYTES,
    nodeUuid: state.nodeUuid,
    nodeName: state.nodeName,
    usesRdma: listen.some(isRdma),
    // What is listened on at a port of its own is known once it is.
    addresses: advertise ?? listen.filter((each) => !isWildcard(each) && !each.endsWith(":0")),
    hasAllAddresses: advertise !== undefined,
    payloadCrc: options.payloadCrc ?? "auto",
    busyPoll: options.busyPoll ?? "auto",
  }, onReport);
  const legs = new LegRegistry(state, port, new DeviceWorkers(options.workerUrl));

  async function answer(key: number, requestId: number, text: string): Promise<void> {
    const reply = service === null
      ? { ok: false, error: { code: "refused", message: "The node is starting. Try again in a moment" } }
      : await service.answer(text);
    try {
      await port.post({ kind: "control-reply", key, requestId, reply });
    } catch {
      // Longer than the mailbox takes. Whoever asked is told so.
      const error = { code: "internal", message: "The answer is too long; ask for less at a time" };
      const reply = { ok: false, error };
      await port.post({ kind: "control-reply", key, requestId, reply }).catch((failure) => {
        const message = `An operator gets no answer: ${(failure as Error).message}`;
        onEvent("", { level: "error", name: "reply-lost", message });
      });
    }
  }

  try {
    // Listening comes last: whoever connects finds every leg that can be served.
    const onHeld = (message: string) =>
      onEvent("", { level: "warning", name: "waiting-for-release", message: `Waiting for a while: ${message}` });
    const legCount = await legs.openAll(onHeld);
    // RDMA before TCP: whoever finds us by TCP alone takes it that we have nothing else.
    const rdmaFirst = [...listen].sort((a, b) => Number(isRdma(b)) - Number(isRdma(a)));
    const untilMs = performance.now() + RELEASE_LIMIT_MS;
    const addresses: string[] = [];
    for (const address of rdmaFirst) {
      addresses.push(
        ...await onceReleased(
          () => port.request("listen", { addresses: [address] }),
          untilMs,
          onHeld,
        ),
      );
    }
    service = new ControlService({
      nodeName: state.nodeName,
      version: VERSION,
      address: addresses.find((each) => !isRdma(each))!,
    }, legs);
    await legs.remember();
    for (const broken of legs.broken) {
      onEvent("", { level: "error", name: "leg-broken", message: `${broken.path}: ${broken.message}` });
    }
    options.onReady?.({ addresses, nodeName: state.nodeName, legs: legCount, broken: legs.broken.length });
  } catch (error) {
    port.stop();
    state.close();
    throw error;
  }
  const onHeldErased = (message: string) =>
    onEvent("", { level: "warning", name: "waiting-for-release", message: `Waiting for a while: ${message}` });
  legs.finishErasing(onHeldErased).catch((error) => [(error as Error).message]).then((problems) => {
    for (const problem of problems) {
      const message = `A leg that was deleted before could not be erased: ${problem}`;
      onEvent("", { level: "warning", name: "leg-not-erased", message });
    }
  });
  const remembering = setInterval(() => {
    legs.remember().catch((error) => {
      const message = `What the legs are like cannot be noted in the state directory: ${(error as Error).message}`;
      onEvent("", { level: "warning", name: "state-not-written", message });
    });
  }, REMEMBER_MS);
  const retries = new LegRetries(legs, onEvent);
  const finished = port.finished.finally(async () => {
    clearInterval(remembering);
    retries.stop();
    await legs.stop();
    state.close();
  });
  finished.catch(() => undefined); // told to whoever awaits it
  return {
    finished,
    stop(): Promise<void> {
      clearInterval(remembering);
      retries.stop();
      port.stop();
      const text =
        "The data plane does not answer, perhaps because a disk hangs. Its legs were not flushed: what was not " +
        "flushed is lost if the machine goes down now";
      const abandon = () => port.abandon(new ControlError("device", text));
      const timer = setTimeout(abandon, STOP_LIMIT_MS + STOP_GRACE_MS);
      // It may have ended before, by itself.
      const clear = () => clearTimeout(timer);
      port.finished.then(clear, clear);
      // Told at once and not when the data plane has ended: a change that needs both is refused by the one or the other.
      legs.stop().catch(() => undefined); // `finished` waits for it, and has the error
      return finished;
    },
  };
}

/** The canonical address, if it may be listened on. Port 0 takes a free one. */
function listenAddress(text: string, insecure: boolean): string {
  const scheme = isRdma(text) ? RDMA_SCHEME : "";
  const isAnyPort = /:0$/.test(text);
  const address = parseNodeAddress((isAnyPort ? text.replace(/:0$/, ":1") : text).slice(scheme.length));
  const isLoopback = address.host === "::1" || /^127(\.\d{1,3}){3}$/.test(address.host);
  if (!/^[\d.]+$/.test(address.host) && !address.host.includes(":")) {
    throw new ControlError("bad-request", `"${text}": listen on a numeric address, e.g. 127.0.0.1:7701 or [::1]:7701`);
  }
  if (!isLoopback && !insecure) {
    throw new ControlError(
      "refused",
      `"${text}" can be reached from other machines, and brmr does not authenticate yet: whoever reaches it can read and ` +
        `write every leg. Listen on 127.0.0.1, or pass --insecure if the network is yours alone`,
    );
  }
  return scheme + formatNodeAddress({ host: address.host, port: isAnyPort ? 0 : address.port });
}

/** The canonical address, if others can be told of it. */
function advertisedAddress(text: string): string {
  const scheme = isRdma(text) ? RDMA_SCHEME : "";
  const address = scheme + formatNodeAddress(parseNodeAddress(text.slice(scheme.length)));
  if (isWildcard(address)) {
    throw new ControlError(
      "bad-request",
      `"${text}" stands for every address of this machine. Advertise the ones at which others reach it`,
    );
  }
  return address;
}

const RDMA_SCHEME = "rdma://";

function isRdma(address: string): boolean {
  return address.startsWith(RDMA_SCHEME);
}
