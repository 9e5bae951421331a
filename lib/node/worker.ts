/**
 * The workers of a node. Its data plane: sets up ring, memory and transport, then runs one synchronous loop until it is told to
 * stop. It never returns to its event loop in between and never awaits. And one for each piece of work on a device that is not served.
 *
 * The module that is the program's entry is the worker's entry too, so that a bundle is one file:
 *
 * ```ts
 * if (isDataPlaneWorker()) runWorker();
 * else await main();
 * ```
 *
 * @module
 */

import { nameThread } from "../../ffi/libc/process.ts";
import { ClientPool } from "../core/client_pool.ts";
import { ReaderPool } from "../core/reader_pool.ts";
import type { CoreEvent } from "../core/output.ts";
import { MailboxReceiver } from "../io/mailbox.ts";
import { SlabBufferPool } from "../io/slab_buffer_pool.ts";
import { Turns } from "../io/turns.ts";
import { UringReactor } from "../io/uring_reactor.ts";
import { RdmaUnavailable } from "../../ffi/verbs/library.ts";
import { UringUnavailable } from "../../ffi/uring/ring.ts";
import { BorrowingPool } from "../transport/payload_sharing.ts";
import { checkFrontends, openFrontends } from "./client_frontends.ts";
import { BetterPaths } from "./better_paths.ts";
import { ClientLife } from "./client_life.ts";
import { ClientWorker } from "./client_worker.ts";
import { doDeviceWork } from "./device_work.ts";
import { makeTransport, openRdma } from "./node_transport.ts";
import { StorageOperations } from "./storage_operations.ts";
import { StorageWorker } from "./storage_worker.ts";
import type { ClientStart, MailboxMessage, StorageStart, WorkerReport, WorkerStart } from "./worker_messages.ts";

/** Submissions that fit one turn; more are submitted at once, which is only slower. */
const RING_ENTRIES = 2048;

/** Whether this isolate is a worker, and not the program's main one. */
export function isDataPlaneWorker(): boolean {
  return typeof (globalThis as { WorkerGlobalScope?: unknown }).WorkerGlobalScope === "function";
}

/** The worker's side of a node: waits for the start message, then is the data plane until it is told to stop, or does one piece of work. */
export function runWorker(): void {
  self.onmessage = (event: MessageEvent<WorkerStart>) => {
    self.onmessage = null;
    if (event.data.role === "device") {
      nameThread("brmr-device");
      report(doDeviceWork(event.data));
      return;
    }
    try {
      if (event.data.role === "storage") runStorage(event.data);
      else runClient(event.data);
      report({ kind: "stopped" });
    } catch (error) {
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      const isForPeople = error instanceof UringUnavailable || error instanceof RdmaUnavailable;
      report({
        kind: "fatal",
        message,
        stack: stack ?? "",
        error: isForPeople ? { code: "device", message } : undefined,
      });
    }
  };
  report({ kind: "loaded" });
}

/** Reaches the main isolate at once, although this one never returns to its event loop. */
function report(message: WorkerReport): void {
  (self as unknown as { postMessage(message: unknown): void }).postMessage(message);
}

/** What the transport has to say, such as why it has closed a connection. */
function reportTransport(event: CoreEvent): void {
  report({ kind: "event", pool: "", event });
}

function runStorage(start: StorageStart): void {
  nameThread("brmr-storage");
  const pool = new SlabBufferPool({ totalBytes: start.memoryBytes });
  const reactor = UringReactor.create({ entries: RING_ENTRIES, pool });
  const borrow = new BorrowingPool(pool);
  const policy = start.usesRdma ? "auto" : "tcp";
  const rdma = openRdma({ reactor, pool, policy, mustHaveRdma: start.usesRdma, report: reportTransport });
  const worker = new StorageWorker(reactor, borrow, start.nodeUuid, report);
  worker.transport = makeTransport({
    reactor,
    pool,
    handler: worker,
    policy,
    rdma,
    landingShare: 1 / 2,
    borrow,
    lendsMemory: false,
    payloadCrc: start.payloadCrc,
    maxConnections: 512,
    report: reportTransport,
  });
  const operations = new StorageOperations(worker, reactor, {
    nodeName: start.nodeName,
    addresses: [...start.addresses],
    hasAllAddresses: start.hasAllAddresses,
    reach: { tcp: true, rdma: rdma !== null },
  }, report);
  new MailboxReceiver(start.mailbox, reactor, (value) => {
    const message = value as MailboxMessage;
    if (message.kind === "request") operations.handle(message);
    else if (message.kind === "control-reply") worker.sendControlReply(message);
    else operations.stop();
  });
  worker.afterTurn();
  const turns = new Turns(reactor, worker, start.busyPoll, navigator.hardwareConcurrency);
  while (!operations.isStopped) {
    turns.turn(Math.min(worker.deadlineMs, operations.deadlineMs));
    worker.afterTurn();
    operations.afterTurn();
  }
}

