/**
 * A stream socket in memory: the test is the peer. Nothing moves by itself; `pump` lets bytes arrive, `completeSend` lets
 * one send complete. Staging, send area and queue are small and bounded, as those of a real socket.
 *
 * @module
 */

import { assert } from "../../../lib/base/assert.ts";
import { concat } from "./nbd_wire.ts";
import type { StreamProtocol, StreamSocket } from "../../../lib/io/stream_socket.ts";

/** Sizes of a {@link MemoryStream}; all in bytes but `sendQueueCount`. */
export interface MemoryStreamOptions {
  stagingBytes?: number;
  sendAreaBytes?: number;
  /** Payloads up to this length are copied. */
  copyBytes?: number;
  /** Payloads in the queue at once. */
  sendQueueCount?: number;
  /** Bytes that arrive at once. */
  arrivalBytes?: number;
}

interface SendPiece {
  bytes: Uint8Array;
  /** -1: bytes of the send area. */
  token: number;
}

/** One stream, as the protocol under test sees it. */
export class MemoryStream implements StreamSocket {
  readonly sendBytes: Uint8Array;
  readonly sendView: DataView;
  lastReceivedMs = 0;
  isClosed = false;
  closeReason = 0;
  /** Sends begun so far. */
  sendCount = 0;
  #protocol: StreamProtocol;
  #options: Required<MemoryStreamOptions>;
  #staging: Uint8Array;
  #stagingView: DataView;
  #start = 0;
  #end = 0;
  #incoming: Uint8Array = new Uint8Array(0);
  #peerEnded = false;
  #paused = false;
  #inOnBytes = false;
  #payload: Uint8Array | null = null;
  #payloadFilled = 0;
  #queue: SendPiece[] = [];
  #inFlight: SendPiece[] = [];
  #areaUsed = 0;
  readonly #delivered: Uint8Array[] = [];
  #closing: number | null = null;
  #closesWhenSent = false;

  constructor(protocol: StreamProtocol, options: MemoryStreamOptions = {}) {
    this.#protocol = protocol;
    this.#options = {
      stagingBytes: 65536,
      sendAreaBytes: 65536,
      copyBytes: 512,
      sendQueueCount: 64,
      arrivalBytes: 1 << 30,
      ...options,
    };
    this.#staging = new Uint8Array(this.#options.stagingBytes);
    this.#stagingView = new DataView(this.#staging.buffer);
    this.sendBytes = new Uint8Array(this.#options.sendAreaBytes);
    this.sendView = new DataView(this.sendBytes.buffer);
  }

  // ---- the peer's side ----

