/**
 * A buffer pool in ordinary memory: for tests and simulators, where nothing is registered with a kernel. Addresses are
 * made up (aligned, distinct, never dereferenced).
 *
 * Stricter than need be, so that tests notice mistakes: freed slots are filled with 0xdb, double frees and unknown slots
 * fail an assertion.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "./buffer_pool.ts";

const SMALLEST_BYTES = 4096;
const LARGEST_BYTES = 1 << 20;
/** Makes an address recognisable in a failure. */
const FIRST_ADDRESS = 0x10000000;
const FREED_BYTE = 0xdb;

/** See the module's description. Memory of a size class is taken from the whole as it is first needed and then stays in it. */
export class MemoryBufferPool implements BufferPool {
  readonly totalBytes: number;
  usedBytes = 0;
  readonly #memory: ArrayBuffer;
  #carvedBytes = 0;
  readonly #bytes: Uint8Array[] = [];
  readonly #inUse: boolean[] = [];
  /** Free slots by size class: index is the number of doublings of 4 KiB. */
  readonly #freeSlots: number[][] = [];

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
    this.#memory = new ArrayBuffer(totalBytes);
    for (let bytes = SMALLEST_BYTES; bytes <= LARGEST_BYTES; bytes *= 2) this.#freeSlots.push([]);
  }

  allocate(lengthBytes: number): number {
    assert(lengthBytes > 0 && lengthBytes <= LARGEST_BYTES, "Slots hold 1 byte to 1 MiB", lengthBytes);
    let capacity = SMALLEST_BYTES;
    let sizeClass = 0;
    while (capacity < lengthBytes) {
      capacity *= 2;
      sizeClass++;
    }
    const slot = this.#freeSlots[sizeClass].pop() ?? this.#carve(capacity);
    if (slot < 0) return -1;
    this.#inUse[slot] = true;
    this.usedBytes += capacity;
    return slot;
  }

  free(slot: number): void {
    this.#check(slot);
    const bytes = this.#bytes[slot];
    bytes.fill(FREED_BYTE);
    this.#inUse[slot] = false;
    this.usedBytes -= bytes.length;
    this.#freeSlots[Math.log2(bytes.length / SMALLEST_BYTES)].push(slot);
  }

  /** Ordinary memory is not shared. */
  isHeld(slot: number): boolean {
    this.#check(slot);
    return false;
  }

  address(slot: number): number {
    this.#check(slot);
    return FIRST_ADDRESS + this.#bytes[slot].byteOffset;
  }

  capacity(slot: number): number {
    this.#check(slot);
    return this.#bytes[slot].length;
  }

  bytes(slot: number): Uint8Array {
    this.#check(slot);
    return this.#bytes[slot];
  }

  #carve(capacity: number): number {
    if (this.#carvedBytes + capacity > this.totalBytes) return -1;
    const slot = this.#bytes.length;
    this.#bytes.push(new Uint8Array(this.#memory, this.#carvedBytes, capacity));
    this.#inUse.push(false);
    this.#carvedBytes += capacity;
    return slot;
  }

  #check(slot: number): void {
    assert(this.#inUse[slot] === true, "The slot is in use", slot);
  }
}
