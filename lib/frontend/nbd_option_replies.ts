/**
 * The replies to one option, built in memory of fixed size and then moved into the socket as a whole.
 *
 * Format: "Fixed newstyle negotiation" and "Option reply types" of the NBD protocol.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { StreamSocket } from "../io/stream_socket.ts";
import { OPTION_REPLY_HEADER_BYTES, OPTION_REPLY_MAGIC } from "./nbd_protocol.ts";

/** Room for all replies to one option: names and descriptions of one export are bounded by 1 KiB each. */
const CAPACITY_BYTES = 8 << 10;

/** Replies that wait to be sent. */
export class OptionReplies {
  readonly #bytes = new Uint8Array(CAPACITY_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #lengthBytes = 0;

  /** Whether something waits. */
  get isPending(): boolean {
    return this.#lengthBytes > 0;
  }

  /** Adds a reply; `data` are pieces of its payload: bytes, or numbers given as `u16()` or `u32()`. */
  add(option: number, type: number, ...data: Uint8Array[]): void {
    let dataBytes = 0;
    for (const piece of data) dataBytes += piece.length;
    const at = this.#lengthBytes;
    let to = at + OPTION_REPLY_HEADER_BYTES;
    assert(to + dataBytes <= CAPACITY_BYTES, "the replies to an option fit", to + dataBytes);
    this.#view.setUint32(at, OPTION_REPLY_MAGIC.high);
    this.#view.setUint32(at + 4, OPTION_REPLY_MAGIC.low);
    this.#view.setUint32(at + 8, option);
    this.#view.setUint32(at + 12, type);
    this.#view.setUint32(at + 16, dataBytes);
    for (const piece of data) {
      this.#bytes.set(piece, to);
      to += piece.length;
    }
    this.#lengthBytes = to;
  }

  /** Adds an error with words for a person. */
  addError(option: number, type: number, message: string): void {
    this.add(option, type, new TextEncoder().encode(message));
  }

  /** Adds `lengthBytes` zero bytes without a reply header and returns them, for the answer to EXPORT_NAME. */
  addRaw(lengthBytes: number): Uint8Array {
    const at = this.#lengthBytes;
    assert(at + lengthBytes <= CAPACITY_BYTES, "the reply fits", lengthBytes);
    this.#lengthBytes += lengthBytes;
    return this.#bytes.subarray(at, at + lengthBytes).fill(0);
  }

  /** Moves all replies into the socket's send area. False: no room there yet. */
  moveTo(stream: StreamSocket): boolean {
    if (!stream.canSend) return false;
    const at = stream.reserve(this.#lengthBytes);
    if (at < 0) return false;
    stream.sendBytes.set(this.#bytes.subarray(0, this.#lengthBytes), at);
    this.#lengthBytes = 0;
    return true;
  }
}

/** `value` as two bytes, big endian. */
export function u16(value: number): Uint8Array {
  return new Uint8Array([value >>> 8, value]);
}

/** `value` as four bytes, big endian. */
export function u32(value: number): Uint8Array {
  return new Uint8Array([value >>> 24, value >>> 16, value >>> 8, value]);
}

/** `value`, up to 2^53 - 1, as eight bytes, big endian. */
export function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  bytes.set(u32((value / 4294967296) >>> 0), 0);
  bytes.set(u32(value >>> 0), 4);
  return bytes;
}
