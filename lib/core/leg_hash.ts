/**
 * A leg's part in a verify: it hashes ranges for the client of the session, chunk by chunk.
 *
 * The client asks only while no write of its own touches the range, so that all legs it asks have done the same writes there.
 *
 * @module
 */

import { type Message, MessageType } from "../wire/message.ts";
import type { LegContext } from "./leg_context.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";

const EAGAIN = -11;
const EINVAL = -22;
const ESTALE = -116;

/** Hashes for the client. */
export class LegHash {
  readonly #leg: LegContext;

  constructor(leg: LegContext) {
    this.#leg = leg;
  }

  /** HASH from a client. */
  handle(connection: number, message: Message): void {
    const leg = this.#leg;
    const { offset, length } = message;
    const isInRange = length > 0 && length <= 1 << 20 && offset % leg.chunkBytes === 0 &&
      length % leg.superblock.logicalBlockBytes === 0 && offset + length <= leg.superblock.sizeBytes;
    let status = 0;
    if (leg.session?.connection !== connection || !leg.isMember) status = ESTALE;
    else if (!isInRange) status = EINVAL;
    else if (leg.writesInFlight.any(offset, length)) status = EAGAIN;
    const operation = status === 0
      ? leg.operations.allocate(OperationKind.CLIENT_HASH, connection, offset, length)
      : -1;
    if (operation < 0) {
      this.#answer(connection, message.requestId, offset, length, status === 0 ? EAGAIN : status);
      return;
    }
    leg.operations.requestId[operation] = message.requestId;
    leg.operations.state[operation] = OperationState.DISK;
    const output = leg.outputs.push(OutputKind.DISK_READ);
    output.token = operation;
    output.offset = offset;
    output.lengthBytes = length;
  }

  /** The range has been read, or could not be. */
  diskDone(operation: number, result: number, slot: number): void {
    const leg = this.#leg;
    const operations = leg.operations;
    if (result < 0 || !this.#isAwaited(operation)) {
      operations.slot[operation] = -1;
      leg.freeSlot(slot);
      this.#end(operation, result, null);
      return;
    }
    operations.slot[operation] = slot;
    operations.state[operation] = OperationState.HASHING;
    const output = leg.outputs.push(OutputKind.HASH);
    output.token = operation;
    output.slot = slot;
    output.lengthBytes = operations.lengthBytes[operation];
  }

  /** Hashes are computed: two words a chunk. */
  hashed(operation: number, words: Uint32Array): void {
    const leg = this.#leg;
    leg.freeSlot(leg.operations.slot[operation]);
    leg.operations.slot[operation] = -1;
    this.#end(operation, 0, words);
  }

  /** Whether the session that asked is still in force. */
  #isAwaited(operation: number): boolean {
    return this.#leg.session?.connection === this.#leg.operations.connection[operation];
  }

  #end(operation: number, status: number, words: Uint32Array | null): void {
    const { connection, requestId, offset, lengthBytes } = this.#leg.operations;
    if (this.#isAwaited(operation)) {
      const answer = this.#answer(
        connection[operation],
        requestId[operation],
        offset[operation],
        lengthBytes[operation],
        status,
      );
      if (words !== null) answer.body = words;
    }
    this.#leg.operations.free(operation);
  }

  #answer(connection: number, requestId: number, offset: number, lengthBytes: number, status: number) {
    const answer = this.#leg.send(connection, MessageType.HASH_DATA, requestId, status);
    answer.message.offset = offset;
    answer.message.length = lengthBytes;
    return answer;
  }
}
