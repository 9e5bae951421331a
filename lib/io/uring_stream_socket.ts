/**
 * {@link StreamSocket} on a {@link UringReactor}, for TCP and unix sockets.
 *
 * Receiving. One receive is in flight at a time. It goes into the staging area, or, when the rest of a payload is awaited,
 * straight to where the payload belongs and completes only when all of it is there. How much a staging receive asks for
 * follows the traffic: everything there is while frames are small (one receive brings many of them, and copying a small
 * payload is cheaper than an operation of its own), only a little after a large payload (so that the next one is not
 * staged in order to be copied).
 *
 * Sending. What is queued is a ring of *pieces*, which is the iovec the kernel takes: a run of bytes in the send area
 * (frames queued one after the other are one piece), or a payload in its own place. A send takes what is queued at
 * that moment; when it is done, the next one starts by itself. Small frames, which nobody waits for to leave, are sent by
 * a call of its own at the end of the turn: a send on the ring would complete at once, too, and its completion would cut
 * short the wait that the same io_uring_enter begins, for a turn that has nothing to do.
 *
 * Dying. Whatever ends the stream (close, end of file, an error), the socket is shut down, which ends what is in flight; then
 * every token goes back, the descriptor is closed, and `onClosed` is the last thing the protocol hears.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { CompletionFlag } from "../../ffi/uring/constants.ts";
import { sendNow } from "../../ffi/libc/socket.ts";
import { SendQueue } from "./send_queue.ts";
import { type StreamMemory, takeStreamMemory } from "./stream_memory.ts";
import type { StreamProtocol, StreamSocket } from "./stream_socket.ts";
import type { UringReactor } from "./uring_reactor.ts";

/** What a {@link UringStreamSocket} needs. */
export interface UringStreamSocketOptions {
  readonly reactor: UringReactor;
  /** A connected stream socket; owned by the stream from now on. */
  readonly socket: number;
  readonly protocol: StreamProtocol;
  /** Bytes received in one go at most, and so the largest header. Default 128 KiB. */
  readonly stagingBytes?: number;
  /** Bytes of headers and copied payloads that can wait to be sent. Default 256 KiB. */
  readonly sendAreaBytes?: number;
  /** Payloads up to this many bytes are copied into the send area. Default 8 KiB. */
  readonly copyLimitBytes?: number;
}

const TOKEN_RECEIVE = 1;
const TOKEN_SEND = 2;
const TOKEN_SHUTDOWN = 3;
const TOKEN_CLOSE = 4;
const TOKEN_RESUME = 5;

const DEFAULT_STAGING_BYTES = 128 * 1024;
const DEFAULT_SEND_AREA_BYTES = 256 * 1024;
const DEFAULT_COPY_LIMIT_BYTES = 8 * 1024;
/** Payloads from here on count as large: receiving them in place is cheaper than copying. */
const LARGE_PAYLOAD_BYTES = 24 * 1024;
/** What a staging receive asks for after a large payload: a header, and little of what may follow. */
const SMALL_RECEIVE_BYTES = 2048;

/** A stream on io_uring. Starts to receive at once. */
export class UringStreamSocket implements StreamSocket {
  readonly sendBytes: Uint8Array;
  readonly sendView: DataView;
  lastReceivedMs: number;

  readonly #reactor: UringReactor;
  readonly #protocol: StreamProtocol;
  readonly #socket: number;
  /** The socket as operations name it: its place among the fixed files, if there was one. */
  readonly #file: number;
  readonly #owner: number;
  readonly #memory: StreamMemory;
  readonly #queue: SendQueue;

  // Receiving.
  readonly #staging: Uint8Array;
  readonly #stagingView: DataView;
  readonly #stagingAddress: number;
  readonly #stagingBytes: number;
  #start = 0;
  #end = 0;
  #isReceiving = false;
  #isPaused = false;
  #isResuming = false;
  #isParsing = false;
  #payload: Uint8Array | null = null;
  #payloadAddress = 0;
  /** Bytes of the payload that a receive in place still has to bring; 0 while staging. */
  #payloadLeft = 0;
  #payloadLength = 0;
  #payloadsAreLarge = false;
  #moreIsThere = false;

  // Sending and dying.
  #isSending = false;
  /** Something was refused because the queue is full. */
  #isRoomAwaited = false;
  #closesWhenSent = false;
  #isDying = false;
  #isShuttingDown = false;
  #isClosing = false;
  #reason = 0;

