/**
 * Frames of one RDMA connection that wait to be put into packets, in order, bounded in number.
 *
 * @module
 */

import { encodeHeader, HEADER_BYTES, HEADER_TYPE_AT, type Message } from "../../wire/message.ts";

const FIRST_ROOM = 64;

/** See the module's description. The accessors are of the first frame. */
export class FrameQueue {
  /** Bytes of headers and payloads that wait. */
  queuedBytes = 0;
  readonly #maxFrames: number;
  #room = 0;
  #headers = new Uint8Array(0);
  #view = new DataView(new ArrayBuffer(0));
  #payloads: (Uint8Array | null)[] = [];
  #addresses = new Float64Array(0);
  #lengths = new Int32Array(0);
  #tokens = new Float64Array(0);
  #head = 0;
  #count = 0;

  constructor(maxFrames: number) {
    this.#maxFrames = maxFrames;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /**
   * Adds a frame. False when there is no room.
   *
   * @param payload may be longer than the payload of the message
   * @param address of the payload when it is pool memory, 0 when it is ours
   */
  push(message: Message, payload: Uint8Array | null, address: number, token: number): boolean {
    if (this.#count === this.#room && !this.#grow()) return false;
    const index = (this.#head + this.#count) % this.#room;
    encodeHeader(message, this.#view, index * HEADER_BYTES);
    this.#payloads[index] = payload;
    this.#addresses[index] = address;
    this.#lengths[index] = message.payloadLength;
    this.#tokens[index] = token;
    this.#count++;
    this.queuedBytes += HEADER_BYTES + message.payloadLength;
    return true;
  }

  copyHeader(target: Uint8Array, at: number): void {
    const from = this.#head * HEADER_BYTES;
    for (let i = 0; i < HEADER_BYTES; i++) target[at + i] = this.#headers[from + i];
  }

  get type(): number {
    return this.#headers[this.#head * HEADER_BYTES + HEADER_TYPE_AT];
  }

  get payload(): Uint8Array | null {
    return this.#payloads[this.#head];
  }

  get address(): number {
    return this.#addresses[this.#head];
  }

  get payloadLength(): number {
    return this.#lengths[this.#head];
  }

  get token(): number {
    return this.#tokens[this.#head];
  }

  drop(): void {
    const index = this.#head;
    this.queuedBytes -= HEADER_BYTES + this.#lengths[index];
    this.#payloads[index] = null;
    this.#head = (index + 1) % this.#room;
    this.#count--;
  }

  #grow(): boolean {
    const room = this.#room;
    if (room === this.#maxFrames) return false;
    const larger = Math.min(this.#maxFrames, Math.max(FIRST_ROOM, room * 2));
    const headers = new Uint8Array(larger * HEADER_BYTES);
    const payloads: (Uint8Array | null)[] = new Array(larger).fill(null);
    const addresses = new Float64Array(larger);
    const lengths = new Int32Array(larger);
    const tokens = new Float64Array(larger);
    for (let i = 0; i < this.#count; i++) {
      const from = (this.#head + i) % room;
      headers.set(this.#headers.subarray(from * HEADER_BYTES, (from + 1) * HEADER_BYTES), i * HEADER_BYTES);
      payloads[i] = this.#payloads[from];
      addresses[i] = this.#addresses[from];
      lengths[i] = this.#lengths[from];
      tokens[i] = this.#tokens[from];
    }
    this.#headers = headers;
    this.#view = new DataView(headers.buffer);
    this.#payloads = payloads;
    this.#addresses = addresses;
    this.#lengths = lengths;
    this.#tokens = tokens;
    this.#head = 0;
    this.#room = larger;
    return true;
  }
}
