/**
 * The answers of one connection, in the order in which they became ready, on their way into the socket.
 *
 * An *entry* is a part (a piece of read data: header and payload) or a whole request (everything else). It is encoded
 * into the socket's send area at once when there is room, else it waits in a list whose links are preallocated. Read data
 * leaves from its pool slot; the slot is freed when the socket says it has left.
 *
 * Formats: "Simple reply message", "Structured reply chunk message" and "Structured reply types" of the NBD protocol.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { StreamSocket } from "../io/stream_socket.ts";
import type { NbdAdmission } from "./nbd_admission.ts";
import { faultError, faultMessage, hostFault } from "./nbd_fault.ts";
import {
  ALLOCATION_CONTEXT_ID,
  Chunk,
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  Command,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./nbd_protocol.ts";
import { type NbdRequestTable, NONE } from "./nbd_request_table.ts";

const TWO_32 = 4294967296;

/** Links of the lists of ready entries of all connections; shared, because an entry is in one list at most. */
export class ReplyLinks {
  readonly next: Int32Array;
  constructor(table: NbdRequestTable) {
    this.next = new Int32Array(table.partCapacity + table.requestCapacity).fill(NONE);
  }
}

/** Answers of one connection. */
export class NbdReplies {
  readonly #admission: NbdAdmission;
  readonly #table: NbdRequestTable;
  readonly #next: Int32Array;
  readonly #stream: StreamSocket;
  readonly #structured: boolean;
  #first = NONE;
  #last = NONE;
  #abandoned = false;
  /** Requests whose answer is not yet queued whole. */
  openRequestCount = 0;

  constructor(admission: NbdAdmission, links: ReplyLinks, stream: StreamSocket, structured: boolean) {
    this.#admission = admission;
    this.#table = admission.table;
    this.#next = links.next;
    this.#stream = stream;
    this.#structured = structured;
  }

  /** Whether answers wait for room in the socket. */
  get isBlocked(): boolean {
    return this.#first !== NONE;
  }

  /** `part` of a read has its data, or has failed in a structured reply. */
  pushPart(part: number): void {
    this.#push(part);
  }

  /** `request` is to be answered without read data. */
  pushRequest(request: number): void {
    this.#push(this.#table.partCapacity + request);
  }

  #push(entry: number): void {
    this.#next[entry] = NONE;
    if (this.#last === NONE) this.#first = entry;
    else this.#next[this.#last] = entry;
    this.#last = entry;
    this.emit();
  }

  /** Moves what is ready into the socket, as far as it has room. */
  emit(): void {
    while (this.#first !== NONE && !this.#abandoned && this.#stream.canSend) {
      const entry = this.#first;
      const isPart = entry < this.#table.partCapacity;
      if (!(isPart ? this.#emitPart(entry) : this.#emitRequest(entry - this.#table.partCapacity))) return;
    }
  }

  /** Nothing is sent any more; what is ready stays in the table, for the connection's end to clear. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Takes the entry that has just been encoded off the list; before anything that may call back in. */
  #pop(): void {
    const entry = this.#first;
    this.#first = this.#next[entry];
    if (this.#first === NONE) this.#last = NONE;
    this.#next[entry] = NONE;
  }

  #emitPart(part: number): boolean {
    const request = this.#table.partRequest[part];
    return this.#structured ? this.#emitChunk(part, request) : this.#emitSimpleData(part, request);
  }

  #emitChunk(part: number, request: number): boolean {
    const table = this.#table;
    const lengthBytes = table.partLengthBytes[part];
    const fault = hostFault(table.partStatus[part]);
    const isLast = table.unsent[request] === 1;
    const offset = table.partOffset[part];
    if (fault !== 0) {
      if (!this.#writeError(request, fault, offset, Chunk.ERROR_OFFSET, isLast)) return false;
    } else {
      const at = this.#stream.reserve(CHUNK_HEADER_BYTES + 8);
      if (at < 0) return false;
      this.#writeChunkHeader(at, request, Chunk.OFFSET_DATA, 8 + lengthBytes, isLast);
      const view = this.#stream.sendView;
      view.setUint32(at + CHUNK_HEADER_BYTES, offset / TWO_32);
      view.setUint32(at + CHUNK_HEADER_BYTES + 4, offset >>> 0);
    }
    table.unsent[request]--;
    this.#pop();
    if (isLast) this.#finish(request);
    if (fault !== 0) table.closePart(part);
    else this.#queueData(part, lengthBytes);
    return true;
  }

  /** One simple reply carries all parts of its request, in order; the first of them brings the header. */
  #emitSimpleData(part: number, request: number): boolean {
    const table = this.#table;
    if (table.headerQueued[request] === 0) {
      if (!this.#writeSimple(request, 0)) return false;
      table.headerQueued[request] = 1;
    }
    const lengthBytes = table.partLengthBytes[part];
    const isLast = table.partOffset[part] + lengthBytes === table.offset[request] + table.lengthBytes[request];
    this.#pop();
    if (isLast) this.#finish(request);
    this.#queueData(part, lengthBytes);
    return true;
  }

  #queueData(part: number, lengthBytes: number): void {
    const slot = this.#table.partSlot[part];
    const pool = this.#admission.pool;
    const queued = this.#stream.queuePayload(pool.bytes(slot), pool.address(slot), lengthBytes, part);
    assert(queued, "a stream that can send takes header and payload");
  }