  constructor(options: UringStreamSocketOptions) {
    const { reactor, socket, protocol } = options;
    this.#reactor = reactor;
    this.#protocol = protocol;
    this.#socket = socket;
    this.#file = reactor.registerFile(socket);
    this.#owner = reactor.register(this);
    this.#stagingBytes = options.stagingBytes ?? DEFAULT_STAGING_BYTES;
    const sendAreaBytes = options.sendAreaBytes ?? DEFAULT_SEND_AREA_BYTES;
    const copyLimitBytes = options.copyLimitBytes ?? DEFAULT_COPY_LIMIT_BYTES;
    this.#memory = takeStreamMemory(this.#stagingBytes, sendAreaBytes);
    this.#staging = this.#memory.staging;
    this.#stagingView = this.#memory.stagingView;
    this.#stagingAddress = this.#memory.stagingAddress;
    this.sendBytes = this.#memory.sendArea;
    this.sendView = this.#memory.sendAreaView;
    this.#queue = new SendQueue(this.#memory, copyLimitBytes, (token, result) => protocol.onSent(token, result));
    this.lastReceivedMs = reactor.nowMs;
    this.#receiveStaged();
  }

  get canSend(): boolean {
    if (this.#isDying || this.#closesWhenSent) return false;
    const hasRoom = this.#queue.hasRoomForFrame;
    if (!hasRoom) this.#isRoomAwaited = true;
    return hasRoom;
  }

  get isSendIdle(): boolean {
    return !this.#isSending && this.#queue.isEmpty;
  }

  /** Bytes queued and not yet taken by the network. */
  get queuedBytes(): number {
    return this.#queue.queuedBytes;
  }

  /** Whether the protocol stopped reading (-1 from `onBytes`): then silence says nothing about the peer. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  expectPayload(bytes: Uint8Array, address: number, lengthBytes: number): void {
    assert(this.#isParsing && this.#payload === null, "a payload is expected from within onBytes, one at a time");
    assert(lengthBytes <= bytes.length, "a payload fits its place", lengthBytes, bytes.length);
    this.#payload = bytes;
    this.#payloadAddress = address;
    this.#payloadLength = lengthBytes;
  }

  reserve(lengthBytes: number): number {
    if (this.#isDying || this.#closesWhenSent) return -1;
    const place = this.#queue.reserve(lengthBytes);
    if (place < 0) this.#isRoomAwaited = true;
    return place;
  }

  queuePayload(bytes: Uint8Array, address: number, lengthBytes: number, token: number): boolean {
    if (this.#isDying || this.#closesWhenSent) return false;
    const isQueued = this.#queue.queuePayload(bytes, address, lengthBytes, token);
    if (!isQueued) this.#isRoomAwaited = true;
    return isQueued;
  }

  flushSends(): void {
    if (this.#isSending || this.#isDying || this.#queue.isEmpty) return;
    const queue = this.#queue;
    // Who was refused for want of room tries again after the next turn, so there has to be one.
    if (!this.#isRoomAwaited && queue.isWithoutTokens && this.#sendAtOnce()) return;
    this.#isSending = true;
    if (queue.prepareSend() === 1) {
      this.#reactor.send(this.#owner, TOKEN_SEND, this.#file, queue.firstAddress, queue.firstLength, true);
    } else {
      this.#reactor.sendMessage(this.#owner, TOKEN_SEND, this.#file, queue.messageAddress, true);
    }
  }

  /** Sends without the ring what the socket takes. Whether that was all. */
  #sendAtOnce(): boolean {
    const queue = this.#queue;
    queue.prepareSend();
    const result = sendNow(this.#socket, this.#memory.messagePointer);
    // What is wrong with the socket is left for the send on the ring to tell, in its own time.
    queue.consume(result > 0 ? result : 0);
    return queue.isEmpty;
  }

  resumeReceiving(): void {
    if (!this.#isPaused || this.#isResuming || this.#isDying) return;
    // Parsing goes on in a turn, so that the protocol is never called from within its own call.
    this.#isResuming = true;
    this.#reactor.nop(this.#owner, TOKEN_RESUME);
  }

  /** Ends the stream now; what is queued and not sent is dropped. `onClosed(reason)` follows. */
  close(reason = 0): void {
    this.#die(reason);
  }

  /** Ends the stream once all that is queued has left. Nothing more can be queued. The peer's pace decides when. */
  closeWhenSent(): void {
    this.#closesWhenSent = true;
    this.flushSends();
    if (this.#queue.isEmpty && !this.#isSending) this.#die(0);
  }

  /** From the reactor. */
  onCompletion(token: number, result: number, flags: number): void {
    switch (token) {
      case TOKEN_RECEIVE:
        this.#isReceiving = false;
        if (!this.#isDying) this.#received(result, flags);
        break;
      case TOKEN_SEND:
        this.#sent(result);
        break;
      case TOKEN_RESUME:
        this.#isResuming = false;
        this.#isPaused = false;
        if (!this.#isDying) this.#parse();
        break;
      case TOKEN_SHUTDOWN:
        this.#isShuttingDown = false; // its result is of no interest: the peer may have been faster
        break;
      case TOKEN_CLOSE:
        this.#reactor.unregister(this.#owner);
        this.#memory.giveBack();
        this.#protocol.onClosed(this.#reason);
        return;
    }
    if (this.#isDying) this.#finishWhenIdle();
  }

  #received(result: number, flags: number): void {
    if (result <= 0) {
      if (result !== -Errno.EINTR && result !== -Errno.EAGAIN) this.#die(result);
      else if (this.#payloadLeft > 0) this.#receivePayload();
      else this.#receiveStaged();
      return;
    }
    this.lastReceivedMs = this.#reactor.nowMs;
    this.#moreIsThere = (flags & CompletionFlag.SOCKET_NONEMPTY) !== 0;
    if (this.#payloadLeft === 0) {
      this.#end += result;
      this.#parse();
      return;
    }
    this.#payloadLeft -= result;
    this.#payloadAddress += result;
    if (this.#payloadLeft > 0) {
      this.#receivePayload();
      return;
    }
    this.#payload = null;
    this.#protocol.onPayload();
    if (!this.#isDying) this.#receiveStaged();
  }

  /** Feeds staged bytes to the protocol until it wants more than there is. */
  #parse(): void {
    const protocol = this.#protocol;
    const staging = this.#staging;
    while (this.#start < this.#end) {
      this.#isParsing = true;
      const consumed = protocol.onBytes(staging, this.#stagingView, this.#start, this.#end);
      this.#isParsing = false;
      if (this.#isDying) return;
      if (consumed < 0) {
        this.#isPaused = true;
        return;
      }
      assert(consumed <= this.#end - this.#start, "a protocol consumes what there is", consumed);
      this.#start += consumed;
      const payload = this.#payload;
      if (payload === null) {
        if (consumed === 0) break;
        continue;
      }
      const lengthBytes = this.#payloadLength;
      const stagedBytes = Math.min(lengthBytes, this.#end - this.#start);
      if (stagedBytes > 0) {
        payload.set(staging.subarray(this.#start, this.#start + stagedBytes));
        this.#start += stagedBytes;
      }
      this.#payloadsAreLarge = lengthBytes >= LARGE_PAYLOAD_BYTES;
      if (stagedBytes < lengthBytes) {
        this.#start = this.#end = 0;
        this.#payloadAddress += stagedBytes;
        this.#payloadLeft = lengthBytes - stagedBytes;
        this.#receivePayload();
        return;
      }
      this.#payload = null;
      protocol.onPayload();
      if (this.#isDying) return;
    }
    this.#receiveStaged();
  }

  #receivePayload(): void {
    this.#isReceiving = true;
    this.#reactor.receive(
      this.#owner,
      TOKEN_RECEIVE,
      this.#file,
      this.#payloadAddress,
      this.#payloadLeft,
      true,
      !this.#moreIsThere,
    );
  }

  #receiveStaged(): void {
    if (this.#start === this.#end) {
      this.#start = this.#end = 0;
    } else if (this.#start > 0 && this.#end > this.#stagingBytes >> 1) {
      this.#staging.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    let roomBytes = this.#stagingBytes - this.#end;
    if (roomBytes === 0) {
      // The protocol wants a header larger than the staging area; only a broken peer makes it so.
      this.#die(-Errno.EMSGSIZE);
      return;
    }
    if (this.#payloadsAreLarge && roomBytes > SMALL_RECEIVE_BYTES) roomBytes = SMALL_RECEIVE_BYTES;
    this.#isReceiving = true;
    this.#reactor.receive(
      this.#owner,
      TOKEN_RECEIVE,
      this.#file,
      this.#stagingAddress + this.#end,
      roomBytes,
      false,
      !this.#moreIsThere,
    );
  }

  #sent(result: number): void {
    this.#isSending = false;
    this.#isRoomAwaited = false;
    if (result > 0) {
      // Sends started by `onSent` wait: the pieces of this one are still being taken off the queue.
      this.#isSending = true;
      this.#queue.consume(result);
      this.#isSending = false;
    }
    if (this.#isDying) return;
    if (result <= 0 && result !== -Errno.EINTR && result !== -Errno.EAGAIN) {
      this.#die(result === 0 ? -Errno.EPIPE : result);
    } else if (!this.#queue.isEmpty) {
      this.flushSends();
    } else if (this.#closesWhenSent) {
      this.#die(0);
    }
  }

  #die(reason: number): void {
    if (this.#isDying) return;
    this.#isDying = true;
    this.#reason = reason;
    this.#isShuttingDown = true;
    this.#reactor.shutdown(this.#owner, TOKEN_SHUTDOWN, this.#file);
  }

  #finishWhenIdle(): void {
    if (this.#isReceiving || this.#isSending || this.#isResuming || this.#isShuttingDown || this.#isClosing) return;
    this.#isClosing = true;
    this.#queue.abandon(-Errno.ECANCELED);
    this.#reactor.unregisterFile(this.#file);
    this.#reactor.close(this.#owner, TOKEN_CLOSE, this.#socket);
  }
}
