/**
 * Frames of one connection that its stream has no room for yet, in order.
 *
 * Promises: bounded in frames (`push` says false beyond that; bytes are bounded by who pushes); frames leave in the order pushed and whole,
 * however little room the stream has at a time; nothing is allocated per frame, but for payloads that have to be copied.
 * The memory of the ring itself is taken when a frame first has to wait: most connections never need it.
 *
 * @module
 */

import { encodeHeader, HEADER_BYTES, type Message } from "../wire/message.ts";
import type { FrameStream } from "./stream_network.ts";

/**
 * Copied payloads go into the stream's send area in pieces of this size, so that a large one leaves through an area of any
 * size.
 */
export const COPY_PIECE_BYTES = 4096;

/** See the module's description. */
export class SendBacklog {
  /** Bytes of headers and payloads that wait. */
  queuedBytes = 0;
  readonly #maxFrames: number;
  #headers: DataView | null = null;
  #payloads: (Uint8Array | null)[] = [];
  #addresses = new Float64Array(0);
  #lengths = new Int32Array(0);
  #tokens = new Float64Array(0);
  /** 1 where the payload is a copy that we own, to be copied once more into the send area. */
  #owned = new Uint8Array(0);
  #head = 0;
  #count = 0;
  #headerOut = false;
  #copiedBytes = 0;

  constructor(maxFrames: number) {
    this.#maxFrames = maxFrames;
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /**
   * Adds a frame at the end. `payload` may be longer than the payload of the message. False when it is full.
   *
   * @param address of the payload, for sending in place; 0 with `owned`
   * @param token returned by the stream when the payload has left; -1 for none
   * @param owned the payload is not pool memory and stays untouched until it has left
   * @param headerOut the header is already in the stream; only for a frame that is to be the first
   */
  push(
    message: Message,
    payload: Uint8Array | null,
    address: number,
    token: number,
    owned: boolean,
    headerOut: boolean,
  ): boolean {
    if (this.#count === this.#maxFrames) return false;
    if (this.#headers === null) this.#takeMemory();
    const index = (this.#head + this.#count) % this.#maxFrames;
    encodeHeader(message, this.#headers!, index * HEADER_BYTES);
    this.#payloads[index] = payload;
    this.#addresses[index] = address;
    this.#lengths[index] = message.payloadLength;
    this.#tokens[index] = token;
    this.#owned[index] = owned ? 1 : 0;
    if (headerOut) this.#headerOut = true;
    this.#count++;
    this.queuedBytes += HEADER_BYTES + message.payloadLength;
    return true;
  }

  /** Moves frames into `stream` for as long as it has room. */
  pump(stream: FrameStream): void {
    while (this.#count > 0 && stream.canSend && this.#pumpFirst(stream)) this.#dropFirst();
  }

  /** The token of the first frame that waits, which is dropped; -1 for one without. Only when something waits. */
  takeToken(): number {
    const token = this.#tokens[this.#head];
    this.#dropFirst();
    return token;
  }

  /** Whether the first frame has left whole. */
  #pumpFirst(stream: FrameStream): boolean {
    const index = this.#head;
    if (!this.#headerOut) {
      const at = stream.reserve(HEADER_BYTES);
      if (at < 0) return false;
      copyHeader(this.#headers!, index * HEADER_BYTES, stream.sendView, at);
      this.#headerOut = true;
    }
    const payload = this.#payloads[index];
    if (payload === null) return true;
    const lengthBytes = this.#lengths[index];
    if (this.#owned[index] === 0) {
      return stream.queuePayload(payload, this.#addresses[index], lengthBytes, this.#tokens[index]);
    }
    while (this.#copiedBytes < lengthBytes) {
      const pieceBytes = Math.min(lengthBytes - this.#copiedBytes, COPY_PIECE_BYTES);
      const at = stream.reserve(pieceBytes);
      if (at < 0) return false;
      stream.sendBytes.set(payload.subarray(this.#copiedBytes, this.#copiedBytes + pieceBytes), at);
      this.#copiedBytes += pieceBytes;
    }
    return true;
  }

  #dropFirst(): void {
    const index = this.#head;
    this.queuedBytes -= HEADER_BYTES + this.#lengths[index];
    this.#payloads[index] = null;
    this.#headerOut = false;
    this.#copiedBytes = 0;
    this.#head = (index + 1) % this.#maxFrames;
    this.#count--;
  }

  #takeMemory(): void {
    this.#headers = new DataView(new ArrayBuffer(this.#maxFrames * HEADER_BYTES));
    this.#payloads = new Array(this.#maxFrames).fill(null);
    this.#addresses = new Float64Array(this.#maxFrames);
    this.#lengths = new Int32Array(this.#maxFrames);
    this.#tokens = new Float64Array(this.#maxFrames);
    this.#owned = new Uint8Array(this.#maxFrames);
  }
}

function copyHeader(source: DataView, sourceAt: number, target: DataView, targetAt: number): void {
  for (let i = 0; i < HEADER_BYTES; i += 4) {
    target.setUint32(targetAt + i, source.getUint32(sourceAt + i, true), true);
  }
}
