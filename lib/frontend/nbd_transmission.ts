/**
 * The transmission phase of one NBD connection: requests in, parts to the host, answers back.
 *
 * How a request goes. Its header is read and checked. What is wrong is answered at once (a write's payload is drained
 * first), and the connection goes on. What is right takes a place in the request table and is split into parts. A write's
 * payload is received straight into the slot of its part, which is submitted when whole. When all parts are done the
 * answer is queued: a read in structured replies is answered chunk by chunk, everything else at once.
 *
 * When something is short (the host's queue, pool memory, the table) the connection stops receiving and waits, in the
 * common line (`nbd_admission.ts`) or for its own earlier requests. It never queues what it has not room for.
 *
 * A read above 1 MiB without structured replies is one reply with one header, so the header waits for all parts. Only
 * when memory runs out before that, and nothing else of this connection is unanswered, is the reply begun early; should
 * a later part fail, the protocol leaves nothing but to drop the connection.
 *
 * A connection that dies leaves its parts at the host; they come back to the server as orphans.
 *
 * @module
 */

import type { StreamSocket } from "../io/stream_socket.ts";
import { RequestFlag } from "./frontend.ts";
import type { NbdAdmission } from "./nbd_admission.ts";
import type { NbdExport } from "./nbd_export.ts";
import { checkRequest, Fault, hostFault } from "./nbd_fault.ts";
import { Command, CommandFlag, REQUEST_HEADER_BYTES, REQUEST_MAGIC } from "./nbd_protocol.ts";
import { NbdParts } from "./nbd_parts.ts";
import { NbdReplies, type ReplyLinks } from "./nbd_replies.ts";
import { type NbdRequestTable, NONE } from "./nbd_request_table.ts";
import { Receive, Wait } from "./nbd_receive_state.ts";
import type { Waiter } from "./waiting_line.ts";

/** The largest refused payload that is drained; a client that announces more is broken or malicious, and is dropped. */
const MAX_DRAIN_BYTES = 64 << 20;
const TWO_32 = 4294967296;

/** What was agreed on in the handshake. */
export interface NbdTerms {
  readonly structuredReplies: boolean;
  readonly contextSelected: boolean;
}

/** One connection in its transmission phase. */
export class NbdTransmission implements Waiter {
  readonly connection: number;
  readonly replies: NbdReplies;
  readonly #admission: NbdAdmission;
  readonly #table: NbdRequestTable;
  readonly #target: NbdExport;
  readonly #terms: NbdTerms;
  readonly #stream: StreamSocket;
  readonly #parts: NbdParts;
  #receive: number = Receive.HEADER;
  #wait: number = Wait.NOTHING;
  /** The stream was told to stop (-1) and has to be set going again. */
  #paused = false;
  /** Within `onBytes`: the stream does not know yet whether it is stopped. */
  #isParsing = false;
  /** The request that is being received or split, and its part that is being filled. */
  #request = NONE;
  #part = NONE;
  /** The current request still holds its `pending` (and `unsent`) up, because parts of it are to come. */
  #holds = false;
  /** The last step failed for want of memory, its own or that of those before it in line. */
  #shortOfMemory = false;
  /** Has stood in line for its next request, and need not again. */
  #mayPass = false;
  #drainBytes = 0;
  #finishing = false;

  constructor(
    connection: number,
    admission: NbdAdmission,
    links: ReplyLinks,
    target: NbdExport,
    terms: NbdTerms,
    stream: StreamSocket,
  ) {
    this.connection = connection;
    this.#admission = admission;
    this.#table = admission.table;
    this.#target = target;
    this.#terms = terms;
    this.#stream = stream;
    this.#parts = new NbdParts(connection, admission, !terms.structuredReplies);
    this.replies = new NbdReplies(admission, links, stream, terms.structuredReplies);
  }

  /** No request will be taken any more, and every answer is in the socket. */
  get isFinished(): boolean {
    return this.#receive === Receive.ENDED && this.replies.openRequestCount === 0;
  }

