/**
 * A cursor over the payload of a metadata block, for records with fields of varying length. Writing past the payload
 * is a bug; reading past it is a broken block and sets `failed`.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { readUuid, UUID_BYTES, writeUuid } from "../base/uuid.ts";
import { type BlockHeader, getUint53, HEADER_BYTES, PAYLOAD_BYTES, setUint53, viewOf } from "./block_header.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Collects the fields of a payload. */
export class PayloadWriter {
  readonly #bytes = new Uint8Array(PAYLOAD_BYTES);
  readonly #view = viewOf(this.#bytes);
  #end = 0;

  /** What was written. */
  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#end);
  }

  uint8(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value <= 0xff, "A number of 8 bits", value);
    this.#view.setUint8(this.#take(1), value);
  }

  uint32(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value <= 0xffffffff, "A number of 32 bits", value);
    this.#view.setUint32(this.#take(4), value, true);
  }

  uint53(value: number): void {
    setUint53(this.#view, this.#take(8), value);
  }

  uuid(value: string): void {
    writeUuid(value, this.#bytes, this.#take(UUID_BYTES));
  }

  /** Two bytes of length, then UTF-8. */
  text(value: string, maxBytes: number): void {
    const bytes = encoder.encode(value);
    assert(bytes.length <= maxBytes, `A text of at most ${maxBytes} bytes`, value);
    this.#view.setUint16(this.#take(2), bytes.length, true);
    this.#bytes.set(bytes, this.#take(bytes.length));
  }

  #take(count: number): number {
    const start = this.#end;
    assert(start + count <= PAYLOAD_BYTES, "The record fits in one block", start + count);
    this.#end += count;
    return start;
  }
}

/** Reads the fields back in the same order. */
export class PayloadReader {
  /** Set when something was read that is not there or makes no sense; all later reads give zeroes. */
  failed = false;
  readonly #block: Uint8Array;
  readonly #view: DataView;
  readonly #end: number;
  readonly #hasMoreFields: boolean;
  #next = HEADER_BYTES;

  constructor(block: Uint8Array, { payloadBytes, hasMoreFields }: BlockHeader) {
    this.#block = block;
    this.#hasMoreFields = hasMoreFields;
    this.#view = viewOf(block);
    this.#end = HEADER_BYTES + payloadBytes;
  }

  /** Whether all was read, without a fault; but for fields of features that this version does not know. */
  get complete(): boolean {
    return !this.failed && (this.#hasMoreFields || this.#next === this.#end);
  }

  uint8(): number {
    const at = this.#take(1);
    return at < 0 ? 0 : this.#view.getUint8(at);
  }

  uint32(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at, true);
  }

  uint53(): number {
    const at = this.#take(8);
    if (at < 0) return 0;
    const value = getUint53(this.#view, at);
    if (!Number.isNaN(value)) return value;
    this.failed = true;
    return 0;
  }

  uuid(): string {
    const at = this.#take(UUID_BYTES);
    return at < 0 ? "" : readUuid(this.#block, at);
  }

  text(maxBytes: number): string {
    const at = this.#take(2);
    if (at < 0) return "";
    const length = this.#view.getUint16(at, true);
    const start = length > maxBytes ? -1 : this.#take(length);
    if (start < 0) {
      this.failed = true;
      return "";
    }
    try {
      return decoder.decode(this.#block.subarray(start, start + length));
    } catch {
      this.failed = true; // not UTF-8: the caller reports the block as broken
      return "";
    }
  }

  #take(count: number): number {
    if (this.failed || this.#next + count > this.#end) {
      this.failed = true;
      return -1;
    }
    const start = this.#next;
    this.#next += count;
    return start;
  }
}
