/**
 * Where a client offers its pool: a block device, sockets, or both.
 *
 * @module
 */

import { DeviceUnavailable } from "../frontend/device_unavailable.ts";
import { type Frontend, MAX_REQUEST_BYTES } from "../frontend/frontend.ts";
import { openNbdServer } from "../frontend/nbd_listener.ts";
import { UblkDevice } from "../frontend/ublk_device.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import type { ClientWorker } from "./client_worker.ts";
import type { ClientStart, WorkerReport } from "./worker_messages.ts";

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
  const frontends: Frontend[] = [];
  const count = start.nbd.length + (start.device === null ? 0 : 1);
  // Half of the memory is for what applications write and read, the other half for what comes from legs.
  const memoryBytes = Math.max(MAX_REQUEST_BYTES, Math.floor(pool.totalBytes / 2 / count));
  let places = start.nbd;
  if (start.device !== null) {
    try {
      const host = worker.hostFor(0);
      frontends.push(UblkDevice.open({ reactor, pool, host, poolUuid: start.poolUuid, memoryBytes }));
      // The socket is what "auto" falls back on.
      if (start.device === "auto") places = places.slice(1);
    } catch (error) {
      if (start.device !== "auto" || !(error instanceof DeviceUnavailable)) throw error;
      const message = `No block device: ${error.message}. The pool is offered over NBD instead.`;
      report({ kind: "event", pool: start.poolName, event: { level: "warning", name: "no-device", message } });
    }
  }
  for (const address of places) {
    const host = worker.hostFor(frontends.length);
    frontends.push(openNbdServer({ host, pool, reactor, address, limits: { memoryBytes } }));
  }
  return frontends;
}
