/**
 * The table of NBD requests being worked on, in preallocated typed arrays: nothing is allocated per request.
 *
 * A *request* is what a client asked, from its header to the last byte of its answer being queued. A *part* is what the
 * host is asked: at most 1 MiB of data, or as much of zeroes or trim as it takes at once. A part owns its pool slot.
 * Requests and parts are named by small numbers; a part's number is the host's `tag`.
 *
 * The table is shared by all connections of a server. It knows nothing of sockets or of the host.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** No request, no part, no connection, no slot. */
export const NONE = -1;

/** A part's status while the host works on it. Statuses of the host are 0 or negative. */
export const PART_UNDER_WAY = 1;

/** A part's status before the host has it: its payload is being received, or the host cannot take it yet. */
export const PART_FILLING = 2;

/** Marks a request as free; no command has this number. */
const FREED = 255;

/** Requests and parts of one server. */
export class NbdRequestTable {
  /** Connection that waits for the answer, {@link NONE} when it is gone. */
  readonly connection: Int32Array;
  readonly command: Uint8Array;
  /** Flags for the host (`RequestFlag`). */
  readonly hostFlags: Uint8Array;
  readonly cookieHigh: Uint32Array;
  readonly cookieLow: Uint32Array;
  readonly offset: Float64Array;
  readonly lengthBytes: Uint32Array;
  /** How many of `lengthBytes` have been given to parts. */
  readonly splitBytes: Float64Array;
  /** Parts the host has or is about to get, plus one while the request is still being split. */
  readonly pending: Int32Array;
  /** Chunks of a structured read that have not been queued yet, plus one while it is still being split. */
  readonly unsent: Int32Array;
  /** `Fault` of the first part that failed. */
  readonly fault: Uint8Array;
  /** Parts of a large read that is answered by one simple reply, in order of offset. */
  readonly firstPart: Int32Array;
  readonly lastPart: Int32Array;
  /** 1 once such a reply was begun before all of its parts were there. */
  readonly streaming: Uint8Array;
  /** 1 once the header of a simple reply was queued. */
  readonly headerQueued: Uint8Array;

  readonly partRequest: Int32Array;
  readonly partConnection: Int32Array;
  readonly partSlot: Int32Array;
  readonly partOffset: Float64Array;
  readonly partLengthBytes: Uint32Array;
  /** {@link PART_FILLING}, {@link PART_UNDER_WAY}, then what the host answered. */
  readonly partStatus: Int32Array;
  /** The next part of the same request, in order of offset. */
  readonly partNext: Int32Array;

  readonly requestCapacity: number;
  readonly partCapacity: number;
  readonly #freeRequests: Int32Array;
  #freeRequestCount: number;
  readonly #freeParts: Int32Array;
  #freePartCount: number;

  constructor(requestCapacity: number, partCapacity: number) {
    assert(requestCapacity > 0 && partCapacity > 0, "a request table has room", requestCapacity, partCapacity);
    this.requestCapacity = requestCapacity;
    this.partCapacity = partCapacity;
    this.connection = new Int32Array(requestCapacity).fill(NONE);
    this.command = new Uint8Array(requestCapacity).fill(FREED);
    this.hostFlags = new Uint8Array(requestCapacity);
    this.cookieHigh = new Uint32Array(requestCapacity);
    this.cookieLow = new Uint32Array(requestCapacity);
    this.offset = new Float64Array(requestCapacity);
    this.lengthBytes = new Uint32Array(requestCapacity);
    this.splitBytes = new Float64Array(requestCapacity);
    this.pending = new Int32Array(requestCapacity);
    this.unsent = new Int32Array(requestCapacity);
    this.fault = new Uint8Array(requestCapacity);
    this.firstPart = new Int32Array(requestCapacity).fill(NONE);
    this.lastPart = new Int32Array(requestCapacity).fill(NONE);
    this.streaming = new Uint8Array(requestCapacity);
    this.headerQueued = new Uint8Array(requestCapacity);
    this.partRequest = new Int32Array(partCapacity).fill(NONE);
    this.partConnection = new Int32Array(partCapacity).fill(NONE);
    this.partSlot = new Int32Array(partCapacity).fill(NONE);
    this.partOffset = new Float64Array(partCapacity);
    this.partLengthBytes = new Uint32Array(partCapacity);
    this.partStatus = new Int32Array(partCapacity);
    this.partNext = new Int32Array(partCapacity).fill(NONE);
    this.#freeRequests = new Int32Array(requestCapacity);
    for (let i = 0; i < requestCapacity; i++) this.#freeRequests[i] = requestCapacity - 1 - i;
    this.#freeRequestCount = requestCapacity;
    this.#freeParts = new Int32Array(partCapacity);
    for (let i = 0; i < partCapacity; i++) this.#freeParts[i] = partCapacity - 1 - i;
    this.#freePartCount = partCapacity;
  }

  get freeRequestCount(): number {
    return this.#freeRequestCount;
  }

  get freePartCount(): number {
    return this.#freePartCount;
  }

  /** Takes a request, all fields reset. There must be one. */
  openRequest(connection: number): number {
    assert(this.#freeRequestCount > 0, "a request is free");
    const request = this.#freeRequests[--this.#freeRequestCount];
    this.connection[request] = connection;
    this.hostFlags[request] = 0;
    this.splitBytes[request] = 0;
    this.pending[request] = 0;
    this.unsent[request] = 0;
    this.fault[request] = 0;
    this.firstPart[request] = NONE;
    this.lastPart[request] = NONE;
    this.streaming[request] = 0;
    this.headerQueued[request] = 0;
    this.command[request] = 0;
    return request;
  }

  closeRequest(request: number): void {
    assert(this.command[request] !== FREED, "a request is closed once", request);
    this.command[request] = FREED;
    this.connection[request] = NONE;
    this.#freeRequests[this.#freeRequestCount++] = request;
  }

  /** Takes a part for the next `lengthBytes` of `request`. There must be one. */
  openPart(request: number, slot: number, lengthBytes: number): number {
    assert(this.#freePartCount > 0, "a part is free");
    const part = this.#freeParts[--this.#freePartCount];
    this.partRequest[part] = request;
    this.partConnection[part] = this.connection[request];
    this.partSlot[part] = slot;
    this.partOffset[part] = this.offset[request] + this.splitBytes[request];
    this.partLengthBytes[part] = lengthBytes;
    this.partStatus[part] = PART_FILLING;
    this.partNext[part] = NONE;
    this.splitBytes[request] += lengthBytes;
    return part;
  }

  /** Gives the part back; its slot must have been taken off it. */
  closePart(part: number): void {
    assert(this.partRequest[part] !== NONE, "a part is closed once", part);
    assert(this.partSlot[part] === NONE, "a part is closed without a slot", part);
    this.partRequest[part] = NONE;
    this.partConnection[part] = NONE;
    this.#freeParts[this.#freePartCount++] = part;
  }

  /** Whether `part` is in use. */
  isPartOpen(part: number): boolean {
    return part >= 0 && part < this.partCapacity && this.partRequest[part] !== NONE;
  }
}
