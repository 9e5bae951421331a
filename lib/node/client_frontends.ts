/**
 * Where a client offers its pool: a block device, sockets, or both.
 *
 * @module
 */

import { errnoName } from "../../ffi/libc/errno.ts";
import { becomeIoFlusher } from "../../ffi/libc/process.ts";
import type { DeviceChoice } from "../frontend/device_choice.ts";
import { DeviceUnavailable, LeftDeviceUnavailable } from "../frontend/device_unavailable.ts";
import { type Frontend, type FrontendHost, MAX_REQUEST_BYTES } from "../frontend/frontend.ts";
import { NbdControl } from "../frontend/nbd_control.ts";
import { NbdDevice } from "../frontend/nbd_device.ts";
import { openNbdServer } from "../frontend/nbd_listener.ts";
import { ListenSocket } from "../io/listen_socket.ts";
import { UblkControl } from "../frontend/ublk_control.ts";
import { UblkDevice } from "../frontend/ublk_device.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { UringStreamSocket } from "../io/uring_stream_socket.ts";
import type { ClientWorker } from "./client_worker.ts";
import type { ClientStart, WorkerReport } from "./worker_messages.ts";

/** What frontends are made of. */
interface Means {
  readonly start: ClientStart;
  readonly reactor: UringReactor;
  readonly pool: BufferPool;
  /** How long I/O waits for legs before it fails. */
  readonly ioTimeoutMs: number;
  /** Why a device that was left here may not be taken over; "": it may. */
  readonly leftProblem: string;
  readonly tell: (level: "info" | "warning", message: string) => void;
}

/**
 * Throws what {@link openFrontends} would, as far as can be told before the pool is claimed: nobody is to lose it, or get a new history by
 * force, for a place that cannot be had.
 */
export function checkFrontends({ nbd, device }: ClientStart, reactor: UringReactor): void {
  // The first socket is what "auto" falls back on, perhaps.
  const places = device?.kind === "auto" ? nbd.slice(1) : nbd;
  for (const address of places) ListenSocket.open(address).close();
  if (device?.kind === "ublk") UblkControl.open(reactor.wakeDescriptor).close();
  else if (device?.kind === "nbd") NbdControl.open().close();
}

/**
 * Opens them in the order in which the client tells of them.
 * @throws {DeviceUnavailable} there can be no such device, and no other was allowed
 */
export function openFrontends(
  start: ClientStart,
  worker: ClientWorker,
  reactor: UringReactor,
  pool: BufferPool,
  report: (report: WorkerReport) => void,
): Frontend[] {
  const tell = (level: "info" | "warning", message: string) =>
    report({ kind: "event", pool: start.poolName, event: { level, name: "device", message } });
  const ioTimeoutMs = start.ioTimeoutMs === 0 ? start.poolIoTimeoutMs : start.ioTimeoutMs;
  const leftProblem = leftProblemOf(start, worker.core.servedBefore);
  // Whoever dies or is refused before the device is taken over has claimed the pool all the same, and is no other client to the next attach.
  if (start.leftGeneration !== null && leftProblem === "") {
    report({ kind: "claimed-anew", generation: worker.core.generation });
  }
  const means: Means = { start, reactor, pool, ioTimeoutMs, leftProblem, tell };
  const count = start.nbd.length + (start.device === null ? 0 : 1);
  // Half of the memory is for what applications write and read, the other half for what comes from legs.
  const memoryBytes = Math.max(MAX_REQUEST_BYTES, Math.floor(pool.totalBytes / 2 / count));
  const sockets: Frontend[] = [];
  const openSocket = (address: string, index: number) => {
    const server = openNbdServer({ host: worker.hostFor(index), pool, reactor, address, limits: { memoryBytes } });
    sockets.push(server);
    return server;
  };
  try {
    if (start.device === null) return start.nbd.map(openSocket);
    // The first socket is what "auto" falls back on. The device comes last: one that is made and then not wanted is not easily got rid of.
    const isAuto = start.device.kind === "auto";
    const others = (isAuto ? start.nbd.slice(1) : start.nbd).map((address, index) => openSocket(address, index + 1));
    const device = openDevice(start.device, worker.hostFor(0), memoryBytes, means);
    if (device === null) return [openSocket(start.nbd[0], 0), ...others];
    flushMemory(means);
    return [device, ...others];
  } catch (error) {
    for (const socket of sockets) socket.stop();
    throw error;
  }
}

/** The device; null when "auto" finds none, which is told with the reasons. */
function openDevice(choice: DeviceChoice, host: FrontendHost, memoryBytes: number, means: Means): Frontend | null {
  const ublk = () => openUblk(choice.index, host, memoryBytes, means);
  const nbd = () => openNbd(choice.index, host, memoryBytes, means);
  if (choice.kind === "ublk") return ublk();
  if (choice.kind === "nbd") return nbd();
  // A device that the pool's former process has left comes first: applications have it open.
  const ways = hasLeftNbd(means) ? [nbd, ublk] : [ublk, nbd];
  const reasons: string[] = [];
  for (const open of ways) {
    try {
      const device = open();
      if (reasons.length > 0) means.tell("info", `The pool is a device of the second choice: ${reasons[0]}.`);
      return device;
    } catch (error) {
      if (!(error instanceof DeviceUnavailable) || error instanceof LeftDeviceUnavailable) throw error;
      reasons.push(error.message);
    }
  }
  means.tell("warning", `No block device: ${reasons.join("; ")}. The pool is offered over NBD instead.`);
  return null;
}

/**
 * What waits at a device that was left here, and what applications hold of it in memory, is as old as the attach that served it. Where another
 * client has served the pool since, that is never written over what it wrote.
 */
function leftProblemOf({ leftGeneration, poolName }: ClientStart, servedBefore: number): string {
  if (leftGeneration === null || servedBefore <= leftGeneration) return "";
  return `another client has served the pool since: what waits there is older than what that one wrote. Remove it ` +
    `(brmr detach ${poolName}; with --force while it is in use), then attach anew`;
}

function openUblk(index: number, host: FrontendHost, memoryBytes: number, means: Means): Frontend {
  const { start, reactor, pool, leftProblem } = means;
  const control = UblkControl.open(reactor.wakeDescriptor);
  return UblkDevice.open({ control, reactor, pool, host, poolUuid: start.poolUuid, leftProblem, memoryBytes, index });
}

function openNbd(index: number, host: FrontendHost, memoryBytes: number, means: Means): Frontend {
  const { start, reactor, pool, ioTimeoutMs, leftProblem, tell } = means;
  return NbdDevice.open({
    control: NbdControl.open(),
    clock: reactor,
    pool,
    host,
    poolUuid: start.poolUuid,
    leftProblem,
    memoryBytes,
    index,
    socketCount: start.nbdSocketCount,
    ioTimeoutMs,
    openStream: (socket, protocol) => new UringStreamSocket({ reactor, socket, protocol }),
    warn: (message) => tell("warning", message),
  });
}

/** Under memory pressure the kernel writes dirty pages to the device, that is to this thread. */
function flushMemory({ tell }: Means): void {
  const result = becomeIoFlusher();
  if (result >= 0) return;
  tell("warning", `The kernel does not know that this thread writes memory out (${errnoName(result)}): be root.`);
}

function hasLeftNbd({ start }: Means): boolean {
  try {
    const control = NbdControl.open();
    try {
      return control.find(start.poolUuid) !== null;
    } finally {
      control.close();
    }
  } catch (error) {
    if (error instanceof DeviceUnavailable) return false; // and opening it says so again
    throw error;
  }
}