  #emitRequest(request: number): boolean {
    const fault = this.#table.fault[request];
    if (fault !== 0 && this.#structured) {
      if (!this.#writeError(request, fault, 0, Chunk.ERROR, true)) return false;
    } else if (fault === 0 && this.#table.command[request] === Command.BLOCK_STATUS) {
      if (!this.#writeBlockStatus(request)) return false;
    } else if (!this.#writeSimple(request, faultError(fault))) return false;
    this.#pop();
    this.#finish(request);
    return true;
  }

  #finish(request: number): void {
    this.openRequestCount--;
    this.#table.closeRequest(request);
  }

  #writeSimple(request: number, error: number): boolean {
    const at = this.#stream.reserve(SIMPLE_REPLY_BYTES);
    if (at < 0) return false;
    const view = this.#stream.sendView;
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, this.#table.cookieHigh[request]);
    view.setUint32(at + 12, this.#table.cookieLow[request]);
    return true;
  }

  #writeChunkHeader(at: number, request: number, type: number, lengthBytes: number, isLast: boolean): void {
    const view = this.#stream.sendView;
    view.setUint32(at, STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, isLast ? CHUNK_DONE : 0);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, this.#table.cookieHigh[request]);
    view.setUint32(at + 12, this.#table.cookieLow[request]);
    view.setUint32(at + 16, lengthBytes);
  }

  /** ERROR, or ERROR_OFFSET with the offset behind the message. */
  #writeError(request: number, fault: number, offset: number, type: number, isLast: boolean): boolean {
    const message = faultMessage(fault);
    const lengthBytes = 6 + message.length + (type === Chunk.ERROR_OFFSET ? 8 : 0);
    const start = this.#stream.reserve(CHUNK_HEADER_BYTES + lengthBytes);
    if (start < 0) return false;
    this.#writeChunkHeader(start, request, type, lengthBytes, isLast);
    const view = this.#stream.sendView;
    const at = start + CHUNK_HEADER_BYTES;
    view.setUint32(at, faultError(fault));
    view.setUint16(at + 4, message.length);
    this.#stream.sendBytes.set(message, at + 6);
    if (type === Chunk.ERROR_OFFSET) {
      view.setUint32(at + 6 + message.length, offset / TWO_32);
      view.setUint32(at + 10 + message.length, offset >>> 0);
    }
    return true;
  }

  /**
   * Block status, context base:allocation. The pool keeps no record of what is allocated, and "allocated, holds data"
   * (flags 0) may always be said: one extent, as long as the question, which suits REQ_ONE too.
   */
  #writeBlockStatus(request: number): boolean {
    const at = this.#stream.reserve(CHUNK_HEADER_BYTES + 12);
    if (at < 0) return false;
    this.#writeChunkHeader(at, request, Chunk.BLOCK_STATUS, 12, true);
    const view = this.#stream.sendView;
    view.setUint32(at + CHUNK_HEADER_BYTES, ALLOCATION_CONTEXT_ID);
    view.setUint32(at + CHUNK_HEADER_BYTES + 4, this.#table.lengthBytes[request]);
    view.setUint32(at + CHUNK_HEADER_BYTES + 8, 0);
    return true;
  }
}