function runClient(start: ClientStart): void {
  nameThread("brmr-client");
  const pool = new SlabBufferPool({ totalBytes: start.memoryBytes, shareable: start.transport === "auto" });
  const reactor = UringReactor.create({ entries: RING_ENTRIES, pool });
  const policy = start.transport;
  const rdma = openRdma({ reactor, pool, policy, mustHaveRdma: policy === "rdma", report: reportTransport });
  const options = {
    poolUuid: start.poolUuid,
    poolName: start.poolName,
    sizeBytes: start.sizeBytes,
    logicalBlockBytes: start.logicalBlockBytes,
    extentBytes: start.extentBytes,
    hotExtentCount: start.hotExtentCount,
    chunkBytes: start.chunkBytes,
    clientUuid: start.clientUuid,
    clientName: start.clientName,
    legs: start.legs,
    reach: { tcp: policy !== "rdma", rdma: rdma !== null },
    connectLimitMs: start.heartbeatMs,
    nowMs: reactor.nowMs,
    wallMs: Date.now(),
    nextRandom: Math.random,
    maxWriteBytes: Math.floor(pool.totalBytes / 2),
    heartbeatLimitMs: start.heartbeatMs,
    ioTimeoutMs: start.ioTimeoutMs === 0 ? undefined : start.ioTimeoutMs,
    assembleTimeoutMs: start.startTimeoutMs === 0 ? undefined : start.startTimeoutMs,
  };
  const core = start.readOnly ? new ReaderPool(options) : new ClientPool(options);
  const worker = new ClientWorker(reactor, pool, core, {
    name: start.poolName,
    sizeBytes: start.sizeBytes,
    logicalBlockBytes: start.logicalBlockBytes,
    readOnly: start.readOnly,
    maxPayloadBytes: core.maxPayloadBytes,
    maxRangeBytes: core.maxRangeBytes,
  }, report);
  worker.transport = makeTransport({
    reactor,
    pool,
    handler: worker,
    policy,
    rdma,
    landingShare: 1 / 4,
    borrow: null,
    lendsMemory: start.transport === "auto",
    payloadCrc: start.payloadCrc,
    report: reportTransport,
  });
  // A reader has no writes that would wait, and no session to take along: it has the path that it found.
  const betterPaths = rdma === null || policy !== "auto" || start.readOnly
    ? null
    : new BetterPaths(worker, reactor, start.heartbeatMs, (event) =>
      report({ kind: "event", pool: start.poolName, event }));
  const ioTimeoutMs = start.ioTimeoutMs === 0 ? start.poolIoTimeoutMs : start.ioTimeoutMs;
  const open = () => openFrontends(start, worker, reactor, pool, report);
  const life = new ClientLife(worker, reactor, open, report, ioTimeoutMs);
  new MailboxReceiver(start.mailbox, reactor, (value) => {
    const message = value as MailboxMessage;
    if (message.kind === "request") life.handle(message);
    else if (message.kind === "stop") life.stop();
  });
  if (life.mayStart(() => checkFrontends(start, reactor))) worker.start(start.takeover, start.force);
  worker.afterTurn();
  const turns = new Turns(reactor, worker, start.busyPoll, navigator.hardwareConcurrency);
  while (!life.isOver) {
    turns.turn(Math.min(worker.deadlineMs, life.deadlineMs, betterPaths?.deadlineMs ?? Infinity));
    life.afterTurn();
    betterPaths?.afterTurn();
    worker.afterTurn();
  }
}
