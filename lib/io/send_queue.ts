/**
 * What a stream still has to send: a ring of pieces, which are the iovecs the kernel takes, over a ring of bytes, the
 * send area.
 *
 * A piece is a run of the send area or a payload in its own place. Runs that follow each other become one piece unless a
 * send of the former is under way. A piece of the area frees what it occupies when it has left, in order, which is all
 * the bookkeeping the area needs.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { IOVEC_BYTES, MAX_PIECES, type StreamMemory } from "./stream_memory.ts";

/** Pieces of one send. More would only make payloads wait longer for their release. */
const MAX_SEND_PIECES = 128;
/** Bytes after which a send takes no further piece, for the same reason. */
const MAX_SEND_BYTES = 1 << 20;
/** Room for a header that `hasRoomForFrame` promises, besides a copied payload. */
const HEADER_ROOM_BYTES = 512;
/** Pieces a frame may need: header, payload, and one more when the area wraps between them. */
const FRAME_PIECES = 3;
const PIECE_MASK = MAX_PIECES - 1;
const TWO_32 = 4294967296;
const NO_TOKEN = -1;

/** Queue of outgoing bytes of one stream. */
export class SendQueue {
  /** Bytes queued, in flight ones included. */
  queuedBytes = 0;
  readonly messageAddress: number;

  readonly #area: Uint8Array;
  readonly #areaAddress: number;
  readonly #areaBytes: number;
  readonly #copyLimitBytes: number;
  readonly #iovecs: Uint32Array;
  readonly #iovecsAddress: number;
  readonly #message: Uint32Array;
  readonly #onSent: (token: number, result: number) => void;

  /** By piece: token or -1; bytes of the area it occupies (with what was skipped before it when the area wrapped). */
  readonly #tokens = new Float64Array(MAX_PIECES).fill(NO_TOKEN);
  readonly #occupies = new Int32Array(MAX_PIECES);
  readonly #lengths = new Int32Array(MAX_PIECES);
  #first = 0;
  #count = 0;
  /** Pieces with a token. */
  #tokenCount = 0;
  /** Pieces that the send under way covers. */
  #inFlight = 0;

  /** The area in use is `[head, head + used)`, modulo its size. */
  #head = 0;
  #tail = 0;
  #used = 0;
  /** Where the run of the last piece ends in the area; -1 when the last piece is no run. */
  #runEnd = -1;

