/**
 * Frames over RDMA: the transport of networks whose cards write into the peer's memory by themselves.
 *
 * Owns the table of connections, the memory that peers write to, and the order of news to the user; what is said between
 * two ends is in `packet.ts` and the files of its two halves, devices are below `link.ts`. Completions are taken in the
 * reactor's turn and in `flushSends`, which arms the completion queues before it returns: an idle connection costs nothing.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Message } from "../../wire/message.ts";
import { CloseReason } from "../close_reason.ts";
import { ConnectionTable } from "../connection_table.ts";
import { SentTokens } from "../sent_tokens.ts";
import type { ConnectionStats, Transport, TransportHandler } from "../transport.ts";
import { type Landing, LandingMemory, type LendingPool } from "./landing_memory.ts";
import type { LinkDescription } from "./link_description.ts";
import type { LinkListener, LinkUser, PendingLink, RdmaNetwork } from "./link.ts";
import { RdmaConnection, type RdmaOwner } from "./rdma_connection.ts";

/** What may be chosen. */
export interface RdmaTransportOptions {
  /** Bytes of the pool that peers may write to; whole MiB. Each connection takes 2 to 9 MiB of it. */
  readonly landingBytes: number;
  /** Whether payloads in slots are summed (default true), though the device sums every packet. Sums that come are checked. */
  readonly checksums?: boolean;
  /** As in TcpTransportOptions. */
  readonly maxQueuedBytes?: number;
  readonly maxQueuedFrames?: number;
  readonly report?: (text: string) => void;
}

/** See the module's description. */
export class RdmaTransport implements Transport {
  readonly #network: RdmaNetwork;
  readonly #handler: TransportHandler;
  readonly #owner: RdmaOwner;
  readonly #memory: LandingMemory;
  readonly #connections = new ConnectionTable<RdmaConnection>();
  readonly #listeners: LinkListener[] = [];
  readonly #sentAtOnce: SentTokens;
  /** Numbers of connects that failed for want of memory, to be told. */
  readonly #failed: number[] = [];
  #hasResumed = false;

  constructor(
    network: RdmaNetwork,
    pool: LendingPool,
    handler: TransportHandler,
    clock: { readonly nowMs: number },
    options: RdmaTransportOptions,
  ) {
    this.#network = network;
    this.#handler = handler;
    this.#sentAtOnce = new SentTokens(handler);
    this.#memory = new LandingMemory(pool, Math.floor(options.landingBytes / (1 << 20)));
    this.#owner = {
      pool,
      checksums: options.checksums ?? true,
      maxQueuedFrames: options.maxQueuedFrames ?? 4096,
      maxQueuedBytes: options.maxQueuedBytes ?? 64 * 1024 * 1024,
      handler,
      get nowMs() {
        return clock.nowMs;
      },
      sentAtOnce: (connection, token) => this.#sentAtOnce.add(connection, token),
      established: (connection) => this.#established(connection),
      ended: (connection, reason) => this.#ended(connection, reason),
      report: options.report ?? ((text) => getLogger(["brmr", "transport"]).warn(text)),
    };
    network.onReadable = () => this.#service();
  }

  listen(address: string): { listener: number; boundAddress: string } {
    const listener = this.#listeners.length;
    const opened = this.#network.listen(
      address,
      (peerAddress, pending) => this.#accept(listener, peerAddress, pending),
    );
    this.#listeners.push(opened);
    return { listener, boundAddress: opened.boundAddress };
  }

  /** Accepts no more. Connections live on. */
  stopListening(listener: number): void {
    this.#listeners[listener].close();
  }

  connect(address: string): number {
    const landing = this.#memory.take(this.#owner.nowMs);
    if (landing === null) {
      this.#owner.report(`Cannot connect to "${address}": all memory that peers may write to is in use`);
      const id = this.#connections.takeNumber();
      this.#failed.push(id);
      return id;
    }
    const connection = this.#add(address, -1, landing);
    try {
      connection.pending = this.#network.connect(address, connection);
    } catch (error) {
      this.#owner.report(`Cannot connect to "${address}": ${error instanceof Error ? error.message : error}`);
      connection.onFailed(CloseReason.BAD_ADDRESS);
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
    this.#network.turn();
    const { all } = this.#connections;
    for (const connection of all) {
      connection?.checkAge();
      connection?.flush();
    }
    // Armed before the last look: what comes after the look wakes the reactor, what came before it is taken now. Closing a
    // link may take the event of another, which is then armed once more.
    let isArmed: boolean;
    do {
      this.#service();
      isArmed = false;
      for (const connection of all) if (connection?.arm()) isArmed = true;
    } while (isArmed);
  }

  resume(): void {
    for (const connection of this.#connections.all) connection?.resume();
    this.#hasResumed = true;
  }

  close(connection: number): void {
    this.#connections.get(connection)?.close();
  }

  lastReceivedMs(connection: number): number {
    return this.#connections.get(connection)?.lastReceivedMs ?? 0;
  }

  stats(connection: number): ConnectionStats {
    return this.#connections.statsOf(connection);
  }

  sumsPayloads(): boolean {
    return this.#owner.checksums;
  }

  queuedBytes(connection: number): number {
    return this.#connections.get(connection)?.queuedBytes ?? 0;
  }

  /** Which way a connection takes, for status; null when it does not stand. */
  describe(connection: number): LinkDescription | null {
    return this.#connections.get(connection)?.link?.description ?? null;
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

  /** Takes completions, tells news, ends what is to end, until nothing moves. */
  #service(): void {
    const connections = this.#connections.all;
    for (let any = true; any;) {
      any = false;
      if (this.#hasResumed) {
        this.#hasResumed = false;
        for (const connection of connections) connection?.goOn();
      }
      for (let i = 0; i < connections.length; i++) if (connections[i]?.service()) any = true;
      this.#sentAtOnce.tell();
      for (let i = 0; i < connections.length; i++) connections[i]?.progressEnd();
      for (let id = this.#failed.shift(); id !== undefined; id = this.#failed.shift()) {
        this.#handler.onClosed(id, CloseReason.QUEUE_FULL);
        this.#connections.giveBack(id);
      }
      if (this.#hasResumed || this.#sentAtOnce.isWaiting) any = true;
    }
  }

  #accept(listener: number, peerAddress: string, pending: PendingLink): LinkUser | null {
    const landing = this.#memory.take(this.#owner.nowMs);
    if (landing === null) {
      this.#owner.report(`A connection from ${peerAddress} is refused: all memory that peers may write to is in use`);
      return null;
    }
    const connection = this.#add(peerAddress, listener, landing);
    connection.pending = pending;
    return connection;
  }

  #established(connection: RdmaConnection): void {
    const { id, listener, peerAddress } = connection;
    if (listener >= 0) this.#handler.onAccepted(id, listener, peerAddress);
    else this.#handler.onConnected(id);
  }

  #add(peerAddress: string, listener: number, landing: Landing): RdmaConnection {
    const id = this.#connections.takeNumber();
    return this.#connections.add(new RdmaConnection(id, peerAddress, listener, landing, this.#owner));
  }

  #ended(connection: RdmaConnection, reason: number): void {
    // A connection is gone only after all that was sent on it was told.
    this.#sentAtOnce.tell();
    this.#connections.remove(connection);
    // One that was accepted and never stood was never told of.
    if (connection.listener < 0 || connection.link !== null) this.#handler.onClosed(connection.id, reason);
    this.#connections.giveBack(connection.id);
  }
}
