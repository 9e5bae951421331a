/**
 * A buffer pool of ordinary memory that keeps the rules of the real one: bounded, power-of-two capacities, freed once, and
 * not given out again while somebody else reads it.
 *
 * @module
 */

import { assert } from "../../../lib/base/assert.ts";
import type { BufferPool } from "../../../lib/io/buffer_pool.ts";

/** Slots of ordinary memory. */
export class MemoryPool implements BufferPool {
  usedBytes = 0;
  highestUsedBytes = 0;
  readonly totalBytes: number;
  readonly #slots = new Map<number, Uint8Array>();
  readonly #spare = new Map<number, Uint8Array[]>();
  /** By slot: how often it is held; and those of them that were freed. */
  readonly #holds = new Map<number, number>();
  readonly #freedHeld = new Map<number, Uint8Array>();
  #nextSlot = 0;

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
  }

  allocate(lengthBytes: number): number {
    assert(lengthBytes >= 1 && lengthBytes <= 1 << 20, "a slot is 1 byte to 1 MiB", lengthBytes);
    let capacity = 4096;
    while (capacity < lengthBytes) capacity *= 2;
    if (this.usedBytes + capacity > this.totalBytes) return -1;
    this.usedBytes += capacity;
    this.highestUsedBytes = Math.max(this.highestUsedBytes, this.usedBytes);
    const bytes = this.#spare.get(capacity)?.pop() ?? new Uint8Array(capacity);
    const slot = this.#nextSlot++;
    this.#slots.set(slot, bytes);
    return slot;
  }

  free(slot: number): void {
    const bytes = this.bytes(slot);
    this.#slots.delete(slot);
    if (this.isHeld(slot)) this.#freedHeld.set(slot, bytes);
    else this.#putBack(bytes);
  }

  /** Another process reads the slot until `release`. */
  hold(slot: number): void {
    this.bytes(slot);
    this.#holds.set(slot, (this.#holds.get(slot) ?? 0) + 1);
  }

  isHeld(slot: number): boolean {
    return this.#holds.has(slot);
  }

  release(slot: number): void {
    const count = this.#holds.get(slot)! - 1;
    if (count > 0) return void this.#holds.set(slot, count);
    this.#holds.delete(slot);
    const bytes = this.#freedHeld.get(slot);
    if (bytes === undefined) return;
    this.#freedHeld.delete(slot);
    this.#putBack(bytes);
  }

  #putBack(bytes: Uint8Array): void {
    this.usedBytes -= bytes.length;
    bytes.fill(0xdd); // whoever still reads it gets what nobody wrote
    const spare = this.#spare.get(bytes.length);
    if (spare === undefined) this.#spare.set(bytes.length, [bytes]);
    else spare.push(bytes);
  }

  address(slot: number): number {
    return (slot + 1) * (1 << 20);
  }

  capacity(slot: number): number {
    return this.bytes(slot).length;
  }

  bytes(slot: number): Uint8Array {
    const bytes = this.#slots.get(slot);
    assert(bytes !== undefined, "the slot is in use", slot);
    return bytes;
  }
}
