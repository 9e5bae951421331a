/**
 * The operations of one leg that are under way: parallel arrays with a free list, fixed in size. An operation is known by its
 * index, which is also the token of its disk I/O.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** What an operation is for. */
export const OperationKind = {
  FREE: 0,
  WRITE: 1,
  ZERO: 2,
  DISCARD: 3,
  READ: 4,
  FLUSH: 5,
  /** Read for a peer. */
  PULL: 6,
  /** Read and hash for a peer. */
  PEER_HASH: 7,
  /** Write of pulled data. */
  RESYNC_WRITE: 8,
  /** Read and hash of our own data, to compare. */
  OWN_HASH: 9,
  /** Flush that precedes CLEAR. */
  RESYNC_FLUSH: 10,
  /** Flush at the end of a session (claim by another, detach, loss). */
  SESSION_FLUSH: 11,
  /** Read and hash for the client, which compares legs. */
  CLIENT_HASH: 12,
  /** Read and hash for a reader. */
  READER_READ: 13,
} as const;

/** Where an operation stands. */
export const OperationState = {
  /** The intent log has no room. */
  WAIT_ROOM: 1,
  /** Its extents are being written to the intent log. */
  WAIT_INTENT: 2,
  /** It touches a chunk that this leg does not have yet. */
  WAIT_CHUNK: 3,
  /** A pull that waits for writes in flight on its range. */
  WAIT_WRITES: 4,
  DISK: 5,
  /** A zero or discard with FUA is done and being flushed. */
  FUA_FLUSH: 6,
  HASHING: 7,
} as const;

/** Entries that only flushes of sessions may take, whatever others ask for: one for records, the others for claims and ends of sessions. */
export const KEPT_FOR_SESSIONS = 5;

/** Operations under way. */
export class OperationTable {
  readonly capacity: number;
  readonly kind: Uint8Array;
  readonly state: Uint8Array;
  readonly flags: Uint8Array;
  /** Float64: keys of connections grow for as long as the node lives. */
  readonly connection: Float64Array;
  readonly requestId: Uint32Array;
  readonly offset: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly slot: Int32Array;
  readonly sequence: Float64Array;
  /** Client session in which a client's operation arrived; resync session of a resync operation. */
  readonly session: Float64Array;
  /** Free for the operation's owner. */
  readonly extra: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.kind = new Uint8Array(capacity);
    this.state = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.connection = new Float64Array(capacity);
    this.requestId = new Uint32Array(capacity);
    this.offset = new Float64Array(capacity);
    this.lengthBytes = new Uint32Array(capacity);
    this.slot = new Int32Array(capacity).fill(-1);
    this.sequence = new Float64Array(capacity);
    this.session = new Float64Array(capacity);
    this.extra = new Int32Array(capacity);
    this.#free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.#free[i] = capacity - 1 - i;
    this.#freeCount = capacity;
  }

  /** Operations under way. */
  get count(): number {
    return this.capacity - this.#freeCount;
  }

  /** A new operation, or -1 when the table is full, but for what is kept for the flushes of sessions. */
  allocate(kind: number, connection: number, offset: number, lengthBytes: number): number {
    if (this.#freeCount <= (kind === OperationKind.SESSION_FLUSH ? 0 : KEPT_FOR_SESSIONS)) return -1;
    const operation = this.#free[--this.#freeCount];
    this.kind[operation] = kind;
    this.state[operation] = 0;
    this.flags[operation] = 0;
    this.connection[operation] = connection;
    this.requestId[operation] = 0;
    this.offset[operation] = offset;
    this.lengthBytes[operation] = lengthBytes;
    this.slot[operation] = -1;
    this.sequence[operation] = 0;
    this.session[operation] = 0;
    this.extra[operation] = 0;
    return operation;
  }

  /** Entries that anybody may take. */
  get freeCount(): number {
    return Math.max(0, this.#freeCount - KEPT_FOR_SESSIONS);
  }

  /** Whether a flush with this request id is under way for `connection`. Looks at all operations. */
  hasFlush(connection: number, requestId: number): boolean {
    for (let operation = 0; operation < this.capacity; operation++) {
      const isFlush = this.kind[operation] === OperationKind.FLUSH && this.requestId[operation] === requestId;
      if (isFlush && this.connection[operation] === connection) return true;
    }
    return false;
  }

  /** Whether a client's write with a sequence of at most `sequence` is under way. Looks at all operations. */
  hasWriteUpTo(sequence: number): boolean {
    for (let operation = 0; operation < this.capacity; operation++) {
      const kind = this.kind[operation];
      const isWrite = kind === OperationKind.WRITE || kind === OperationKind.ZERO || kind === OperationKind.DISCARD;
      if (isWrite && this.sequence[operation] <= sequence) return true;
    }
    return false;
  }

  /** The operation is over. */
  free(operation: number): void {
    assert(this.kind[operation] !== OperationKind.FREE, "An operation ends once", operation);
    assert(this.slot[operation] === -1, "An operation that ends holds no slot", operation, this.slot[operation]);
    this.kind[operation] = OperationKind.FREE;
    this.#free[this.#freeCount++] = operation;
  }
}
