/**
 * Drives one leg: gives its core what happens, and does what the core wants done, against the leg's backing device and
 * the node's connections. Decides nothing by itself.
 *
 * Every input is followed by `drain()`, which carries out outputs until there are none. Nothing called from `drain()`
 * calls the core back, so it never nests.
 *
 * @module
 */

import type { Caretaker } from "../core/caretaker.ts";
import type { LegServer } from "../core/leg_server.ts";
import { type CoreEvent, type Output, OutputKind } from "../core/output.ts";
import type { Message } from "../wire/message.ts";
import { type Hello, MOST_RETURN_MS } from "../wire/bodies.ts";
import type { Superblock } from "../disk_format/records.ts";
import type { BlockStore, MetadataStore } from "../store/block_store.ts";
import type { LegStore } from "../store/leg_store.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Transport } from "../transport/transport.ts";
import { RequestFlag } from "../frontend/frontend.ts";
import { hashChunks } from "../base/checksum.ts";
import { encodeBody } from "../wire/body_codec.ts";
import { unreachable } from "../base/assert.ts";
import type { OperatorSession } from "./operator_session.ts";
import { OperationTable } from "./operation_table.ts";
import { ReadQueue } from "./read_queue.ts";

/** The core's clock lags behind by this much at most when something arrives. */
export const CLOCK_STALENESS_MS = 2;

/** What a leg needs of its node. */
export interface LegHost {
  readonly nowMs: number;
  readonly pool: BufferPool;
  readonly transport: Transport;
  /** A slot for a read, or -1: memory is short, or is kept for payloads that must not wait. */
  allocateForRead(lengthBytes: number): number;
  freeSlot(slot: number): void;
  /** Something was queued on the transport. */
  noteSent(): void;
  /** A data request of a device has ended. */
  noteBlockDone(): void;
  connectPeer(driver: LegDriver, legIndex: number, address: string): void;
  /** As a client, for the driver's caretaker. `tag` comes back with the outcome. */
  connectCaretaker(driver: LegDriver, tag: number, address: string): void;
  /** Connections are named by keys that are never used twice. */
  closeConnection(key: number): void;
  /** The transport's number of a connection, -1 when it is gone. */
  connectionOf(key: number): number;
  reportEvent(driver: LegDriver, event: CoreEvent): void;
}

/** One leg at work. */
export class LegDriver {
  readonly path: string;
  readonly poolUuid: string;
  readonly poolName: string;
  readonly legUuid: string;
  readonly legIndex: number;
  readonly core: LegServer;
  /** Looks after the pool while nobody has it attached; null for a driver without. */
  readonly caretaker: Caretaker | null;
  /** The operator's session that was begun at this leg. */
  operator: OperatorSession | null = null;
  readonly #host: LegHost;
  readonly #dataOffset: number;
  readonly #chunkBytes: number;
  readonly #operations = new OperationTable();
  readonly #waitingReads = new ReadQueue();
  #stores!: LegStore;
  #blocks!: BlockStore;
  #metadata!: MetadataStore;
  #metadataInFlight = 0;
  #lastTickMs = 0;

  constructor(
    host: LegHost,
    superblock: Superblock,
    path: string,
    core: LegServer,
    caretaker: Caretaker | null = null,
  ) {
    this.#host = host;
    this.caretaker = caretaker;
    this.path = path;
    this.core = core;
    this.poolUuid = superblock.poolUuid;
    this.poolName = superblock.poolName;
    this.legUuid = superblock.legUuid;
    this.legIndex = superblock.legIndex;
    this.#dataOffset = superblock.dataOffset;
    this.#chunkBytes = superblock.chunkBytes;
  }

  /** Gives the driver its device. Once, before any input. */
  attach(stores: LegStore): void {
    this.#stores = stores;
    this.#blocks = stores.blocks;
    this.#metadata = stores.metadata;
  }

