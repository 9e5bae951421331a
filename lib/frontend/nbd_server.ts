/**
 * The NBD frontend: connections of applications on one side, the pool on the other.
 *
 * Any number of connections share the pool. What they may hold of it is bounded (`NbdLimits`): memory and request table
 * are allocated at the start, and a connection that asks for more than there is waits. A connection that dies with
 * requests at the host leaves them there; their completions are taken in and their slots freed.
 *
 * Sockets come from outside: `addConnection` takes a function that makes a stream for a given protocol, so the server
 * runs over any {@link StreamSocket}. `nbd_listener.ts` feeds it from a listening socket.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Reactor } from "../io/reactor.ts";
import type { StreamProtocol, StreamSocket } from "../io/stream_socket.ts";
import { type Frontend, type FrontendHost, MAX_REQUEST_BYTES } from "./frontend.ts";
import { NbdAdmission, type NbdLimits } from "./nbd_admission.ts";
import { NbdConnection } from "./nbd_connection.ts";
import { NbdExport } from "./nbd_export.ts";
import { closeOrphan } from "./nbd_parts.ts";
import { ReplyLinks } from "./nbd_replies.ts";
import { NONE } from "./nbd_request_table.ts";

/** What an {@link NbdServer} is made of. */
export interface NbdServerOptions {
  readonly host: FrontendHost;
  readonly pool: BufferPool;
  /** Tells the time for `stop`. */
  readonly clock: Pick<Reactor, "nowMs">;
  /** Where applications find it; see `nbd_uri.ts`. */
  readonly uri: string;
  /** Defaults: see {@link defaultLimits}. */
  readonly limits?: Partial<NbdLimits>;
  /** How long `stop` lets clients take their last answers, in ms. Default 5000. */
  readonly stopGraceMs?: number;
}

/** Something that brings connections, and has to be closed first when the server stops. */
export interface ConnectionSource {
  /** No new connections from here on. */
  close(): void;
}

/** Half of the pool's memory for all connections, half of that for one; room for deep queues. */
export function defaultLimits(pool: BufferPool): NbdLimits {
  const memoryBytes = Math.max(MAX_REQUEST_BYTES, Math.floor(pool.totalBytes / 2));
  return {
    connections: 64,
    requestsPerConnection: 1024,
    requests: 4096,
    memoryBytes,
    memoryBytesPerConnection: Math.max(MAX_REQUEST_BYTES, Math.floor(memoryBytes / 2)),
  };
}

/** The NBD frontend of one pool. */
export class NbdServer implements Frontend {
  readonly uri: string;
  readonly #admission: NbdAdmission;
  readonly #links: ReplyLinks;
  readonly #target: NbdExport;
  readonly #clock: Pick<Reactor, "nowMs">;
  readonly #stopGraceMs: number;
  readonly #connections: (NbdConnection | null)[];
  readonly #sources: ConnectionSource[] = [];
  #connectionCount = 0;
  #stopping = false;
  #stopDeadlineMs = Infinity;
  readonly #onEnded = (connection: number): void => {
    this.#connections[connection] = null;
    this.#connectionCount--;
  };

  constructor(options: NbdServerOptions) {
    const limits = { ...defaultLimits(options.pool), ...options.limits };
    assert(limits.memoryBytes >= MAX_REQUEST_BYTES, "there is memory for one request", limits.memoryBytes);
    assert(limits.memoryBytesPerConnection >= MAX_REQUEST_BYTES, "a connection has memory for one request");
    this.uri = options.uri;
    this.#admission = new NbdAdmission(options.host, options.pool, limits);
    this.#links = new ReplyLinks(this.#admission.table);
    this.#target = new NbdExport(options.host.geometry);
    this.#clock = options.clock;
    this.#stopGraceMs = options.stopGraceMs ?? 5000;
    this.#connections = new Array(limits.connections).fill(null);
  }

  /**
   * Takes a connection: `open` makes the stream that speaks the given protocol. False, and `open` not called, when the
   * server is stopping or has all the connections it may have. A client whose terms were agreed on by other means, as the
   * kernel's are, begins with `phase` "transmission".
   */
  addConnection(
    open: (protocol: StreamProtocol) => StreamSocket,
    phase: "handshake" | "transmission" = "handshake",
  ): boolean {
    const number = this.#stopping ? NONE : this.#connections.indexOf(null);
    if (number === NONE) return false;
    const connection = new NbdConnection(number, this.#admission, this.#links, this.#target, this.#onEnded);
    this.#connections[number] = connection;
    this.#connectionCount++;
    connection.start(open(connection), phase);
    return true;
  }

  /** Makes `source` part of what `stop` closes. */
  addSource(source: ConnectionSource): void {
    this.#sources.push(source);
  }

  /**
   * The host has done a part. May submit further requests at once.
   */
  complete(tag: number, status: number): void {
    const table = this.#admission.table;
    assert(table.isPartOpen(tag), "the host completes what it was given, once", tag);
    this.#admission.enter();
    const connection = table.partConnection[tag];
    if (connection === NONE) closeOrphan(this.#admission, tag);
    else this.#connections[connection]!.onPartDone(tag, status);
    this.#admission.exit();
  }

  /** The host or the pool has room again. */
  onReady(): void {
    this.#admission.enter();
    this.#admission.exit();
  }

  /**
   * Once a turn. Answers that had waited for room may free memory, and so may let further requests be submitted: the
   * owner looks for outputs of the core once more before it waits.
   */
  flushSends(): void {
    this.#admission.enter();
    // Connections take the lowest number that is free: the first places hold nearly all of them.
    for (let i = 0, left = this.#connectionCount; left > 0 && i < this.#connections.length; i++) {
      const connection = this.#connections[i];
      if (connection === null) continue;
      connection.flushSends();
      left--;
    }
    this.#admission.exit();
    if (this.#stopping && this.#connectionCount > 0 && this.#clock.nowMs >= this.#stopDeadlineMs) {
      for (const connection of this.#connections) connection?.abort();
    }
  }

  /**
   * No new connections and no new requests; each connection is closed when its requests are answered, or after
   * `stopGraceMs` if the client does not take the answers. Over when {@link isStopped}.
   */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#stopDeadlineMs = this.#clock.nowMs + this.#stopGraceMs;
    for (const source of this.#sources) source.close();
    this.#admission.enter();
    for (const connection of this.#connections) connection?.finish();
    this.#admission.exit();
  }

  /** `stop` was called, and no connection and no request is left. */
  get isStopped(): boolean {
    const table = this.#admission.table;
    return this.#stopping && this.#connectionCount === 0 && table.freePartCount === table.partCapacity;
  }

  get connectionCount(): number {
    return this.#connectionCount;
  }

  /** Requests that are being worked on, those of dead connections included. */
  get requestCount(): number {
    const table = this.#admission.table;
    return table.requestCapacity - table.freeRequestCount;
  }

  /** Bytes of pool memory held. */
  get usedBytes(): number {
    return this.#admission.usedBytes;
  }

  /** Connections that wait for memory or for the host. */
  get waitingCount(): number {
    return this.#admission.waitingCount;
  }
}