  /** The peer sends `bytes`. */
  feed(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#incoming.length + bytes.length);
    all.set(this.#incoming);
    all.set(bytes, this.#incoming.length);
    this.#incoming = all;
  }

  /** The peer closes its side. */
  end(): void {
    this.#peerEnded = true;
  }

  /** What the peer has received since it was asked last. */
  takeDelivered(): Uint8Array {
    return concat(...this.#delivered.splice(0));
  }

  get isPaused(): boolean {
    return this.#paused;
  }

  /** Lets bytes arrive until nothing moves. Returns whether anything did. */
  pump(): boolean {
    let moved = false;
    while (!this.isClosed) {
      if (this.#closing !== null) {
        this.#finishClose();
        return true;
      }
      if (this.#payload !== null && this.#incoming.length > 0) {
        this.#fillFrom(this.#takeIncoming(this.#payload.length - this.#payloadFilled));
        moved = true;
        continue;
      }
      if (this.#payload !== null || this.#paused) break;
      const room = this.#staging.length - (this.#end - this.#start);
      const arriving = Math.min(room, this.#incoming.length, this.#options.arrivalBytes);
      if (arriving === 0) break;
      this.#staging.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
      this.#staging.set(this.#takeIncoming(arriving), this.#end);
      this.#end += arriving;
      moved = true;
      this.#offer();
    }
    if (!this.isClosed && this.#peerEnded && this.#incoming.length === 0 && !this.#paused && this.#closing === null) {
      this.#closing = 0;
      this.#finishClose();
      return true;
    }
    return moved;
  }

  /** Lets the send that is under way complete: its bytes reach the peer. Returns whether there was one. */
  completeSend(): boolean {
    if (this.#inFlight.length === 0 || this.isClosed) return false;
    const pieces = this.#inFlight;
    this.#inFlight = [];
    if (this.#queue.length === 0) this.#areaUsed = 0;
    for (const piece of pieces) {
      this.#delivered.push(piece.bytes.slice());
      if (piece.token >= 0) this.#protocol.onSent(piece.token, piece.bytes.length);
    }
    this.#closeIfSent();
    return true;
  }

  // ---- the protocol's side ----

  expectPayload(bytes: Uint8Array, _address: number, lengthBytes: number): void {
    assert(this.#inOnBytes, "expectPayload is called from within onBytes");
    assert(this.#payload === null, "one payload is expected at a time");
    assert(bytes.length >= lengthBytes, "the payload fits its place", bytes.length, lengthBytes);
    this.#payload = bytes.subarray(0, lengthBytes);
    this.#payloadFilled = 0;
  }

  reserve(lengthBytes: number): number {
    if (this.#closing !== null || this.#closesWhenSent || this.#areaUsed + lengthBytes > this.sendBytes.length) {
      return -1;
    }
    const at = this.#areaUsed;
    this.#areaUsed += lengthBytes;
    this.#queue.push({ bytes: this.sendBytes.subarray(at, at + lengthBytes), token: -1 });
    return at;
  }

  queuePayload(bytes: Uint8Array, _address: number, lengthBytes: number, token: number): boolean {
    if (this.#closing !== null) return false;
    if (lengthBytes <= this.#options.copyBytes) {
      const at = this.reserve(lengthBytes);
      if (at < 0) return false;
      this.sendBytes.set(bytes.subarray(0, lengthBytes), at);
      if (token >= 0) this.#protocol.onSent(token, lengthBytes);
      return true;
    }
    this.#queue.push({ bytes: bytes.subarray(0, lengthBytes), token });
    return true;
  }

  get canSend(): boolean {
    return this.#closing === null && !this.isClosed && !this.#closesWhenSent &&
      this.sendBytes.length - this.#areaUsed >= 256 + this.#options.copyBytes &&
      this.#queue.length < this.#options.sendQueueCount;
  }

  flushSends(): void {
    if (this.#inFlight.length > 0 || this.#queue.length === 0 || this.#closing !== null) return;
    this.#inFlight = this.#queue;
    this.#queue = [];
    this.sendCount++;
  }

  closeWhenSent(): void {
    this.#closesWhenSent = true;
    this.#closeIfSent();
  }

  #closeIfSent(): void {
    if (!this.#closesWhenSent) return;
    if (this.#queue.length > 0) this.flushSends();
    else if (this.#inFlight.length === 0) this.#closing ??= 0;
  }

  resumeReceiving(): void {
    assert(this.#paused, "only a paused stream is resumed");
    this.#paused = false;
    if (!this.#inOnBytes) this.#offer();
  }

  close(): void {
    assert(!this.isClosed, "a closed stream is not used");
    if (this.#closing === null) this.#closing = -103;
  }

  // ---- inside ----

  #takeIncoming(lengthBytes: number): Uint8Array {
    const taken = this.#incoming.subarray(0, lengthBytes);
    this.#incoming = this.#incoming.subarray(taken.length);
    return taken;
  }

  /** Offers staged bytes for as long as the protocol uses some. */
  #offer(): void {
    while (this.#end > this.#start && !this.#paused && this.#closing === null && this.#payload === null) {
      this.#inOnBytes = true;
      const consumed = this.#protocol.onBytes(this.#staging, this.#stagingView, this.#start, this.#end);
      this.#inOnBytes = false;
      if (consumed === -1) {
        assert(this.#payload === null, "no payload is expected by a protocol that pauses");
        this.#paused = true;
        return;
      }
      assert(consumed >= 0 && consumed <= this.#end - this.#start, "consumed bytes were there", consumed);
      this.#start += consumed;
      const payload = this.#payload as Uint8Array | null;
      if (payload !== null) {
        const staged = Math.min(this.#end - this.#start, payload.length);
        const piece = this.#staging.slice(this.#start, this.#start + staged);
        this.#start += staged;
        this.#fillFrom(piece);
      } else if (consumed === 0) return;
    }
  }

  #fillFrom(bytes: Uint8Array): void {
    this.#payload!.set(bytes, this.#payloadFilled);
    this.#payloadFilled += bytes.length;
    if (this.#payloadFilled < this.#payload!.length) return;
    this.#payload = null;
    this.#protocol.onPayload();
  }

  #finishClose(): void {
    this.isClosed = true;
    this.closeReason = this.#closing!;
    const unsent = [...this.#inFlight, ...this.#queue];
    this.#inFlight = [];
    this.#queue = [];
    for (const piece of unsent) {
      if (piece.token >= 0) this.#protocol.onSent(piece.token, -125);
    }
    this.#protocol.onClosed(this.closeReason);
  }
}
