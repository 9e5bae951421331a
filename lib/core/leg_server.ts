/**
 * The protocol of one leg, as a state machine without I/O: frames and completions in (`handle*`), things to do out (`poll`).
 *
 * This file only routes. The rules are in the parts: leg_session.ts (who may use the leg), leg_io.ts (the client's I/O),
 * leg_metadata.ts (what is durable when), resync_source.ts and resync_target.ts (repair between legs); leg_context.ts is the state they
 * share. ARCHITECTURE.md tells the protocol as a whole.
 *
 * Connections are numbers that the driver never uses twice. After each input the driver drains `poll()`.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import type { Claim, EpochChange, Hello, ResyncOrder, Return } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { LegContext, type LegServerOptions } from "./leg_context.ts";
import { LegHash } from "./leg_hash.ts";
import { LegReaders } from "./leg_readers.ts";
import { LegIo } from "./leg_io.ts";
import { LegMetadata, type MetadataDone, PURPOSE_OWN } from "./leg_metadata.ts";
import { LegSession } from "./leg_session.ts";
import type { Reach } from "./leg_addresses.ts";
import { OperationKind } from "./operation_table.ts";
import type { Output } from "./output.ts";
import { ResyncSource } from "./resync_source.ts";
import { ResyncTarget } from "./resync_target.ts";
import type { DirtySnapshot, LegLoad, LegSnapshot } from "./snapshot.ts";
import type { SparseBitmap } from "../base/sparse_bitmap.ts";

export type { LegServerOptions, LoadedMapPage } from "./leg_context.ts";

const ESTALE = -116;
/** How often a leg looks after itself. */
const TICK_MS = 500;
/**
 * A leg without writes for this long forgets its hot extents, so that a crash while idle has nothing to compare. Much longer
 * than the pauses of an application at work, since after each the first write into an extent waits for the intent log.
 */
const IDLE_MS = 30_000;

/** One leg. */
export class LegServer {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #target: ResyncTarget;
  readonly #io: LegIo;
  readonly #session: LegSession;
  readonly #source: ResyncSource;
  readonly #hash: LegHash;
  readonly #readers: LegReaders;
  #nextTickMs: number;

  constructor(options: LegServerOptions) {
    this.#leg = new LegContext(options);
    this.#metadata = new LegMetadata(this.#leg);
    this.#target = new ResyncTarget(this.#leg, this.#metadata);
    this.#io = new LegIo(this.#leg, this.#metadata, this.#target);
    this.#session = new LegSession(this.#leg, this.#metadata, this.#io, this.#target);
    this.#source = new ResyncSource(this.#leg);
    this.#hash = new LegHash(this.#leg);
    this.#readers = new LegReaders(this.#leg, this.#metadata);
    this.#nextTickMs = options.nowMs;
  }

  /** HELLO on a connection of ours, naming this leg of this pool. */
  handleHello(connection: number, requestId: number, hello: Hello): void {
    this.#session.handleHello(connection, requestId, hello);
  }

  /** Any further frame. `body` has passed `parseBody`. Takes over `slot`. */
  handleMessage(connection: number, message: Message, slot: number, body: unknown): void {
    const leg = this.#leg;
    const peer = leg.peers.get(connection);
    if (peer === undefined) leg.freeSlot(slot);
    else if (peer.role === "client") this.#handleClient(connection, message, slot, body);
    else if (peer.role === "reader") {
      leg.freeSlot(slot);
      this.#readers.handleMessage(connection, message);
    } else this.#handlePeer(connection, message, slot, body);
    this.#after();
  }

  /** A connection is gone, whoever opened it. */
  handleConnectionClosed(connection: number): void {
    this.#session.handleClosed(connection);
    this.#target.handleClosed(connection);
    this.#after();
  }

