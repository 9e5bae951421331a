/**
 * Frames over TCP: the transport of every ordinary network. Within a machine, over what `local_network.ts` makes of it.
 *
 * Owns the table of connections and the order of news to the user; framing is in `framed_connection.ts`, sockets are
 * below `stream_network.ts`. Connection numbers are used again only after `onClosed` was delivered.
 *
 * News that becomes known while the user is in a call into the transport (a payload that was copied at once, an
 * address that cannot be parsed) is told at the next news from the network or in `flushSends`, whichever comes first.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Message } from "../wire/message.ts";
import { CloseReason } from "./close_reason.ts";
import { type ConnectionOwner, FramedConnection } from "./framed_connection.ts";
import type {
  FrameStream,
  OpenStream,
  PendingConnect,
  StreamConnector,
  StreamListener,
  StreamNetwork,
  StreamWay,
} from "./stream_network.ts";
import type { ConnectionStats, Transport, TransportHandler } from "./transport.ts";

/** What may be chosen. */
export interface TcpTransportOptions {
  /** Payloads carry a checksum when sent and are checked when received. Default true. */
  readonly checksums?: boolean;
  /** Bytes that may wait on one connection to be taken by the network; more closes it (ENOBUFS). Default 64 MiB. */
  readonly maxQueuedBytes?: number;
  /** Frames that may wait beyond those its stream takes; more closes it likewise. Default 4096. */
  readonly maxQueuedFrames?: number;
  /** Connections at once; further ones are refused as they come. Default 256. */
  readonly maxConnections?: number;
  /** Hears why a connection was closed by this end. Default: a warning in the log. */
  readonly report?: (text: string) => void;
}

/** See the module's description. */
export class TcpTransport implements Transport {
  readonly #network: StreamNetwork;
  readonly #handler: TransportHandler;
  readonly #owner: ConnectionOwner;
  readonly #maxConnections: number;
  /** Index is the connection; null where the number is free. */
  readonly #connections: (FramedConnection | null)[] = [];
  readonly #pending: (PendingConnect | null)[] = [];
  readonly #freeNumbers: number[] = [];
  #openCount = 0;
  readonly #listeners: StreamListener[] = [];
  /** Pairs of (connection, token) to be told later; those from `#laterTold` to `#laterCount` wait. */
  #later = new Float64Array(128);
  #laterCount = 0;
  #laterTold = 0;
  readonly #failedConnects: FramedConnection[] = [];

