/**
 * Memory that is registered with a ring, so that the pages of a buffer need not be looked up for each operation: the pool, and
 * later what other processes share with us. Which of the ring's registered buffers holds an address is asked for each
 * operation on a file.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { errnoName } from "../../ffi/libc/errno.ts";
import { Limit, raiseLimit } from "../../ffi/libc/process.ts";
import { REGISTERED_PIECE_BYTES, type UringRing } from "../../ffi/uring/ring.ts";

/** Memory to register. */
export interface RegisterableMemory {
  /** Address of the first byte, aligned to 4096. LIFETIME: the process. */
  readonly baseAddress: number;
  readonly totalBytes: number;
}

/** Places for memory that is registered later. */
const SPARE_COUNT = 64;

/** The registered buffers of one ring. */
export class RegisteredMemory {
  /** Why the pool is not registered; "" when it is. */
  readonly refusal: string;
  readonly #ring: UringRing;
  readonly #poolStart: number = 0;
  readonly #poolEnd: number = 0;
  /** Number of the first spare buffer; -1 when there are none. */
  readonly #spareFrom: number = -1;
  readonly #starts = new Float64Array(SPARE_COUNT);
  /** 0 where a place is free. */
  readonly #ends = new Float64Array(SPARE_COUNT);

  constructor(ring: UringRing, pool: RegisterableMemory | undefined) {
    this.#ring = ring;
    if (pool === undefined) {
      this.refusal = "no pool was given";
      return;
    }
    // Without CAP_IPC_LOCK, registered memory counts against the limit of locked memory.
    raiseLimit(Limit.LOCKED_MEMORY);
    let result = ring.registerMemory(pool.baseAddress, pool.totalBytes, SPARE_COUNT);
    if (result >= 0) this.#spareFrom = Math.ceil(pool.totalBytes / REGISTERED_PIECE_BYTES);
    else result = ring.registerMemory(pool.baseAddress, pool.totalBytes);
    this.refusal = result < 0 ? `${errnoName(result)}; raise the limit of locked memory (ulimit -l)` : "";
    if (result < 0) return;
    this.#poolStart = pool.baseAddress;
    this.#poolEnd = pool.baseAddress + pool.totalBytes;
  }

  /** Which registered buffer holds the range, -1 when none does. */
  bufferOf(address: number, lengthBytes: number): number {
    if (address >= this.#poolStart && address + lengthBytes <= this.#poolEnd) {
      const piece = Math.floor((address - this.#poolStart) / REGISTERED_PIECE_BYTES);
      const end = this.#poolStart + (piece + 1) * REGISTERED_PIECE_BYTES;
      return address + lengthBytes <= end ? piece : -1;
    }
    for (let place = 0; place < SPARE_COUNT; place++) {
      if (address >= this.#starts[place] && address + lengthBytes <= this.#ends[place]) return this.#spareFrom + place;
    }
    return -1;
  }

  /** Registers further memory (at most 1 GiB). Its place, or -1 when it cannot be had. */
  add(address: number, lengthBytes: number): number {
    if (lengthBytes > REGISTERED_PIECE_BYTES) return -1; // the kernel would see the length cut to 32 bits
    const place = this.#spareFrom < 0 ? -1 : this.#ends.indexOf(0);
    if (place < 0 || this.#ring.updateMemory(this.#spareFrom + place, address, lengthBytes) < 0) return -1;
    this.#starts[place] = address;
    this.#ends[place] = address + lengthBytes;
    return place;
  }

  /** Lets memory go. Operations that were submitted keep it until they end. */
  remove(place: number): void {
    assert(this.#ends[place] !== 0, "memory that is registered is let go of", place);
    const result = this.#ring.updateMemory(this.#spareFrom + place, 0, 0);
    assert(result >= 0, "registered memory can be let go of", errnoName(result));
    this.#starts[place] = 0;
    this.#ends[place] = 0;
  }
}