  constructor(memory: StreamMemory, copyLimitBytes: number, onSent: (token: number, result: number) => void) {
    this.#area = memory.sendArea;
    this.#areaAddress = memory.sendAreaAddress;
    this.#areaBytes = memory.sendArea.length;
    this.#copyLimitBytes = copyLimitBytes;
    assert(
      copyLimitBytes + HEADER_ROOM_BYTES <= this.#areaBytes >> 1,
      "a frame fits half of the send area, so that it fits at its end or at its start",
      copyLimitBytes,
      this.#areaBytes,
    );
    this.#iovecs = memory.iovecs;
    this.#iovecsAddress = memory.iovecsAddress;
    this.#message = memory.message;
    this.messageAddress = memory.messageAddress;
    this.#onSent = onSent;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Whether a header of up to 512 bytes and any payload can be queued. */
  get hasRoomForFrame(): boolean {
    return this.#count + FRAME_PIECES <= MAX_PIECES && this.#placeFor(HEADER_ROOM_BYTES + this.#copyLimitBytes) >= 0;
  }

  /** Takes `lengthBytes` of the area and queues them. Returns their offset in it, -1 when there is no room. */
  reserve(lengthBytes: number): number {
    assert(lengthBytes > 0, "a run has bytes", lengthBytes);
    const place = this.#placeFor(lengthBytes);
    if (place < 0) return -1;
    const continues = place === this.#runEnd && this.#count > this.#inFlight;
    if (!continues && this.#count === MAX_PIECES) return -1;
    if (this.#used === 0) {
      this.#head = 0;
      this.#tail = 0;
    }
    const skipped = place < this.#tail ? this.#areaBytes - this.#tail : 0;
    this.#tail = place + lengthBytes;
    this.#used += skipped + lengthBytes;
    this.#runEnd = this.#tail;
    this.queuedBytes += lengthBytes;
    if (continues) {
      const last = (this.#first + this.#count - 1) & PIECE_MASK;
      this.#iovecs[last * 4 + 2] += lengthBytes;
      this.#lengths[last] += lengthBytes;
      this.#occupies[last] += lengthBytes;
    } else {
      this.#push(this.#areaAddress + place, lengthBytes, NO_TOKEN, skipped + lengthBytes);
    }
    return place;
  }

  /** As `StreamSocket.queuePayload`. */
  queuePayload(bytes: Uint8Array, address: number, lengthBytes: number, token: number): boolean {
    if (lengthBytes <= this.#copyLimitBytes) {
      if (lengthBytes === 0) {
        if (token >= 0) this.#onSent(token, 0);
        return true;
      }
      const place = this.reserve(lengthBytes);
      if (place >= 0) {
        this.#area.set(bytes.length === lengthBytes ? bytes : bytes.subarray(0, lengthBytes), place);
        if (token >= 0) this.#onSent(token, lengthBytes);
        return true;
      }
    }
    if (this.#count === MAX_PIECES) return false;
    this.#push(address, lengthBytes, token, 0);
    this.#runEnd = -1;
    this.queuedBytes += lengthBytes;
    return true;
  }

  /** Whether nothing that is queued has a token, so that `consume` calls nobody. */
  get isWithoutTokens(): boolean {
    return this.#tokenCount === 0;
  }

  /** Fixes what the next send covers and fills the message header. Returns the number of its pieces (>= 1). */
  prepareSend(): number {
    const first = this.#first;
    const limit = Math.min(this.#count, MAX_PIECES - first, MAX_SEND_PIECES);
    let pieces = 0;
    let bytes = 0;
    while (pieces < limit && bytes < MAX_SEND_BYTES) bytes += this.#iovecs[(first + pieces++) * 4 + 2];
    this.#inFlight = pieces;
    const address = this.#iovecsAddress + first * IOVEC_BYTES;
    this.#message[4] = address;
    this.#message[5] = address / TWO_32;
    this.#message[6] = pieces;
    return pieces;
  }

  /** Address of the first piece's unsent bytes. */
  get firstAddress(): number {
    return this.#iovecs[this.#first * 4 + 1] * TWO_32 + this.#iovecs[this.#first * 4];
  }

  /** Unsent bytes of the first piece. */
  get firstLength(): number {
    return this.#iovecs[this.#first * 4 + 2];
  }

  /** The send under way took `sentBytes`. Whole pieces leave the queue and their tokens go back. */
  consume(sentBytes: number): void {
    let left = sentBytes;
    while (left > 0) {
      assert(this.#inFlight > 0, "the kernel sends no more than it was given", sentBytes);
      const at = this.#first * 4;
      const lengthBytes = this.#iovecs[at + 2];
      if (left < lengthBytes) {
        const address = this.firstAddress + left;
        this.#iovecs[at] = address;
        this.#iovecs[at + 1] = address / TWO_32;
        this.#iovecs[at + 2] = lengthBytes - left;
        this.queuedBytes -= left;
        break;
      }
      left -= lengthBytes;
      this.#inFlight--;
      this.#pop(this.#lengths[this.#first]);
    }
    this.#inFlight = 0;
  }

  /** Drops everything; every token goes back with `result`. */
  abandon(result: number): void {
    this.#inFlight = 0;
    while (this.#count > 0) this.#pop(result);
  }

  #push(address: number, lengthBytes: number, token: number, occupies: number): void {
    const piece = (this.#first + this.#count) & PIECE_MASK;
    this.#count++;
    const at = piece * 4;
    this.#iovecs[at] = address;
    this.#iovecs[at + 1] = address / TWO_32;
    this.#iovecs[at + 2] = lengthBytes;
    this.#tokens[piece] = token;
    if (token !== NO_TOKEN) this.#tokenCount++;
    this.#lengths[piece] = lengthBytes;
    this.#occupies[piece] = occupies;
  }

  /** Takes the first piece off; its token goes back last, since `onSent` may queue more. */
  #pop(result: number): void {
    const piece = this.#first;
    const occupied = this.#occupies[piece];
    this.#first = (piece + 1) & PIECE_MASK;
    this.#count--;
    this.queuedBytes -= this.#iovecs[piece * 4 + 2];
    this.#used -= occupied;
    this.#head += occupied;
    if (this.#head >= this.#areaBytes) this.#head -= this.#areaBytes;
    if (this.#count === 0) this.#runEnd = -1;
    const token = this.#tokens[piece];
    if (token === NO_TOKEN) return;
    this.#tokenCount--;
    this.#onSent(token, result);
  }

  /** Offset of `lengthBytes` free bytes in one run, -1 when there are none. */
  #placeFor(lengthBytes: number): number {
    if (this.#used === 0) return lengthBytes <= this.#areaBytes ? 0 : -1;
    if (this.#tail > this.#head) {
      if (lengthBytes <= this.#areaBytes - this.#tail) return this.#tail;
      return lengthBytes <= this.#head ? 0 : -1;
    }
    // Wrapped, or full when both are equal.
    return lengthBytes <= this.#head - this.#tail ? this.#tail : -1;
  }
}