  /** Output CONNECT has succeeded. */
  handleConnected(legIndex: number, connection: number): void {
    this.#target.handleConnected(legIndex, connection);
    this.#after();
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(legIndex: number): void {
    this.#target.handleConnectFailed(legIndex);
    this.#after();
  }

  /**
   * DISK_READ, DISK_WRITE, DISK_ZERO, DISK_FLUSH has ended. `result`: 0 or a negative errno. `slot`: of a read.
   * `elapsedMs`: what it took at the device, for the throttle; negative when nobody has measured it.
   */
  handleDiskDone(operation: number, result: number, slot: number, elapsedMs = -1): void {
    const kind = this.#leg.operations.kind[operation];
    if (elapsedMs >= 0 && (kind === OperationKind.READ || kind === OperationKind.WRITE)) {
      this.#leg.serviceTime.note(elapsedMs, this.#leg.nowMs);
    }
    switch (kind) {
      case OperationKind.PULL:
      case OperationKind.PEER_HASH:
        this.#source.diskDone(operation, result, slot);
        break;
      case OperationKind.RESYNC_WRITE:
      case OperationKind.OWN_HASH:
      case OperationKind.RESYNC_FLUSH:
        this.#target.diskDone(operation, result, slot);
        break;
      case OperationKind.CLIENT_HASH:
        this.#hash.diskDone(operation, result, slot);
        break;
      case OperationKind.READER_READ:
        this.#readers.diskDone(operation, result, slot);
        break;
      case OperationKind.SESSION_FLUSH:
        this.#leg.operations.free(operation);
        this.#session.sessionFlushed(operation, result);
        break;
      default:
        this.#io.diskDone(operation, result, slot);
    }
    this.#after();
  }

  /** METADATA_WRITE has ended. */
  handleMetadataDone(token: number, result: number): void {
    const done = this.#metadata.done(token, result);
    if (done?.kind === "record") {
      this.#session.recordWritten(done.purpose, result);
      if (this.#leg.session !== null) this.#io.makeRoom();
    } else if (done?.kind === "intents") this.#io.intentsWritten(result);
    else if (done?.kind === "page" && this.#leg.session !== null) this.#io.makeRoom();
    if (result < 0 && done !== null) this.#metadataFailed(done, result);
    this.#after();
  }

  #metadataFailed(done: MetadataDone, result: number): void {
    if (done.kind === "intents" || done.isNews) {
      this.#leg.event("error", "metadata-failed", `A metadata write failed (${result})`);
    }
    if (done.kind === "record") {
      if (done.purpose !== PURPOSE_OWN) this.#target.recordFailed(result);
    } else if (done.kind === "intents") this.#session.intentsFailed(result);
    else {
      const isOwn = done.legIndex === this.#leg.legIndex;
      this.#session.pageFailed(result, done.isAwaited && !isOwn);
      if (done.isAwaited) this.#target.pageFailed(result, isOwn);
    }
  }

  /** HASH has ended: two words a chunk. */
  handleHashed(operation: number, words: Uint32Array): void {
    const kind = this.#leg.operations.kind[operation];
    if (kind === OperationKind.PEER_HASH) this.#source.hashed(operation, words);
    else if (kind === OperationKind.CLIENT_HASH) this.#hash.hashed(operation, words);
    else if (kind === OperationKind.READER_READ) this.#readers.hashed(operation, words);
    else this.#target.hashed(operation, words);
    this.#after();
  }

  /** Time passes. Cheap: may be called once a loop turn. */
  handleTick(nowMs: number): void {
    const leg = this.#leg;
    // Asked before the clock moves: some deadlines are told from the present.
    const isDue = nowMs >= this.nextDeadlineMs;
    leg.nowMs = nowMs;
    if (!isDue) return;
    this.#target.tick();
    if (nowMs >= this.#nextTickMs) {
      this.#nextTickMs = nowMs + TICK_MS;
      this.#metadata.retry();
      this.#session.tick();
      this.#clean();
    }
    this.#after();
  }

  /** When `handleTick` wants to be called, at the latest. */
  get nextDeadlineMs(): number {
    return Math.min(this.#nextTickMs, this.#target.nextDeadlineMs);
  }

  /** The next thing to do, or null. */
  poll(): Output | null {
    return this.#leg.outputs.poll();
  }

  /** Pauses, resumes or limits this leg's resync. */
  setResync(change: { paused?: boolean; rateBytesPerSecond?: number }): void {
    this.#target.setResync(change.paused, change.rateBytesPerSecond);
    this.#after();
  }

  /** How much waits in this leg for something: for the simulator, which holds each number to its bound. */
  load(): LegLoad {
    const leg = this.#leg;
    return {
      operations: leg.operations.count,
      clientOperations: leg.clientOperations,
      waiting: this.#io.waitingCount,
      waitingPeerReads: this.#source.waitingCount,
      connections: leg.peers.size,
      pendingEpochs: this.#session.pendingEpochCount,
      pendingMetadata: this.#metadata.pendingCount,
      mostMapBytes: leg.maps.reduce((most, map) => Math.max(most, map?.bits.memoryBytes ?? 0), 0),
    };
  }

  /** What this leg knows leg `legIndex` to lack; null when there is no such leg. */
  dirtyMap(legIndex: number): SparseBitmap | null {
    return this.#leg.maps[legIndex]?.bits ?? null;
  }

  /** By what it reaches others. */
  get reach(): Reach {
    return this.#leg.reach;
  }

  /** Sessions since the leg was opened. */
  get sessionCount(): number {
    return this.#leg.sessionCount;
  }

  /** Whether somebody has a session. */
  get isHeld(): boolean {
    return this.#leg.session !== null;
  }

  /** Whether the last session was let go of in order, with every leg in sync and equal as far as this one knows. */
  get isAtPeace(): boolean {
    const leg = this.#leg;
    if (leg.session !== null || !leg.hasDetached || leg.intentsLost || leg.suspectedExtents().length > 0) return false;
    const { legs, inSyncMask } = leg.record;
    return legs.every((entry, index) =>
      entry === null ||
      (entry.replacesIndex === undefined && (entry.isDrained || (inSyncMask & (1 << index)) !== 0))
    );
  }

  /** For status. */
  snapshot(): LegSnapshot {
    const leg = this.#leg;
    const resync = this.#target.snapshot();
    const dirty: DirtySnapshot[] = [];
    for (let index = 0; index < MAX_LEGS; index++) {
      const map = leg.maps[index];
      if (map === null) continue;
      dirty.push({
        legIndex: index,
        dirtyBytes: map.bits.count * leg.chunkBytes,
        dirtyChunks: map.bits.count,
        memoryBytes: map.bits.memoryBytes,
      });
    }
    return {
      poolUuid: leg.superblock.poolUuid,
      poolName: leg.superblock.poolName,
      legUuid: leg.superblock.legUuid,
      legIndex: leg.legIndex,
      replacesUuid: leg.superblock.replacesUuid ?? "",
      addresses: leg.options.addresses === undefined ? undefined : [...leg.options.addresses],
      sizeBytes: leg.superblock.sizeBytes,
      chunkBytes: leg.chunkBytes,
      logicalBlockBytes: leg.superblock.logicalBlockBytes,
      record: leg.fullRecord,
      state: leg.isInSync ? "in-sync" : resync === null ? "stale" : "resyncing",
      session: leg.session === null ? null : {
        clientName: leg.session.clientName,
        generation: leg.session.generation,
        isCaretaker: leg.session.isCaretaker,
        isOrdered: leg.session.isOrdered,
      },
      dirty,
      resync,
      lastResync: this.#target.last,
      extentBytes: leg.extentBytes,
      hotExtents: leg.intents.size,
      hotExtentLimit: leg.intents.capacity,
      unflushedBytes: leg.unflushed.count * leg.chunkBytes,
      counters: { ...leg.counters },
    };
  }

  /** Asserts what must hold between inputs. For tests and the simulator. */
  checkInvariants(): void {
    const leg = this.#leg;
    assert(leg.promisedGeneration >= leg.record.generation, "A promise is never older than the record");
    assert(leg.intents.size + leg.intents.freeCount === leg.intents.capacity, "Every intent slot is free or used");
    assert(leg.clientOperations <= leg.operations.count, "Client operations are operations");
    for (let index = 0; index < MAX_LEGS; index++) {
      const bits = leg.maps[index]?.bits;
      if (bits === undefined) continue;
      assert(bits.count === bits.countRange(0, bits.bitCount), "A map's count is the number of its bits");
      const isActive = (leg.record.inSyncMask & (1 << index)) !== 0;
      if (isActive && leg.isInSync) assert(bits.count === 0, "An in-sync leg lacks nothing", index, bits.count);
    }
  }

  #handleClient(connection: number, message: Message, slot: number, body: unknown): void {
    const leg = this.#leg;
    const type = message.type;
    const isHolder = leg.session !== null && leg.session.connection === connection;
    if (isHolder) {
      if (leg.session !== null) leg.session.lastHeardMs = leg.nowMs;
      this.#io.handleWatermark(message.watermark);
    }
    if (type === MessageType.WRITE || type === MessageType.WRITE_ZEROES || type === MessageType.DISCARD) {
      if (isHolder) this.#io.handleWrite(connection, message, slot);
      else {
        leg.freeSlot(slot);
        leg.send(connection, MessageType.ACK, message.requestId, ESTALE);
      }
      return;
    }
    if (slot >= 0) leg.freeSlot(slot);
    switch (type) {
      case MessageType.READ:
        if (isHolder) this.#io.handleRead(connection, message);
        else leg.send(connection, MessageType.DATA, message.requestId, ESTALE);
        return;
      case MessageType.HASH:
        this.#hash.handle(connection, message);
        return;
      case MessageType.FLUSH:
        if (isHolder) this.#io.handleFlush(connection, message);
        else leg.send(connection, MessageType.ACK, message.requestId, ESTALE);
        return;
      case MessageType.PING: {
        // Only to a client that serves reads with this leg in sync it says that it is the client's.
        const isOurs = isHolder && leg.isMember && leg.watermark > 0;
        leg.send(connection, MessageType.PONG, message.requestId, isOurs ? 0 : ESTALE);
        return;
      }
      case MessageType.CLAIM:
        this.#session.handleClaim(connection, message.requestId, body as Claim);
        return;
      case MessageType.RETURN:
        this.#session.handleReturn(connection, message.requestId, body as Return);
        if (leg.session?.connection !== connection) return;
        // What a lost frame would have told, and what is asked of the client once more.
        this.#io.handleWatermark(message.watermark);
        this.#io.makeRoom();
        return;
      case MessageType.EPOCH:
        this.#session.handleEpoch(connection, message.requestId, body as EpochChange);
        return;
      case MessageType.DETACH:
        this.#session.handleDetach(connection, message.requestId);
        return;
      case MessageType.JOIN:
        if (isHolder && message.legIndex < MAX_LEGS) {
          leg.joins[message.legIndex] = message.resyncSession;
          leg.receivedSequence = Math.max(leg.receivedSequence, message.sequence);
        }
        leg.send(connection, MessageType.ACK, message.requestId, isHolder ? 0 : ESTALE);
        return;
      case MessageType.RESYNC:
        leg.send(connection, MessageType.ACK, message.requestId, isHolder ? 0 : ESTALE);
        if (!isHolder) return;
        leg.receivedSequence = Math.max(leg.receivedSequence, message.sequence);
        this.#target.start(connection, body as ResyncOrder);
        return;
      default:
        leg.refuse(connection, message.requestId, "bad-request", `A client does not send frames of type ${type}`);
    }
  }

  #handlePeer(connection: number, message: Message, slot: number, body: unknown): void {
    if (this.#target.handleMessage(connection, message, slot, body)) return;
    this.#leg.freeSlot(slot);
    switch (message.type) {
      case MessageType.MAP_FETCH:
      case MessageType.PULL:
      case MessageType.HASH:
      case MessageType.CLEAR:
        this.#source.handleMessage(connection, message, body);
        return;
      case MessageType.PING:
        this.#leg.send(connection, MessageType.PONG, message.requestId);
        return;
      default:
        // Late answers to a resync that is over.
    }
  }

  /** What one input makes possible for others. */
  #after(): void {
    this.#io.retryWaiting();
    this.#source.retryWaiting();
    this.#session.advance();
    this.#target.pump(this.#io);
  }

  /** Saves dirty pages in the background, and forgets hot extents when idle. */
  #clean(): void {
    const leg = this.#leg;
    if (leg.session === null) return;
    this.#metadata.savePages();
    if (leg.nowMs - leg.lastWriteMs < IDLE_MS || leg.intents.size === 0) return;
    this.#io.forgetIntents(Infinity, leg.watermark, false);
    this.#metadata.writeIntents(true);
  }
}