  constructor(network: StreamNetwork, pool: BufferPool, handler: TransportHandler, options: TcpTransportOptions = {}) {
    this.#network = network;
    this.#handler = handler;
    this.#maxConnections = options.maxConnections ?? 256;
    this.#owner = {
      pool,
      checksums: options.checksums ?? true,
      maxQueuedFrames: options.maxQueuedFrames ?? 4096,
      maxQueuedBytes: options.maxQueuedBytes ?? 64 * 1024 * 1024,
      handler,
      sentAtOnce: (connection, token) => this.#tellLater(connection, token),
      ended: (connection, reason) => this.#ended(connection, reason),
      report: options.report ?? ((text) => getLogger(["brmr", "transport"]).warn(text)),
    };
  }

  listen(address: string): { listener: number; boundAddress: string } {
    const listener = this.#listeners.length;
    const socket = this.#network.listen(
      address,
      (peerAddress, open) => this.#accept(listener, peerAddress, open),
    );
    this.#listeners.push(socket);
    return { listener, boundAddress: socket.boundAddress };
  }

  /** Accepts no more. Connections live on. */
  stopListening(listener: number): void {
    this.#listeners[listener].close();
  }

  connect(address: string): number {
    const connection = this.#newConnection(address);
    const connector: StreamConnector = {
      protocol: connection,
      onConnected: (stream: FrameStream) => {
        this.#pending[connection.id] = null;
        connection.attach(stream);
        if (connection.isOpen) this.#handler.onConnected(connection.id);
      },
      onConnectFailed: (reason: number) => {
        this.#pending[connection.id] = null;
        connection.failed(reason);
      },
    };
    try {
      this.#pending[connection.id] = this.#network.connect(address, connector);
    } catch (error) {
      this.#owner.report(`Cannot connect to "${address}": ${error instanceof Error ? error.message : error}`);
      this.#failedConnects.push(connection);
    }
    return connection.id;
  }

  send(connection: number, message: Message, slot: number, token: number): boolean {
    const target = this.#connections[connection] ?? null;
    return target !== null && target.send(message, slot, token);
  }

  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean {
    const target = this.#connections[connection] ?? null;
    return target !== null && target.sendCopy(message, payload);
  }

  flushSends(): void {
    this.#tellNow();
    const connections = this.#connections;
    for (let i = 0; i < connections.length; i++) connections[i]?.flushSends();
  }

  resume(): void {
    const connections = this.#connections;
    for (let i = 0; i < connections.length; i++) connections[i]?.resume();
  }

  close(connection: number): void {
    const target = this.#connections[connection] ?? null;
    if (target === null) return;
    target.close();
    this.#pending[connection]?.cancel();
  }

  lastReceivedMs(connection: number): number {
    return this.#connections[connection]?.lastReceivedMs ?? 0;
  }

  stats(connection: number): ConnectionStats {
    const target = this.#connections[connection] ?? null;
    return target === null ? { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 } : { ...target.stats };
  }

  way(connection: number): StreamWay | null {
    return this.#connections[connection]?.way ?? null;
  }

  sumsPayloads(connection: number): boolean {
    const target = this.#connections[connection] ?? null;
    return target !== null && this.#owner.checksums && !target.isSharing;
  }

  queuedBytes(connection: number): number {
    return this.#connections[connection]?.queuedBytes ?? 0;
  }

  /** Closes all listeners and connections; onClosed follows for each connection. */
  closeAll(): void {
    for (const listener of this.#listeners) listener.close();
    for (let i = 0; i < this.#connections.length; i++) this.close(i);
  }

  /** Connections that have not been told closed. */
  get connectionCount(): number {
    return this.#openCount;
  }

  #accept(listener: number, peerAddress: string, open: OpenStream): void {
    if (this.#openCount >= this.#maxConnections) {
      this.#owner.report(
        `A connection from ${peerAddress} is refused: there are ${this.#openCount}, which is the most`,
      );
      return;
    }
    this.#tellNow();
    const connection = this.#newConnection(peerAddress);
    connection.attach(open(connection));
    this.#handler.onAccepted(connection.id, listener, peerAddress);
  }

  #newConnection(peerAddress: string): FramedConnection {
    const id = this.#freeNumbers.pop() ?? this.#connections.length;
    const connection = new FramedConnection(id, peerAddress, this.#owner);
    this.#connections[id] = connection;
    this.#pending[id] = null;
    this.#openCount++;
    return connection;
  }

  #ended(connection: FramedConnection, reason: number): void {
    // A connection is gone only after all that was sent on it was told.
    this.#tellNow();
    assert(this.#connections[connection.id] === connection, "A connection is in the table until it ends");
    this.#connections[connection.id] = null;
    this.#handler.onClosed(connection.id, reason);
    this.#openCount--;
    this.#freeNumbers.push(connection.id);
  }

  #tellLater(connection: number, token: number): void {
    if (this.#laterCount * 2 === this.#later.length) {
      // Bounded by what the streams' send areas hold, and reached once.
      const larger = new Float64Array(this.#later.length * 2);
      larger.set(this.#later);
      this.#later = larger;
    }
    this.#later[this.#laterCount * 2] = connection;
    this.#later[this.#laterCount * 2 + 1] = token;
    this.#laterCount++;
  }

  #tellNow(): void {
    // What the user does when told may add to the end, or lead here again.
    while (this.#laterTold < this.#laterCount) {
      const at = this.#laterTold++ * 2;
      this.#handler.onSent(this.#later[at], this.#later[at + 1]);
    }
    this.#laterTold = 0;
    this.#laterCount = 0;
    let failed: FramedConnection | undefined;
    while ((failed = this.#failedConnects.shift()) !== undefined) failed.failed(CloseReason.BAD_ADDRESS);
  }
}