  /** Takes no further request; those begun are answered. A write whose payload is not whole is given up. */
  finish(): void {
    this.#finishing = true;
    if (this.#receive !== Receive.SPLIT && this.#receive !== Receive.SUBMIT) this.#end();
  }

  /** `StreamProtocol.onBytes`. Lets those in line go on, which may include this connection: then it tries again. */
  onBytes(view: DataView, start: number, end: number): number {
    let consumedBytes = 0;
    this.#isParsing = true;
    do {
      this.#admission.enter();
      consumedBytes = this.#parse(view, start, end);
      this.#admission.exit();
    } while (consumedBytes < 0 && !this.#paused);
    this.#isParsing = false;
    return consumedBytes;
  }

  #parse(view: DataView, start: number, end: number): number {
    let at = start;
    for (;;) {
      switch (this.#receive) {
        case Receive.HEADER:
          if (end - at < REQUEST_HEADER_BYTES) return at - start;
          if (view.getUint32(at) !== REQUEST_MAGIC) {
            this.#drop();
            return end - start;
          }
          if (!this.#mayOpen()) return at > start ? at - start : this.#pause();
          this.#open(view, at);
          at += REQUEST_HEADER_BYTES;
          break;
        case Receive.PLACE: {
          if (this.#wait !== Wait.NOTHING || !this.#place()) return at > start ? at - start : this.#pause();
          const slot = this.#table.partSlot[this.#part];
          const pool = this.#admission.pool;
          this.#receive = Receive.PAYLOAD;
          this.#stream.expectPayload(pool.bytes(slot), pool.address(slot), this.#table.partLengthBytes[this.#part]);
          return at - start;
        }
        case Receive.DRAIN: {
          const drainedBytes = Math.min(this.#drainBytes, end - at);
          at += drainedBytes;
          this.#drainBytes -= drainedBytes;
          if (this.#drainBytes > 0) return at - start;
          const request = this.#request;
          this.#request = NONE;
          this.#receive = Receive.HEADER;
          this.replies.pushRequest(request);
          break;
        }
        case Receive.SPLIT:
        case Receive.SUBMIT:
          return at > start ? at - start : this.#pause();
        case Receive.PAYLOAD:
          return at - start;
        default:
          return end - start; // ended: thrown away
      }
    }
  }

  /** `StreamProtocol.onPayload`: the current part is whole. */
  onPayload(): void {
    if (this.#receive !== Receive.PAYLOAD) return; // given up meanwhile
    this.#receive = Receive.SUBMIT;
    this.#submitFilled();
  }

  /** `StreamProtocol.onSent`: the data of `part` has left, or never will. */
  onSent(part: number): void {
    this.#parts.close(part);
    this.resumeOwn();
  }

  /** The host has done `part`, one of this connection's. */
  onPartDone(part: number, status: number): void {
    const table = this.#table;
    const request = table.partRequest[part];
    table.partStatus[part] = status;
    table.pending[request]--;
    if (status < 0 && table.fault[request] === Fault.NONE) table.fault[request] = hostFault(status);
    if (table.command[request] !== Command.READ) {
      this.#parts.close(part);
      if (table.pending[request] === 0) this.replies.pushRequest(request);
    } else if (this.#terms.structuredReplies) {
      if (status < 0) this.#parts.release(part);
      this.replies.pushPart(part);
    } else this.#advanceSimpleRead(request);
    this.resumeOwn();
  }

  /** Something of this connection's own has moved: an answer was queued, a slot freed, room made in the socket. */
  resumeOwn(): void {
    if (this.#wait === Wait.NOTHING) return;
    if (this.#wait === Wait.OWN) {
      this.#setWait(Wait.NOTHING);
      this.#step();
      this.#unpause();
    }
    this.#beginEarly();
  }

  /** `Waiter.advance`: tries again as the head of the line. */
  advance(): boolean {
    if (this.#receive === Receive.HEADER) {
      this.#mayPass = this.#table.freeRequestCount > 0;
      if (this.#mayPass) this.#setWait(Wait.NOTHING);
    } else this.#step();
    if (this.#wait === Wait.LINE || this.#wait === Wait.SUBMIT_LINE) return false;
    this.#unpause();
    return true;
  }

  /** The stream is dead: everything that is not at the host is given back; what is there becomes an orphan. */
  onClosed(): void {
    this.#setWait(Wait.NOTHING);
    this.replies.abandon();
    this.#abandonCurrent();
    this.#receive = Receive.ENDED;
    this.#parts.abandonConnection();
  }

  // ---- beginning a request ----

  #mayOpen(): boolean {
    if (this.#wait !== Wait.NOTHING) return false;
    if (this.replies.openRequestCount >= this.#admission.limits.requestsPerConnection) {
      this.#setWait(Wait.OWN);
      return false;
    }
    const mayTake = this.#mayPass || this.#admission.mayTake(this.connection);
    this.#mayPass = false;
    if (mayTake && this.#table.freeRequestCount > 0) return true;
    this.#setWait(Wait.LINE);
    return false;
  }

  /** Reads the header at `at` ("Request message") and begins the request. */
  #open(view: DataView, at: number): void {
    const table = this.#table;
    const flags = view.getUint16(at + 4);
    const command = view.getUint16(at + 6);
    const offsetHigh = view.getUint32(at + 16);
    const offset = offsetHigh > 0x1fffff ? Infinity : offsetHigh * TWO_32 + view.getUint32(at + 20);
    const lengthBytes = view.getUint32(at + 24);
    if (command === Command.DISC) return this.#end();
    if (command === Command.WRITE && lengthBytes > MAX_DRAIN_BYTES) return this.#drop();
    const request = table.openRequest(this.connection);
    this.replies.openRequestCount++;
    table.cookieHigh[request] = view.getUint32(at + 8);
    table.cookieLow[request] = view.getUint32(at + 12);
    table.offset[request] = offset;
    table.lengthBytes[request] = lengthBytes;
    const { structuredReplies, contextSelected } = this.#terms;
    const fault = checkRequest(
      this.#target,
      structuredReplies,
      contextSelected,
      command,
      flags,
      offset,
      lengthBytes,
    );
    table.fault[request] = fault;
    if (fault !== Fault.NONE) {
      if (command === Command.WRITE && lengthBytes > 0) {
        this.#request = request;
        this.#drainBytes = lengthBytes;
        this.#receive = Receive.DRAIN;
      } else this.replies.pushRequest(request);
      return;
    }
    table.command[request] = command;
    // Prefetching is a hint, and legs keep no cache to fill. Block status is known without asking anyone.
    if (command === Command.CACHE || command === Command.BLOCK_STATUS) return this.replies.pushRequest(request);
    if (command === Command.WRITE || command === Command.WRITE_ZEROES || command === Command.TRIM) {
      let hostFlags = (flags & CommandFlag.FUA) !== 0 ? RequestFlag.FUA : 0;
      if ((flags & CommandFlag.NO_HOLE) !== 0) hostFlags |= RequestFlag.NO_HOLE;
      table.hostFlags[request] = hostFlags;
    }
    table.pending[request] = 1;
    table.unsent[request] = 1;
    this.#holds = true;
    this.#request = request;
    this.#receive = command === Command.WRITE ? Receive.PLACE : Receive.SPLIT;
    if (command !== Command.WRITE) this.#split();
  }

  // ---- parts ----

  /** What the receiving side was held up in. */
  #step(): void {
    if (this.#receive === Receive.SPLIT) this.#split();
    else if (this.#receive === Receive.PLACE) this.#place();
    else if (this.#receive === Receive.SUBMIT) this.#submitFilled();
  }

  /** Gives the host as many parts of the current request, which is no write, as it can take. */
  #split(): void {
    const admission = this.#admission;
    const { geometry } = admission.host;
    const table = this.#table;
    this.#shortOfMemory = false;
    while (this.#receive === Receive.SPLIT) {
      const isHead = admission.mayTake(this.connection);
      if (!admission.host.canSubmit || !isHead || table.freePartCount === 0) {
        this.#setWait(Wait.LINE);
        // Those before it in line may wait for the very memory that this read holds.
        this.#shortOfMemory = !isHead;
        return this.#beginEarly();
      }
      const request = this.#request;
      const isRead = table.command[request] === Command.READ;
      const lengthBytes = this.#nextPartBytes(isRead ? geometry.maxPayloadBytes : geometry.maxRangeBytes);
      const slot = isRead ? this.#obtainSlot(lengthBytes) : NONE;
      if (isRead && slot === NONE) return this.#beginEarly();
      const part = this.#openPart(slot, lengthBytes);
      if (!this.#holds) {
        this.#request = NONE;
        this.#receive = Receive.HEADER;
        this.#setWait(Wait.NOTHING);
      }
      this.#parts.submit(part);
    }
    if (this.#finishing) this.#end();
  }

  /** Finds a slot for the next part of the current write. False: none to be had, and waiting. */
  #place(): boolean {
    if (this.#part !== NONE) return true;
    const admission = this.#admission;
    this.#shortOfMemory = false;
    if (!admission.mayTake(this.connection) || this.#table.freePartCount === 0) {
      this.#setWait(Wait.LINE);
      return false;
    }
    const lengthBytes = this.#nextPartBytes(admission.host.geometry.maxPayloadBytes);
    const slot = this.#obtainSlot(lengthBytes);
    if (slot === NONE) return false;
    this.#part = this.#openPart(slot, lengthBytes);
    this.#setWait(Wait.NOTHING);
    return true;
  }

  /** Hands the part that has its payload to the host, or waits until the host can take it. */
  #submitFilled(): void {
    if (!this.#admission.maySubmit(this.connection)) return this.#setWait(Wait.SUBMIT_LINE);
    const part = this.#part;
    this.#part = NONE;
    this.#setWait(Wait.NOTHING);
    if (this.#holds) this.#receive = Receive.PLACE;
    else {
      this.#request = NONE;
      this.#receive = Receive.HEADER;
    }
    this.#parts.submit(part);
    if (this.#finishing) this.#end();
  }

  #nextPartBytes(limitBytes: number): number {
    return Math.min(limitBytes, this.#table.lengthBytes[this.#request] - this.#table.splitBytes[this.#request]);
  }

  /** A slot, or {@link NONE}; then this connection waits. */
  #obtainSlot(lengthBytes: number): number {
    const overShare = this.#admission.isOverShare(this.connection, lengthBytes);
    const slot = overShare ? NONE : this.#admission.allocate(this.connection, lengthBytes);
    if (slot === NONE) {
      this.#shortOfMemory = true;
      this.#setWait(overShare ? Wait.OWN : Wait.LINE);
    }
    return slot;
  }

  /** Opens the current request's next part. The last one lets go of the request. */
  #openPart(slot: number, lengthBytes: number): number {
    const request = this.#request;
    const part = this.#parts.open(request, slot, lengthBytes);
    if (this.#table.splitBytes[request] === this.#table.lengthBytes[request]) this.#holds = false;
    return part;
  }

  // ---- reads answered by a simple reply ----

  #advanceSimpleRead(request: number): void {
    const table = this.#table;
    if (table.streaming[request] === 1) {
      if (table.fault[request] !== Fault.NONE) this.#drop();
      else this.#pushLeading(request);
      return;
    }
    if (table.fault[request] !== Fault.NONE && this.#request === request) {
      // The answer is an error already: what has not been asked of the host need not be.
      table.pending[request]--;
      this.#holds = false;
      this.#request = NONE;
      this.#receive = Receive.HEADER;
      this.#setWait(Wait.NOTHING);
      if (this.#finishing) this.#end();
      else this.#unpause();
    }
    if (table.pending[request] > 0) return;
    if (table.fault[request] === Fault.NONE) return this.#pushLeading(request);
    for (let part = table.firstPart[request]; part !== NONE;) {
      const next = table.partNext[part];
      this.#parts.close(part);
      part = next;
    }
    this.replies.pushRequest(request);
  }

  /** Queues the parts that are done, up to the first that is not. */
  #pushLeading(request: number): void {
    const table = this.#table;
    let part = table.firstPart[request];
    while (part !== NONE && table.partStatus[part] === 0) {
      const next = table.partNext[part];
      table.firstPart[request] = next;
      if (next === NONE) table.lastPart[request] = NONE;
      this.replies.pushPart(part); // may be the end of the part, and of the request
      part = next;
    }
  }

  /** Begins the reply to a large simple read for want of memory, when nothing else of this connection could free any. */
  #beginEarly(): void {
    const request = this.#request;
    if (this.#receive !== Receive.SPLIT || !this.#shortOfMemory || this.#terms.structuredReplies) return;
    if (this.replies.openRequestCount !== 1) return;
    const table = this.#table;
    if (table.firstPart[request] === NONE || table.partStatus[table.firstPart[request]] !== 0) return;
    table.streaming[request] = 1;
    this.#pushLeading(request);
  }

  // ---- pausing and ending ----

  #setWait(wait: number): void {
    if (wait === this.#wait) return;
    const { line, submitLine } = this.#admission;
    if (this.#wait === Wait.LINE) line.leave(this);
    else if (this.#wait === Wait.SUBMIT_LINE) submitLine.leave(this);
    this.#wait = wait;
    if (wait === Wait.LINE) line.wait(this);
    else if (wait === Wait.SUBMIT_LINE) submitLine.wait(this);
  }

  #pause(): number {
    this.#paused = true;
    return -1;
  }

  /** Receives again, unless there is something to wait for. */
  #unpause(): void {
    if (!this.#paused || this.#wait !== Wait.NOTHING) return;
    this.#paused = false;
    if (!this.#isParsing) this.#stream.resumeReceiving();
  }

  /** Nothing more is taken from the client. It still receives, so that the client's going away is noticed. */
  #end(): void {
    this.#setWait(Wait.NOTHING);
    this.#abandonCurrent();
    this.#receive = Receive.ENDED;
    this.#unpause();
  }

  /** The client has broken the framing, or cannot be answered truly: the connection is closed. */
  #drop(): void {
    this.replies.abandon();
    this.#end();
    this.#stream.close();
  }

  /** The request being received or split will never be whole: it gets no answer. */
  #abandonCurrent(): void {
    const request = this.#request;
    if (request === NONE) return;
    const held = this.#holds;
    this.#request = NONE;
    this.#part = NONE;
    this.#holds = false;
    this.replies.openRequestCount--;
    this.#parts.abandonRequest(request, held);
  }
}
