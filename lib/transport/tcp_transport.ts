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
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Message } from "../wire/message.ts";
import { CloseReason } from "./close_reason.ts";
import { ConnectionTable } from "./connection_table.ts";
import { type ConnectionOwner, FramedConnection } from "./framed_connection.ts";
import { SentTokens } from "./sent_tokens.ts";
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
  /** Whether payloads in slots are summed (default true). What is copied always is, and sums that come are checked. */
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
  readonly #connections = new ConnectionTable<FramedConnection>();
  readonly #pending: (PendingConnect | null)[] = [];
  readonly #listeners: StreamListener[] = [];
  readonly #sentAtOnce: SentTokens;
  readonly #failedConnects: FramedConnection[] = [];

  constructor(network: StreamNetwork, pool: BufferPool, handler: TransportHandler, options: TcpTransportOptions = {}) {
    this.#network = network;
    this.#handler = handler;
    this.#sentAtOnce = new SentTokens(handler);
    this.#maxConnections = options.maxConnections ?? 256;
    this.#owner = {
      pool,
      checksums: options.checksums ?? true,
      maxQueuedFrames: options.maxQueuedFrames ?? 4096,
      maxQueuedBytes: options.maxQueuedBytes ?? 64 * 1024 * 1024,
      handler,
      sentAtOnce: (connection, token) => this.#sentAtOnce.add(connection, token),
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
    const target = this.#connections.get(connection);
    return target !== null && target.send(message, slot, token);
  }

  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean {
    const target = this.#connections.get(connection);
    return target !== null && target.sendCopy(message, payload);
  }

  flushSends(): void {
    this.#tellNow();
    const { all } = this.#connections;
    for (let i = 0; i < all.length; i++) all[i]?.flushSends();
  }

  resume(): void {
    const { all } = this.#connections;
    for (let i = 0; i < all.length; i++) all[i]?.resume();
  }

  close(connection: number): void {
    const target = this.#connections.get(connection);
    if (target === null) return;
    target.close();
    this.#pending[connection]?.cancel();
  }

  lastReceivedMs(connection: number): number {
    return this.#connections.get(connection)?.lastReceivedMs ?? 0;
  }

  stats(connection: number): ConnectionStats {
    return this.#connections.statsOf(connection);
  }

  way(connection: number): StreamWay | null {
    return this.#connections.get(connection)?.way ?? null;
  }

  sumsPayloads(connection: number): boolean {
    const target = this.#connections.get(connection);
    return target !== null && this.#owner.checksums && !target.isSharing;
  }

  queuedBytes(connection: number): number {
    return this.#connections.get(connection)?.queuedBytes ?? 0;
  }

  /** Closes all listeners and connections; onClosed follows for each connection. */
  closeAll(): void {
    for (const listener of this.#listeners) listener.close();
    for (let i = 0; i < this.#connections.all.length; i++) this.close(i);
  }

  /** Connections that have not been told closed. */
  get connectionCount(): number {
    return this.#connections.count;
  }

  #accept(listener: number, peerAddress: string, open: OpenStream): void {
    const { count } = this.#connections;
    if (count >= this.#maxConnections) {
      this.#owner.report(`A connection from ${peerAddress} is refused: there are ${count}, which is the most`);
      return;
    }
    this.#tellNow();
    const connection = this.#newConnection(peerAddress);
    connection.attach(open(connection));
    this.#handler.onAccepted(connection.id, listener, peerAddress);
  }

  #newConnection(peerAddress: string): FramedConnection {
    const id = this.#connections.takeNumber();
    this.#pending[id] = null;
    return this.#connections.add(new FramedConnection(id, peerAddress, this.#owner));
  }

  #ended(connection: FramedConnection, reason: number): void {
    // A connection is gone only after all that was sent on it was told.
    this.#tellNow();
    this.#connections.remove(connection);
    this.#handler.onClosed(connection.id, reason);
    this.#connections.giveBack(connection.id);
  }

  #tellNow(): void {
    this.#sentAtOnce.tell();
    let failed: FramedConnection | undefined;
    while ((failed = this.#failedConnects.shift()) !== undefined) failed.failed(CloseReason.BAD_ADDRESS);
  }
}