  /**
   * The leg has left service and its connections have ended. Whoever may return to its session by another path will not: the session ends,
   * and what waits in it for other things than the device is given back. To the core that is a time at which nobody may return any more.
   */
  endSession(): void {
    this.core.handleTick(this.#host.nowMs + 2 * MOST_RETURN_MS);
    this.drain();
  }

  /** Lets the device go. Only when it is quiet. */
  close(): void {
    this.#stores.close();
  }

  /** Whether the device has nothing in flight and nothing waits for memory. */
  get isQuiet(): boolean {
    return this.#operations.usedCount === 0 && this.#metadataInFlight === 0 && this.#waitingReads.length === 0;
  }

  /** Data requests that the device has. */
  get inFlightCount(): number {
    return this.#operations.usedCount;
  }

  /** Whether reads wait for memory. */
  get isStarved(): boolean {
    return this.#waitingReads.length > 0;
  }

  hello(connection: number, requestId: number, hello: Hello): void {
    this.core.handleHello(connection, requestId, hello);
    this.drain();
  }

  message(connection: number, message: Message, slot: number, body: unknown): void {
    // The core's clock is the last tick; what it times from a message's arrival must not start in the past.
    const nowMs = this.#host.nowMs;
    if (nowMs - this.#lastTickMs > CLOCK_STALENESS_MS) this.tick(nowMs);
    this.core.handleMessage(connection, message, slot, body);
    this.drain();
  }

  connectionClosed(connection: number): void {
    this.core.handleConnectionClosed(connection);
    this.drain();
  }

  connected(legIndex: number, connection: number): void {
    this.core.handleConnected(legIndex, connection);
    this.drain();
  }

  connectFailed(legIndex: number): void {
    this.core.handleConnectFailed(legIndex);
    this.drain();
  }

  setResync(setting: { readonly paused?: boolean; readonly rateBytesPerSecond?: number }): void {
    this.core.setResync(setting);
    this.drain();
  }

  tick(nowMs: number): void {
    this.#lastTickMs = nowMs;
    this.core.handleTick(nowMs);
    this.caretaker?.handleTick(nowMs);
    this.drain();
    this.operator?.tick(nowMs);
  }

  /** When `tick` has to be called at the latest. */
  get nextDeadlineMs(): number {
    let deadlineMs = this.core.nextDeadlineMs;
    if (this.caretaker !== null) deadlineMs = Math.min(deadlineMs, this.caretaker.nextDeadlineMs);
    if (this.operator !== null) deadlineMs = Math.min(deadlineMs, this.operator.nextDeadlineMs);
    return deadlineMs;
  }

  caretakerConnected(tag: number, connection: number): void {
    this.caretaker?.handleConnected(tag, connection);
    this.drain();
  }

  caretakerConnectFailed(tag: number): void {
    this.caretaker?.handleConnectFailed(tag);
    this.drain();
  }

  caretakerConnectionClosed(connection: number): void {
    this.caretaker?.handleConnectionClosed(connection);
    this.drain();
  }

  /** A frame of a leg to the caretaker. It asks for no data: whatever has a payload was parsed. */
  caretakerMessage(connection: number, message: Message, body: unknown): void {
    this.caretaker?.handleMessage(connection, message, body);
    this.drain();
  }

  onBlockDone(operation: number, result: number): void {
    const token = this.#operations.token(operation);
    const slot = this.#operations.slot(operation);
    const elapsedMs = this.#host.nowMs - this.#operations.startedMs(operation);
    this.#operations.remove(operation);
    this.#host.noteBlockDone();
    this.core.handleDiskDone(token, result, slot, elapsedMs);
    this.drain();
  }

  onMetadataDone(token: number, result: number): void {
    this.#metadataInFlight--;
    this.core.handleMetadataDone(token, result);
    this.drain();
  }

  /** Starts waiting reads for which there is memory now. */
  retryReads(): void {
    const queue = this.#waitingReads;
    while (queue.length > 0) {
      const slot = this.#host.allocateForRead(queue.firstLengthBytes);
      if (slot === -1) return;
      this.#startRead(queue.firstToken, slot, queue.firstOffset, queue.firstLengthBytes);
      queue.shift();
    }
  }

  /** Carries out what the core wants, until it wants nothing. */
  drain(): void {
    const core = this.core;
    for (let output = core.poll(); output !== null; output = core.poll()) this.#carryOut(output);
    const caretaker = this.caretaker;
    if (caretaker === null || !caretaker.isAtWork) return;
    for (let output = caretaker.poll(); output !== null; output = caretaker.poll()) {
      if (output.kind === OutputKind.CONNECT) this.#host.connectCaretaker(this, output.legIndex, output.address);
      else this.#carryOut(output);
    }
  }

  #carryOut(output: Output): void {
    switch (output.kind) {
      case OutputKind.SEND:
        this.#send(output);
        return;
      case OutputKind.DISK_WRITE:
        this.#blocks.write(
          this.#add(output.token, output.slot),
          output.slot,
          output.lengthBytes,
          this.#dataOffset + output.offset,
          (output.flags & RequestFlag.FUA) !== 0,
        );
        return;
      case OutputKind.DISK_READ: {
        const slot = this.#waitingReads.length > 0 ? -1 : this.#host.allocateForRead(output.lengthBytes);
        if (slot === -1) this.#waitingReads.push(output.token, output.offset, output.lengthBytes);
        else this.#startRead(output.token, slot, output.offset, output.lengthBytes);
        return;
      }
      case OutputKind.FREE_SLOT:
        this.#host.freeSlot(output.slot);
        return;
      case OutputKind.METADATA_WRITE:
        this.#metadataInFlight++;
        this.#metadata.writeTwin(output.token, output.offset, output.body as Uint8Array);
        return;
      case OutputKind.DISK_FLUSH:
        this.#blocks.flush(this.#add(output.token, -1));
        return;
      case OutputKind.DISK_ZERO:
        this.#blocks.zero(
          this.#add(output.token, -1),
          output.lengthBytes,
          this.#dataOffset + output.offset,
          (output.flags & RequestFlag.NO_HOLE) !== 0,
        );
        return;
      case OutputKind.HASH: {
        const token = output.token;
        const bytes = this.#host.pool.bytes(output.slot).subarray(0, output.lengthBytes);
        this.core.handleHashed(token, hashChunks(bytes, this.#chunkBytes));
        return;
      }
      case OutputKind.CONNECT:
        this.#host.connectPeer(this, output.legIndex, output.address);
        return;
      case OutputKind.CLOSE:
        this.#host.closeConnection(output.connection);
        return;
      case OutputKind.EVENT:
        this.#host.reportEvent(this, output.body as CoreEvent);
        return;
      default:
        unreachable(`a leg wants output kind ${output.kind}`);
    }
  }

  #add(token: number, slot: number): number {
    return this.#operations.add(token, slot, this.#host.nowMs);
  }

  #startRead(token: number, slot: number, offset: number, lengthBytes: number): void {
    this.#blocks.read(this.#add(token, slot), slot, lengthBytes, this.#dataOffset + offset);
  }

  /** A slot that shall be freed once it has left travels as the token of its send; see StorageWorker.onSent. */
  #send(output: Output): void {
    const transport = this.#host.transport;
    const connection = this.#host.connectionOf(output.connection);
    const token = output.slot >= 0 && output.freeAfterSend ? output.slot : -1;
    if (connection === -1) {
      if (token >= 0) this.#host.freeSlot(token);
      return;
    }
    this.#host.noteSent();
    if (output.body !== null) {
      transport.sendBytes(connection, output.message, encodeBody(output.message.type, output.body));
      return;
    }
    if (!transport.send(connection, output.message, output.slot, token) && token >= 0) this.#host.freeSlot(token);
  }
}
