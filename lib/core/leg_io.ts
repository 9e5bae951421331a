/**
 * The I/O path of a leg: the client's reads, writes, zeroes, discards and flushes from frame to disk to answer.
 *
 * A write waits, in this order, for: its extents in the durable intent log (`WAIT_ROOM`, `WAIT_INTENT`); the chunks it covers only
 * partly, if this leg lacks them (`WAIT_CHUNK`, see resync_target.ts). Dirty marks for the legs it skips, and the unflushed set,
 * are made on arrival: a frame that arrives later on this connection (JOIN, EPOCH) finds them.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { MAX_PAYLOAD_BYTES, type Message, MessageFlag, MessageType } from "../wire/message.ts";
import { Pin } from "./intent_log.ts";
import type { LegContext } from "./leg_context.ts";
import type { LegMetadata } from "./leg_metadata.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";
import type { ResyncTarget } from "./resync_target.ts";

const EIO = -5;
const EINVAL = -22;
const ESTALE = -116;

/** The I/O path of one leg. */
export class LegIo {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #target: ResyncTarget;
  /** Writes for which the intent log had no room, in order of arrival. */
  readonly #waitRoom: number[] = [];
  /** Writes whose extents are being recorded. */
  readonly #waitIntent: number[] = [];
  /** Operations that touch chunks this leg lacks. */
  readonly #waitChunk: number[] = [];

