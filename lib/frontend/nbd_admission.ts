/**
 * Who may go on when something all connections share is short: pool memory, the request table, the host's queue.
 *
 * Connections that have to wait stand in line, first come, first served, so that large requests are not starved by
 * small ones. Nothing is ever queued per request: a connection that waits does not receive. There are two lines. Those
 * who have a write whole in its slot need the host only and go before all others: who waits for memory may be waiting
 * for theirs.
 *
 * Memory is bounded twice: for all connections together, so that replication always has slots of its own, and for each
 * connection, so that one whose client does not read its answers cannot hold all of it.
 *
 * @module
 */

import type { BufferPool } from "../io/buffer_pool.ts";
import type { FrontendHost } from "./frontend.ts";
import { NbdRequestTable, NONE } from "./nbd_request_table.ts";
import { WaitingLine } from "./waiting_line.ts";

/** Limits of an {@link NbdAdmission}. */
export interface NbdLimits {
  /** Connections at once; more are closed on arrival. */
  readonly connections: number;
  /** Requests at once on one connection. */
  readonly requestsPerConnection: number;
  /** Requests at once on all connections. */
  readonly requests: number;
  /** Bytes of pool memory on all connections. */
  readonly memoryBytes: number;
  /** Bytes of pool memory on one connection; at least 1 MiB. */
  readonly memoryBytesPerConnection: number;
}

/** Shared resources and the line of those who wait for them. */
export class NbdAdmission {
  readonly host: FrontendHost;
  readonly pool: BufferPool;
  readonly table: NbdRequestTable;
  readonly limits: NbdLimits;
  /** Those with a write ready for the host. */
  readonly submitLine: WaitingLine;
  /** Those who want a request, a part, memory, or the host for something that holds no memory. */
  readonly line: WaitingLine;
  #usedBytes = 0;
  readonly #connectionBytes: Float64Array;
  /** Nesting of the calls from outside that may free something; only the outermost lets the line move. */
  #depth = 0;

  constructor(host: FrontendHost, pool: BufferPool, limits: NbdLimits) {
    this.host = host;
    this.pool = pool;
    this.limits = limits;
    this.table = new NbdRequestTable(limits.requests, limits.requests * 2);
    this.submitLine = new WaitingLine(limits.connections);
    this.line = new WaitingLine(limits.connections);
    this.#connectionBytes = new Float64Array(limits.connections);
  }

  /** Bytes of pool memory held by this frontend. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Connections that wait. */
  get waitingCount(): number {
    return this.submitLine.count + this.line.count;
  }

  /** Whether `connection` may take what is there: nobody stands in line before it. */
  mayTake(connection: number): boolean {
    return this.submitLine.count === 0 && this.line.isFree(connection);
  }

  /** Whether `connection` may hand the host a write that is ready. */
  maySubmit(connection: number): boolean {
    return this.host.canSubmit && this.submitLine.isFree(connection);
  }

  /** Whether `connection` is at its own limit of memory for another `lengthBytes`, whatever the others do. */
  isOverShare(connection: number, lengthBytes: number): boolean {
    return this.#connectionBytes[connection] > 0 &&
      this.#connectionBytes[connection] + lengthBytes > this.limits.memoryBytesPerConnection;
  }

  /** A slot for `connection`, or -1. */
  allocate(connection: number, lengthBytes: number): number {
    if (this.#usedBytes > 0 && this.#usedBytes + lengthBytes > this.limits.memoryBytes) return NONE;
    const slot = this.pool.allocate(lengthBytes);
    if (slot < 0) return NONE;
    const capacityBytes = this.pool.capacity(slot);
    this.#usedBytes += capacityBytes;
    this.#connectionBytes[connection] += capacityBytes;
    return slot;
  }

  /** Gives back a slot taken for `connection`; {@link NONE} when that connection is gone. */
  free(connection: number, slot: number): void {
    const capacityBytes = this.pool.capacity(slot);
    this.#usedBytes -= capacityBytes;
    if (connection !== NONE) this.#connectionBytes[connection] -= capacityBytes;
    this.pool.free(slot);
  }

  /** `connection` ends: what its requests at the host still hold is nobody's share from here on. */
  forgetConnection(connection: number): void {
    this.#connectionBytes[connection] = 0;
  }

  /** To be called first in every entry from outside (host, socket, node). */
  enter(): void {
    this.#depth++;
  }

  /** To be called last: lets those in the lines go on, as far as they can. */
  exit(): void {
    if (this.#depth === 1) {
      while (this.submitLine.advance() || this.line.advance());
    }
    this.#depth--;
  }
}
