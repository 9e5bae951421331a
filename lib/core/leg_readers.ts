/**
 * What a leg does for readers: clients that have the pool attached read-only, beside one that writes or without any.
 *
 * A leg answers a READ with the data and a hash of it, a HASH with the hash alone, both with the rank of the record under which the range was
 * read; a reader believes only what all members tell alike under one record (reader_pool.ts). So a leg answers only while it may be relied upon
 * to be a member: its record, which is on its disk, has it in sync, and either a client serves the pool with it, or nobody has it and nothing
 * is left to be compared.
 *
 * @module
 */

import { type Message, MessageType } from "../wire/message.ts";
import type { LegContext } from "./leg_context.ts";
import type { LegMetadata } from "./leg_metadata.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";

const EAGAIN = -11;
const EINVAL = -22;
const FNV_PRIME = 0x01000193;

/** The readers of one leg. */
export class LegReaders {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;

  constructor(leg: LegContext, metadata: LegMetadata) {
    this.#leg = leg;
    this.#metadata = metadata;
  }

  /** A frame from a reader. */
  handleMessage(connection: number, message: Message): void {
    const leg = this.#leg;
    if (message.type === MessageType.PING) leg.send(connection, MessageType.PONG, message.requestId);
    else if (message.type === MessageType.READ || message.type === MessageType.HASH) this.#begin(connection, message);
    else leg.refuse(connection, message.requestId, "bad-request", "A reader only reads");
  }

  /** The range has been read, or could not be. */
  diskDone(operation: number, result: number, slot: number): void {
    const leg = this.#leg;
    const { operations } = leg;
    if (result < 0 || !leg.peers.has(operations.connection[operation])) {
      leg.freeSlot(slot);
      this.#end(operation, result, null, -1);
      return;
    }
    operations.slot[operation] = slot;
    operations.state[operation] = OperationState.HASHING;
    const output = leg.outputs.push(OutputKind.HASH);
    output.token = operation;
    output.slot = slot;
    output.lengthBytes = operations.lengthBytes[operation];
  }

  /** It is hashed: two words a chunk. */
  hashed(operation: number, words: Uint32Array): void {
    const { operations } = this.#leg;
    const slot = operations.slot[operation];
    operations.slot[operation] = -1;
    // What was read while the record changed, or the session, says nothing.
    const isSound = this.mayServe && operations.session[operation] === this.#leg.record.generation &&
      operations.sequence[operation] === this.#leg.record.epoch;
    this.#end(operation, isSound ? 0 : EAGAIN, words, slot);
  }

  /** Whether this leg may be relied upon to be a member, with all that was ever acked. */
  get mayServe(): boolean {
    const leg = this.#leg;
    if (!leg.isInSync || !this.#metadata.isRecordSaved) return false;
    if (leg.session !== null) return leg.isMember && leg.watermark > 0;
    return !leg.intentsLost && leg.intents.size === 0 && leg.ownSuspects.bits.count === 0;
  }

  #begin(connection: number, message: Message): void {
    const leg = this.#leg;
    const { offset, length } = message;
    const block = leg.superblock.logicalBlockBytes;
    const isData = message.type === MessageType.READ;
    const isInRange = length > 0 && length <= 1 << 20 && offset % block === 0 && length % block === 0 &&
      offset + length <= leg.superblock.sizeBytes;
    // A reader never crowds out the client: half of the table is the client's.
    const operation = isInRange && this.mayServe && leg.operations.count <= leg.creditRequests + 128
      ? leg.operations.allocate(OperationKind.READER_READ, connection, offset, length)
      : -1;
    if (operation < 0) {
      this.#answer(connection, message.requestId, isData, isInRange ? EAGAIN : EINVAL);
      return;
    }
    const { operations } = leg;
    operations.requestId[operation] = message.requestId;
    operations.extra[operation] = isData ? 1 : 0;
    operations.session[operation] = leg.record.generation;
    operations.sequence[operation] = leg.record.epoch;
    operations.state[operation] = OperationState.DISK;
    leg.counters.reads++;
    leg.counters.readBytes += length;
    const output = leg.outputs.push(OutputKind.DISK_READ);
    output.token = operation;
    output.offset = offset;
    output.lengthBytes = length;
  }

  #end(operation: number, status: number, words: Uint32Array | null, slot: number): void {
    const leg = this.#leg;
    const { connection, requestId, extra, lengthBytes } = leg.operations;
    const isData = extra[operation] === 1;
    const isSent = isData && status === 0 && words !== null && leg.peers.has(connection[operation]);
    if (!isSent) leg.freeSlot(slot);
    if (leg.peers.has(connection[operation])) {
      const answer = this.#answer(connection[operation], requestId[operation], isData, status);
      if (words !== null) foldInto(answer.message, words);
      if (isSent) {
        answer.slot = slot;
        answer.freeAfterSend = true;
        answer.message.length = lengthBytes[operation];
        answer.message.payloadLength = lengthBytes[operation];
      }
    }
    leg.operations.free(operation);
  }

  /** An answer, with the rank of this leg's record. */
  #answer(connection: number, requestId: number, isData: boolean, status: number) {
    const { generation, epoch, historyNumber } = this.#leg.record;
    const type = isData ? MessageType.DATA : MessageType.HASH_DATA;
    const answer = this.#leg.send(connection, type, requestId, status);
    answer.message.sequence = generation;
    answer.message.watermark = epoch;
    answer.message.mask = historyNumber;
    return answer;
  }
}

/** One hash of 64 bits of the hashes of chunks. Each step is one to one, so a difference in one chunk always shows. */
function foldInto(message: Message, words: Uint32Array): void {
  let low = 0;
  let high = 0;
  for (let i = 0; i + 1 < words.length; i += 2) {
    low = Math.imul(low ^ words[i], FNV_PRIME);
    high = Math.imul(high ^ words[i + 1], FNV_PRIME);
  }
  message.resyncSession = low >>> 0;
  message.offset = high >>> 0;
}