  constructor(leg: LegContext, metadata: LegMetadata, target: ResyncTarget) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#target = target;
  }

  /** WRITE, WRITE_ZEROES, DISCARD of the session in force. */
  handleWrite(connection: number, message: Message, slot: number): void {
    const leg = this.#leg;
    const kind = message.type === MessageType.WRITE
      ? OperationKind.WRITE
      : message.type === MessageType.WRITE_ZEROES
      ? OperationKind.ZERO
      : OperationKind.DISCARD;
    const offset = message.offset;
    const lengthBytes = message.length;
    if (
      !this.#isInRange(offset, lengthBytes) || (kind === OperationKind.WRITE) !== (slot >= 0) ||
      (slot >= 0 && message.payloadLength !== lengthBytes) ||
      (message.sequence <= leg.receivedSequence && (message.flags & MessageFlag.AGAIN) === 0)
    ) {
      this.#reject(connection, message, slot);
      return;
    }
    const operation = this.#begin(kind, connection, offset, lengthBytes);
    if (operation < 0) {
      this.#overCredit(connection, message, slot);
      return;
    }
    const operations = leg.operations;
    operations.requestId[operation] = message.requestId;
    operations.flags[operation] = message.flags & ~MessageFlag.AGAIN;
    operations.slot[operation] = slot;
    operations.sequence[operation] = message.sequence;
    const isKnown = message.sequence <= leg.receivedSequence;
    if (!isKnown) leg.receivedSequence = message.sequence;
    leg.lastWriteMs = leg.nowMs;
    leg.counters.writes++;
    leg.counters.writtenBytes += lengthBytes;
    leg.writesInFlight.add(offset, lengthBytes);
    const firstChunk = leg.chunkOf(offset);
    const chunkCount = leg.chunksOf(offset, lengthBytes);
    leg.unflushed.add(firstChunk, chunkCount, message.sequence);
    for (let mask = message.mask; mask !== 0; mask &= mask - 1) {
      leg.maps[31 - Math.clz32(mask & -mask)]?.add(firstChunk, chunkCount);
    }
    // One that was done before, and whose answer was lost, has its extents in the log still; those in line may wait for it to be answered.
    if (this.#waitRoom.length > 0 && !isKnown) {
      // In order of arrival, or a stream of writes to other extents could starve the first in line.
      operations.state[operation] = OperationState.WAIT_ROOM;
      this.#waitRoom.push(operation);
      this.makeRoom();
      return;
    }
    this.#pin(operation);
  }

  /**
   * The client has moved from one connection to another: its writes and flushes under way are answered on that. Returns the sequences of the
   * writes. All else is asked again: a flush too, for it may not have arrived; if it has, that one is it. Reads are not answered.
   */
  moveOperations(from: number, to: number): number[] {
    const { operations } = this.#leg;
    const sequences: number[] = [];
    for (let operation = 0; operation < operations.capacity; operation++) {
      if (operations.connection[operation] !== from) continue;
      const kind = operations.kind[operation];
      if (isWriteKind(kind)) sequences.push(operations.sequence[operation]);
      else if (kind !== OperationKind.FLUSH) continue;
      operations.connection[operation] = to;
    }
    return sequences;
  }

  /** READ of the session in force. */
  handleRead(connection: number, message: Message): void {
    const leg = this.#leg;
    const isServed = leg.isMember || this.#target.isActive;
    // The answer is one frame, and the disk reads into one slot.
    const fitsFrame = message.length <= MAX_PAYLOAD_BYTES;
    if (!isServed || !fitsFrame || !this.#isInRange(message.offset, message.length)) {
      leg.send(connection, MessageType.DATA, message.requestId, isServed ? EINVAL : ESTALE);
      return;
    }
    const operation = this.#begin(OperationKind.READ, connection, message.offset, message.length);
    if (operation < 0) {
      this.#overCredit(connection, message, -1);
      return;
    }
    leg.operations.requestId[operation] = message.requestId;
    leg.counters.reads++;
    leg.counters.readBytes += message.length;
    if (this.#target.mustWait(operation)) this.#parkForChunk(operation);
    else this.#submit(operation);
  }

  /** FLUSH of the session in force: `sequence` is the barrier. */
  handleFlush(connection: number, message: Message): void {
    const leg = this.#leg;
    // It has come along from another connection, and was sent again because it might not have arrived. One answer is what it gets.
    if (leg.operations.hasFlush(connection, message.requestId)) return;
    const operation = this.#begin(OperationKind.FLUSH, connection, 0, 0);
    if (operation < 0) {
      this.#overCredit(connection, message, -1);
      return;
    }
    leg.operations.requestId[operation] = message.requestId;
    leg.operations.extra[operation] = leg.failedFlushCount;
    leg.counters.flushes++;
    leg.flushBarrier = Math.max(leg.flushBarrier, message.sequence);
    leg.unflushed.rotate();
    leg.operations.state[operation] = OperationState.DISK;
    leg.outputs.push(OutputKind.DISK_FLUSH).token = operation;
  }

  /** The client's watermark has moved. */
  handleWatermark(watermark: number): void {
    const leg = this.#leg;
    if (watermark <= leg.watermark) return;
    const wasSound = leg.isSound;
    // The client serves: the members were made equal.
    if (leg.watermark === 0 && leg.isMember) {
      leg.becameEqual();
      this.#metadata.writeIntents(true);
    }
    leg.watermark = watermark;
    const hasHeard = leg.servesApplication && leg.hasFlushedSince && watermark > leg.failedBarrier;
    if (hasHeard) leg.hasFailedFlush = false;
    // The client's word that the legs are equal.
    if (leg.isMember) leg.isWhole = true;
    // Noted on disk, so that the end of this process is not taken for a loss.
    if (leg.isSound && !wasSound) this.#metadata.writeOwn();
    leg.unflushed.forget(watermark);
    if (this.#waitRoom.length > 0) this.makeRoom();
  }

  /** A flush outside any request: at the end of a session. */
  flushSession(): number {
    const operation = this.#leg.operations.allocate(OperationKind.SESSION_FLUSH, -1, 0, 0);
    assert(operation >= 0, "The operation table has room for what a leg does by itself");
    this.#leg.operations.state[operation] = OperationState.DISK;
    this.#leg.outputs.push(OutputKind.DISK_FLUSH).token = operation;
    return operation;
  }

  /** A flush has failed, of a client's or the leg's own. Noted on disk: whoever claims the leg after this process has ended is told as well. */
  noteFailedFlush(result: number): void {
    const leg = this.#leg;
    const isNews = !leg.hasFailedFlush;
    const wasNoted = !leg.isSound && !leg.isStable;
    leg.noteFailedFlush();
    if (isNews) {
      leg.event("error", "flush-failed", `A flush has failed (${result}): what it was for may not be on the disk`);
    }
    if (!wasNoted) this.#metadata.writeOwn();
  }

  /** Disk I/O of a client's operation has ended. */
  diskDone(operation: number, result: number, slot: number): void {
    const leg = this.#leg;
    const operations = leg.operations;
    const kind = operations.kind[operation];
    const connection = operations.connection[operation];
    // Only the session that asked is answered.
    const isLive = leg.session !== null && leg.session.connection === connection;
    leg.clientOperations--;
    if (kind === OperationKind.READ) {
      operations.slot[operation] = -1;
      if (!isLive || result < 0) leg.freeSlot(slot);
      if (isLive) {
        const answer = leg.send(connection, MessageType.DATA, operations.requestId[operation], result);
        answer.message.offset = operations.offset[operation];
        answer.message.length = operations.lengthBytes[operation];
        if (result === 0) {
          answer.message.payloadLength = operations.lengthBytes[operation];
          answer.slot = slot;
          answer.freeAfterSend = true;
        }
      }
      operations.free(operation);
      return;
    }
    if (result < 0) leg.noteFailure();
    // A write with FUA is a write and a flush, and who knows which of them it was.
    const isFlush = kind === OperationKind.FLUSH || (operations.flags[operation] & MessageFlag.FUA) !== 0;
    if (result < 0 && isFlush) this.noteFailedFlush(result);
    if (kind === OperationKind.FLUSH) {
      if (result === 0 && operations.extra[operation] === leg.failedFlushCount) leg.hasFlushedSince = true;
      if (isLive) leg.send(connection, MessageType.ACK, operations.requestId[operation], result);
      operations.free(operation);
      return;
    }
    if (
      result === 0 && kind !== OperationKind.WRITE && operations.state[operation] === OperationState.DISK &&
      (operations.flags[operation] & MessageFlag.FUA) !== 0
    ) {
      leg.clientOperations++;
      operations.state[operation] = OperationState.FUA_FLUSH;
      leg.outputs.push(OutputKind.DISK_FLUSH).token = operation;
      return;
    }
    if (isLive) leg.send(connection, MessageType.ACK, operations.requestId[operation], result);
    const offset = operations.offset[operation];
    const lengthBytes = operations.lengthBytes[operation];
    this.#endWrite(operation, true);
    this.#target.writeDone(offset, lengthBytes, result);
  }

  /** An intent block is on disk (or could not be written): the writes that waited for it go on. */
  intentsWritten(result: number): void {
    if (result < 0) {
      // Without a durable intent no data may be written: what waits is answered with an error and the client drops us.
      for (const operation of this.#waitIntent.splice(0)) this.#fail(operation, EIO);
      return;
    }
    const waiting = this.#waitIntent.splice(0);
    for (const operation of waiting) {
      if (this.#isDurable(operation)) this.#submitWrite(operation);
      else this.#waitIntent.push(operation);
    }
    this.#metadata.writeIntents(false);
    this.makeRoom();
  }

  /** Chunks have arrived or a resync has ended: operations that waited for them try again. */
  retryWaiting(): void {
    if (this.#waitChunk.length === 0) return;
    const leg = this.#leg;
    const waiting = this.#waitChunk.splice(0);
    for (const operation of waiting) {
      if (this.#target.mustWait(operation)) this.#waitChunk.push(operation);
      else if (leg.operations.kind[operation] === OperationKind.READ && !leg.isMember && !this.#target.isActive) {
        this.#refuseRead(operation);
      } else this.#submit(operation);
    }
  }

  /** The chunks that waiting operations touch, to be pulled first. */
  forEachAwaited(call: (offset: number, lengthBytes: number) => void): void {
    const operations = this.#leg.operations;
    for (const operation of this.#waitChunk) call(operations.offset[operation], operations.lengthBytes[operation]);
  }

  get awaitedCount(): number {
    return this.#waitChunk.length;
  }

  /** Makes room in the intent log: forgets what may be, saves the pages that stand in the way, asks the client for a flush. */
  makeRoom(): void {
    const leg = this.#leg;
    const intents = leg.intents;
    if (intents.freeCount * 8 < intents.capacity || this.#waitRoom.length > 0) {
      // A quarter of the log, or what the first in line takes: it may be more.
      const room = Math.max(Math.ceil(intents.capacity / 4), this.#waitRoom.length === 0 ? 0 : this.#extentsOfFirst());
      const goal = room - intents.freeCount;
      let forgotten = this.forgetIntents(goal, leg.watermark, true);
      if (forgotten < goal) forgotten += this.forgetIntents(goal - forgotten, leg.watermark, false);
      if (forgotten < goal) {
        this.#metadata.savePages();
        this.#askForFlush();
      }
    }
    while (this.#waitRoom.length > 0) {
      const operation = this.#waitRoom[0];
      const result = this.#tryPin(operation);
      if (result === Pin.FULL) break;
      this.#waitRoom.shift();
      this.#pinned(operation, result);
    }
    if (this.#waitIntent.length > 0) this.#metadata.writeIntents(false);
  }

  /**
   * Forgets extents that nobody needs. A leg out of sync keeps them all until the client has taken them over as suspicions against it,
   * which it has when it orders the resync: what such a leg wrote last may be on no other.
   */
  forgetIntents(most: number, watermark: number, onlyCold: boolean): number {
    const leg = this.#leg;
    if (!leg.isMember && !this.#target.isActive) return 0;
    if (leg.savedMapResets !== leg.mapResets) return 0;
    return leg.intents.forget(most, watermark, onlyCold, (extent) => leg.pagesSaved(extent));
  }

  /** The session is over: what has not reached the disk never will. */
  discardWaiting(): void {
    for (const operation of this.#waitRoom.splice(0)) this.#discard(operation, false);
    for (const operation of this.#waitIntent.splice(0)) this.#discard(operation, true);
    for (const operation of this.#waitChunk.splice(0)) {
      this.#discard(operation, this.#leg.operations.kind[operation] !== OperationKind.READ);
    }
  }

  /** Whether writes wait for room in the intent log. */
  get hasWritesWithoutRoom(): boolean {
    return this.#waitRoom.length > 0;
  }

  /** Operations that wait for something other than the disk. */
  get waitingCount(): number {
    return this.#waitRoom.length + this.#waitIntent.length + this.#waitChunk.length;
  }

  #pin(operation: number): void {
    const result = this.#tryPin(operation);
    if (result === Pin.FULL) {
      this.#leg.operations.state[operation] = OperationState.WAIT_ROOM;
      this.#waitRoom.push(operation);
      this.makeRoom();
      return;
    }
    this.#pinned(operation, result);
    if (result === Pin.PENDING) {
      this.#metadata.writeIntents(false);
      // Well before it is full, so that writes need not wait for a flush.
      if (this.#leg.intents.freeCount * 8 < this.#leg.intents.capacity) this.makeRoom();
    }
  }

  #pinned(operation: number, result: number): void {
    if (result === Pin.HOT) this.#submitWrite(operation);
    else {
      this.#leg.operations.state[operation] = OperationState.WAIT_INTENT;
      this.#waitIntent.push(operation);
    }
  }

  /** Extents that the operation touches which has waited longest for room. */
  #extentsOfFirst(): number {
    const { offset, lengthBytes } = this.#leg.operations;
    const operation = this.#waitRoom[0];
    return this.#leg.extentOf(offset[operation] + lengthBytes[operation] - 1) - this.#leg.extentOf(offset[operation]) +
      1;
  }

  #tryPin(operation: number): number {
    const leg = this.#leg;
    const offset = leg.operations.offset[operation];
    const last = leg.extentOf(offset + leg.operations.lengthBytes[operation] - 1);
    return leg.intents.pin(leg.extentOf(offset), last, leg.operations.sequence[operation]);
  }

  #isDurable(operation: number): boolean {
    const leg = this.#leg;
    const offset = leg.operations.offset[operation];
    const last = leg.extentOf(offset + leg.operations.lengthBytes[operation] - 1);
    return leg.intents.isDurable(leg.extentOf(offset), last);
  }

  #submitWrite(operation: number): void {
    if (this.#target.mustWait(operation)) this.#parkForChunk(operation);
    else this.#submit(operation);
  }

  #parkForChunk(operation: number): void {
    this.#leg.operations.state[operation] = OperationState.WAIT_CHUNK;
    this.#waitChunk.push(operation);
  }

  #submit(operation: number): void {
    const leg = this.#leg;
    const operations = leg.operations;
    const kind = operations.kind[operation];
    operations.state[operation] = OperationState.DISK;
    const output = leg.outputs.push(
      kind === OperationKind.READ
        ? OutputKind.DISK_READ
        : kind === OperationKind.WRITE
        ? OutputKind.DISK_WRITE
        : OutputKind.DISK_ZERO,
    );
    output.token = operation;
    output.offset = operations.offset[operation];
    output.lengthBytes = operations.lengthBytes[operation];
    output.slot = operations.slot[operation];
    output.flags = operations.flags[operation];
    if (kind === OperationKind.ZERO || kind === OperationKind.READ) return;
    if (kind === OperationKind.DISCARD) output.flags &= ~MessageFlag.NO_HOLE;
  }

  /** Frees a write: its payload, its pins, its place. */
  #endWrite(operation: number, isPinned: boolean): void {
    const leg = this.#leg;
    const operations = leg.operations;
    const offset = operations.offset[operation];
    const lengthBytes = operations.lengthBytes[operation];
    leg.freeSlot(operations.slot[operation]);
    operations.slot[operation] = -1;
    if (isPinned) leg.intents.unpin(leg.extentOf(offset), leg.extentOf(offset + lengthBytes - 1));
    leg.writesInFlight.remove(offset, lengthBytes);
    operations.free(operation);
    if (this.#waitRoom.length > 0) this.makeRoom();
  }

  #fail(operation: number, status: number): void {
    const leg = this.#leg;
    const connection = leg.operations.connection[operation];
    leg.noteFailure();
    if (leg.session !== null && leg.session.connection === connection) {
      leg.send(connection, MessageType.ACK, leg.operations.requestId[operation], status);
    }
    leg.clientOperations--;
    this.#endWrite(operation, true);
  }

  /** The resync that a read waited for has ended without this leg being complete. */
  #refuseRead(operation: number): void {
    const leg = this.#leg;
    const connection = leg.operations.connection[operation];
    if (leg.session?.connection === connection) {
      leg.send(connection, MessageType.DATA, leg.operations.requestId[operation], ESTALE);
    }
    leg.clientOperations--;
    leg.operations.free(operation);
  }

  #discard(operation: number, isPinned: boolean): void {
    const leg = this.#leg;
    leg.clientOperations--;
    if (leg.operations.kind[operation] === OperationKind.READ) leg.operations.free(operation);
    else this.#endWrite(operation, isPinned);
  }

  #askForFlush(): void {
    const leg = this.#leg;
    if (leg.session === null || leg.askedFlushAt === leg.watermark) return;
    leg.askedFlushAt = leg.watermark;
    leg.send(leg.session.connection, MessageType.WANT_FLUSH, 0);
  }

  #isInRange(offset: number, lengthBytes: number): boolean {
    const block = this.#leg.superblock.logicalBlockBytes;
    return lengthBytes > 0 && lengthBytes <= this.#leg.extentBytes * (this.#leg.intents.capacity / 2) &&
      offset % block === 0 && lengthBytes % block === 0 &&
      offset + lengthBytes <= this.#leg.superblock.sizeBytes;
  }

  #reject(connection: number, message: Message, slot: number): void {
    this.#leg.freeSlot(slot);
    this.#leg.send(connection, MessageType.ACK, message.requestId, EINVAL);
  }

  /** Takes up a request; -1 when there is no room. */
  #begin(kind: number, connection: number, offset: number, lengthBytes: number): number {
    const leg = this.#leg;
    const operation = leg.operations.allocate(kind, connection, offset, lengthBytes);
    if (operation >= 0) leg.clientOperations++;
    return operation;
  }

  /** The client has more in flight than there is room for, which is twice what it was granted and more: a broken or hostile peer. */
  #overCredit(connection: number, message: Message, slot: number): void {
    const leg = this.#leg;
    leg.freeSlot(slot);
    const text = "A client sent more requests than it was granted";
    leg.event("error", "over-credit", `${text}; its connection is closed`);
    leg.refuse(connection, message.requestId, "bad-request", text);
    leg.close(connection);
  }
}

function isWriteKind(kind: number): boolean {
  return kind === OperationKind.WRITE || kind === OperationKind.ZERO || kind === OperationKind.DISCARD;
}
