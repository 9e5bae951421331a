/**
 * The requests of one client that are under way: parallel arrays with a free list, fixed in size.
 *
 * A request id on the wire is `serial * capacity + index`: a late answer to an index that has been given to another request since
 * is recognised and ignored.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { COPY_KIND, RequestKind } from "./request_kind.ts";

/** Where a request stands. */
export const RequestState = {
  FREE: 0,
  /** The pool is not being served now. */
  HELD: 1,
  /** Something in flight overlaps it, or a limit is reached. */
  WAITING: 2,
  ACTIVE: 3,
} as const;

/** First request id that stands for control frames rather than requests. */
export const CONTROL_REQUEST_IDS = 0xf0000000;

/** Requests under way. */
export class RequestTable {
  readonly capacity: number;
  readonly state: Uint8Array;
  readonly kind: Uint8Array;
  readonly flags: Uint8Array;
  readonly offset: Float64Array;
  readonly lengthBytes: Uint32Array;
  readonly slot: Int32Array;
  readonly tag: Float64Array;
  readonly sequence: Float64Array;
  /** Legs that must still answer (writes, flushes). */
  readonly waitMask: Uint8Array;
  /** Leg that a read is at, or -1. */
  readonly readLeg: Int8Array;
  /** Connection that a read was sent on. */
  readonly readConnection: Float64Array;
  /** Legs that have failed a read. */
  readonly triedMask: Uint8Array;
  /** Of these, legs whose disk could not read: they are written anew from the leg that could. */
  readonly unreadableMask: Uint8Array;
  /** Whether a read has become the write that repairs those legs. */
  readonly isRepair: Uint8Array;
  /** Whether a read has been answered and waits to be confirmed. */
  readonly isUnconfirmed: Uint8Array;
  /** Whether a read waits for a leg that changes its path. */
  readonly isParked: Uint8Array;
  /** Legs that a write was not sent to when it began, and that are to note so. */
  readonly skipMask: Uint8Array;
  readonly status: Int32Array;
  /** When it was submitted, in ms; for time limits. */
  readonly submittedMs: Float64Array;
  /** When it was last sent, in ms; for slow legs. */
  readonly issuedMs: Float64Array;
  readonly #serial: Uint32Array;
  readonly #serials: number;
  readonly #free: Int32Array;
  #freeCount: number;

  /** @param capacity a power of two, at most 4096 */
  constructor(capacity: number) {
    assert(capacity > 0 && capacity <= 4096 && (capacity & (capacity - 1)) === 0, "A power of two", capacity);
    this.capacity = capacity;
    this.state = new Uint8Array(capacity);
    this.kind = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.offset = new Float64Array(capacity);
    this.lengthBytes = new Uint32Array(capacity);
    this.slot = new Int32Array(capacity);
    this.tag = new Float64Array(capacity);
    this.sequence = new Float64Array(capacity);
    this.waitMask = new Uint8Array(capacity);
    this.readLeg = new Int8Array(capacity);
    this.readConnection = new Float64Array(capacity);
    this.triedMask = new Uint8Array(capacity);
    this.unreadableMask = new Uint8Array(capacity);
    this.isRepair = new Uint8Array(capacity);
    this.isUnconfirmed = new Uint8Array(capacity);
    this.isParked = new Uint8Array(capacity);
    this.skipMask = new Uint8Array(capacity);
    this.status = new Int32Array(capacity);
    this.submittedMs = new Float64Array(capacity);
    this.issuedMs = new Float64Array(capacity);
    this.#serial = new Uint32Array(capacity);
    this.#serials = Math.floor(CONTROL_REQUEST_IDS / capacity);
    this.#free = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.#free[i] = capacity - 1 - i;
    this.#freeCount = capacity;
  }

  get count(): number {
    return this.capacity - this.#freeCount;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** A new request. There must be room. */
  allocate(): number {
    assert(this.#freeCount > 0, "There is room for a request");
    const request = this.#free[--this.#freeCount];
    this.waitMask[request] = 0;
    this.readLeg[request] = -1;
    this.triedMask[request] = 0;
    this.unreadableMask[request] = 0;
    this.isRepair[request] = 0;
    this.isUnconfirmed[request] = 0;
    this.isParked[request] = 0;
    this.status[request] = 0;
    this.sequence[request] = 0;
    return request;
  }

  /** A new request of an application. There must be room. */
  begin(
    kind: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    slot: number,
    tag: number,
    nowMs: number,
  ): number {
    const request = this.allocate();
    this.kind[request] = kind;
    this.flags[request] = flags;
    this.offset[request] = offset;
    this.lengthBytes[request] = lengthBytes;
    this.slot[request] = slot;
    this.tag[request] = tag;
    this.submittedMs[request] = nowMs;
    return request;
  }

  /** The request has not begun after all: it will be sent anew, from the start. */
  undo(request: number): void {
    // What was read may be read anew: whoever serves the pool next knows best what is right.
    if (this.isRepair[request] === 1) this.kind[request] = RequestKind.READ;
    this.isRepair[request] = 0;
    this.waitMask[request] = 0;
    this.readLeg[request] = -1;
    this.isUnconfirmed[request] = 0;
    this.isParked[request] = 0;
    this.status[request] = 0;
    this.renew(request);
  }

  /** Reads that were sent on `connection`. */
  readsOn(connection: number): number[] {
    const reads: number[] = [];
    for (let request = 0; request < this.capacity; request++) {
      if (this.state[request] !== RequestState.ACTIVE || this.readLeg[request] < 0) continue;
      if (this.readConnection[request] === connection) reads.push(request);
    }
    return reads;
  }

  /** The request is done. */
  free(request: number): void {
    assert(this.state[request] !== RequestState.FREE, "A request ends once", request);
    this.state[request] = RequestState.FREE;
    this.renew(request);
    this.#free[this.#freeCount++] = request;
  }

  /** From now on answers to the request as sent so far are ignored. */
  renew(request: number): void {
    this.#serial[request] = (this.#serial[request] + 1) % this.#serials;
  }

  /** The id under which the request goes over the wire. */
  requestId(request: number): number {
    return this.#serial[request] * this.capacity + request;
  }

  /** The active request that an answer is for, or -1. */
  find(requestId: number): number {
    const request = requestId % this.capacity;
    if (this.state[request] !== RequestState.ACTIVE || this.requestId(request) !== requestId) return -1;
    return request;
  }
}

/** The request id of an EPOCH frame. */
export function epochRequestId(epoch: number): number {
  return 0xf1000000 + (epoch % 0x1000000);
}

/** The active requests in the order in which they came. */
export function activeInOrder(requests: RequestTable): number[] {
  const active: number[] = [];
  for (let request = 0; request < requests.capacity; request++) {
    if (requests.state[request] === RequestState.ACTIVE) active.push(request);
  }
  return active.sort((a, b) =>
    requests.submittedMs[a] - requests.submittedMs[b] || requests.sequence[a] - requests.sequence[b]
  );
}

/** Asserts what must hold between inputs. `lock`: the request that holds a range for a verify, -1 for none. */
export function checkRequests(requests: RequestTable, lock: number, isServing: boolean): void {
  const { kind, state } = requests;
  let used = 0;
  for (let request = 0; request < requests.capacity; request++) {
    if (state[request] === RequestState.FREE) continue;
    used++;
    if (state[request] !== RequestState.ACTIVE) continue;
    const isWaiting = kind[request] === RequestKind.READ || kind[request] === COPY_KIND
      ? requests.readLeg[request] >= 0 || requests.isUnconfirmed[request] === 1 || requests.isParked[request] === 1
      : requests.waitMask[request] !== 0;
    assert(isWaiting || request === lock, "Active requests wait", request);
    assert(isServing, "Only a served pool has active requests");
    const isAlone = kind[request] !== RequestKind.READ && kind[request] < RequestKind.FLUSH;
    if (isAlone || kind[request] === COPY_KIND) checkAlone(requests, request, lock);
  }
  assert(used === requests.count, "Requests are counted", used, requests.count);
}

/** Nothing that is in flight overlaps a write that is; what a verify holds only the verify writes. */
function checkAlone(
  { capacity, kind, state, offset, lengthBytes, tag }: RequestTable,
  write: number,
  lock: number,
): void {
  const end = offset[write] + lengthBytes[write];
  for (let other = 0; other < capacity; other++) {
    if (other === write || state[other] !== RequestState.ACTIVE || kind[other] === RequestKind.FLUSH) continue;
    if (other === lock && tag[write] === tag[lock]) continue;
    const isApart = offset[other] >= end || offset[other] + lengthBytes[other] <= offset[write];
    assert(isApart, "Nothing overlaps a write in flight", write, other);
  }
}
