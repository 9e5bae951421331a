/**
 * The buffer pool: one mapping, cut into slabs of 1 MiB, each cut into slots of one size class.
 *
 * A class keeps the list of its slabs that have a free slot, a slab the stack of its free slots, so both `allocate` and `free`
 * are a few array accesses and the slot freed last (whose bytes are still in the CPU's cache) is used first. A slab
 * with no slot in use is free for any class.
 *
 * A slot number is the slot's offset in units of 4 KiB, so its address needs no table.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";
import { newShareableMemory } from "../../ffi/libc/shared_memory.ts";
import type { BufferPool } from "./buffer_pool.ts";

/** What {@link SlabBufferPool} needs. */
export interface SlabBufferPoolOptions {
  /** Bytes in all; rounded up to whole slabs of 1 MiB. */
  readonly totalBytes: number;
  /** Ask the kernel for 2 MiB pages: fewer page table walks, at the price of memory taken in larger pieces. */
  readonly hugePages?: boolean;
  /** Memory that can be shared with other processes of this machine (`descriptor`), if the kernel has any. */
  readonly shareable?: boolean;
}

const PAGE_SHIFT = 12;
const SLAB_SHIFT = 20;
const SLAB_BYTES = 1 << SLAB_SHIFT;
/** Slots of the smallest class in a slab; also the stride of slot numbers from slab to slab. */
const PAGES_PER_SLAB = 1 << (SLAB_SHIFT - PAGE_SHIFT);
/** 4 KiB, 8 KiB, …, 1 MiB. */
const CLASS_COUNT = SLAB_SHIFT - PAGE_SHIFT + 1;
const NONE = -1;
/** Class of slabs that were lent: slots in them are placed by whoever borrowed them. */
const LENT = -2;

const SLOT_NOT = 0;
const SLOT_FREE = 1;
const SLOT_USED = 2;
/** Given back by its owner while another process may still read it. */
const SLOT_HELD = 3;

/** Whoever was lent slabs. */
export interface SlotBorrower {
  /** A slot that was placed in lent slabs was given back with `free`. */
  slotFreed(slot: number): void;
}

/** {@link BufferPool} on one anonymous mapping. */
export class SlabBufferPool implements BufferPool {
  /** Address of the first byte, page aligned. LIFETIME: the process. */
  readonly baseAddress: number;
  readonly totalBytes: number;
  usedBytes = 0;
  /** Grows with every `free`. Who was refused memory compares it with the count it saw, to know whether to ask again. */
  freedCount = 0;
  /** Of the memory as a memfd; -1 when it cannot be shared. */
  readonly descriptor: number;
  /** Bytes of slots that are held. */
  heldBytes = 0;
  /** Grows with every slot that could be put back only when the last one had released it. */
  releasedCount = 0;

  readonly #buffer: ArrayBuffer;
  /** By slot. */
  readonly #state: Uint8Array;
  readonly #holds: Uint8Array;
  readonly #nextFree: Int32Array;
  readonly #views: (Uint8Array | undefined)[];
  /** By slab: class it is cut for (-1: never cut), slots in use, top of the stack of free slots. */
  readonly #slabClass: Int8Array;
  readonly #slabUsed: Int32Array;
  readonly #slabFree: Int32Array;
  /** By slab: neighbours in its list (slabs of a class with room, or empty slabs). */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** By class: first slab that is in use and has room. */
  readonly #withRoom = new Int32Array(CLASS_COUNT).fill(NONE);
  /** First slab without a slot in use. */
  #empty = NONE;
  /** By slot in lent slabs: its length in pages. Made when slabs are lent. */
  #lentPages = new Int32Array(0);
  #borrower: SlotBorrower | null = null;

  constructor(options: SlabBufferPoolOptions) {
    const { totalBytes, hugePages } = options;
    if (!(totalBytes > 0 && Number.isFinite(totalBytes))) {
      throw new RangeError(`A buffer pool of ${totalBytes} bytes is not possible; give at least ${SLAB_BYTES}`);
    }
    const slabs = Math.ceil(totalBytes / SLAB_BYTES);
    this.totalBytes = slabs * SLAB_BYTES;
    const shared = options.shareable === true ? newShareableMemory(this.totalBytes) : -1;
    const memory = typeof shared === "number" ? mapAnonymous(this.totalBytes, { hugePages }) : shared;
    this.descriptor = typeof shared === "number" ? -1 : shared.descriptor;
    this.baseAddress = memory.address;
    this.#buffer = memory.buffer;
    const slots = slabs * PAGES_PER_SLAB;
    this.#state = new Uint8Array(slots);
    this.#holds = new Uint8Array(slots);
    this.#nextFree = new Int32Array(slots).fill(NONE);
    this.#views = new Array(slots).fill(undefined);
    this.#slabClass = new Int8Array(slabs).fill(NONE);
    this.#slabUsed = new Int32Array(slabs);
    this.#slabFree = new Int32Array(slabs).fill(NONE);
    this.#next = new Int32Array(slabs).fill(NONE);
    this.#previous = new Int32Array(slabs).fill(NONE);
    for (let slab = slabs - 1; slab >= 0; slab--) this.#pushEmpty(slab);
  }

  allocate(lengthBytes: number): number {
    const sizeClass = classOf(lengthBytes);
    let slab = this.#withRoom[sizeClass];
    if (slab === NONE) {
      slab = this.#takeEmpty(sizeClass);
      if (slab === NONE) return NONE;
      this.#pushWithRoom(slab, sizeClass);
    }
    const slot = this.#slabFree[slab];
    const next = this.#nextFree[slot];
    this.#slabFree[slab] = next;
    this.#slabUsed[slab]++;
    if (next === NONE) this.#removeWithRoom(slab, sizeClass);
    this.#state[slot] = SLOT_USED;
    this.usedBytes += 1 << (sizeClass + PAGE_SHIFT);
    return slot;
  }

  /**
   * Lends the last `slabCount` slabs for good: a run of bytes in which the borrower says what a slot is (`placeSlot`), and
   * hears when it is freed. For memory that a peer fills. Lent memory counts as used. Once, before anything is allocated.
   * Returns the number of its first page, as a slot.
   */
  lend(slabCount: number, borrower: SlotBorrower): number {
    const slabs = this.#slabClass.length;
    assert(this.usedBytes === 0 && slabCount < slabs, "slabs are lent before any is used", slabCount, slabs);
    for (let slab = slabs - slabCount; slab < slabs; slab++) this.#slabClass[slab] = LENT;
    this.#empty = NONE;
    for (let slab = slabs - slabCount - 1; slab >= 0; slab--) this.#pushEmpty(slab);
    this.#lentPages = new Int32Array(this.#state.length);
    this.#borrower = borrower;
    this.usedBytes = slabCount * SLAB_BYTES;
    return (slabs - slabCount) * PAGES_PER_SLAB;
  }

  /** From now on `slot`, the number of a page in lent slabs, is a slot of `pageCount` pages in use. */
  placeSlot(slot: number, pageCount: number): void {
    assert(this.#slabClass[slot >> (SLAB_SHIFT - PAGE_SHIFT)] === LENT, "slots are placed in lent slabs", slot);
    assert(this.#state[slot] !== SLOT_USED, "a slot is placed once", slot);
    this.#state[slot] = SLOT_USED;
    this.#lentPages[slot] = pageCount;
  }

  /** `lengthBytes` of lent memory from the page `slot` on. Making the view is dear. */
  lentBytes(slot: number, lengthBytes: number): Uint8Array {
    assert(
      this.#slabClass[slot >> (SLAB_SHIFT - PAGE_SHIFT)] === LENT,
      "only lent memory is seen without a slot",
      slot,
    );
    return new Uint8Array(this.#buffer, slot * 4096, lengthBytes);
  }

  free(slot: number): void {
    assert(this.#state[slot] === SLOT_USED, "only a slot in use is freed", slot);
    if (this.#holds[slot] > 0) {
      this.#state[slot] = SLOT_HELD;
      return;
    }
    this.#putBack(slot);
  }

  /**
   * Another process reads `slot`, which is in use: even when freed it is not handed out again before `release` was called as often.
   */
  hold(slot: number): void {
    assert(this.#state[slot] === SLOT_USED && this.#holds[slot] < 255, "a slot in use is held", slot);
    if (this.#holds[slot]++ === 0) this.heldBytes += this.capacity(slot);
  }

  isHeld(slot: number): boolean {
    return this.#holds[slot] > 0;
  }

  /** One that read `slot` no longer does. */
  release(slot: number): void {
    assert(this.#holds[slot] > 0, "a slot that is held is released", slot);
    if (--this.#holds[slot] > 0) return;
    this.heldBytes -= 1 << (this.#slabClass[slot >> (SLAB_SHIFT - PAGE_SHIFT)] + PAGE_SHIFT);
    if (this.#state[slot] !== SLOT_HELD) return;
    this.releasedCount++;
    this.#putBack(slot);
  }

  #putBack(slot: number): void {
    const slab = slot >> (SLAB_SHIFT - PAGE_SHIFT);
    if (this.#slabClass[slab] === LENT) {
      this.#state[slot] = SLOT_NOT;
      this.#borrower!.slotFreed(slot);
      return;
    }
    const sizeClass = this.#slabClass[slab];
    const wasFull = this.#slabFree[slab] === NONE;
    this.#state[slot] = SLOT_FREE;
    this.#nextFree[slot] = this.#slabFree[slab];
    this.#slabFree[slab] = slot;
    const used = --this.#slabUsed[slab];
    if (used === 0) {
      if (!wasFull) this.#removeWithRoom(slab, sizeClass);
      this.#pushEmpty(slab);
    } else if (wasFull) {
      this.#pushWithRoom(slab, sizeClass);
    }
    this.usedBytes -= 1 << (sizeClass + PAGE_SHIFT);
    this.freedCount++;
  }

  address(slot: number): number {
    return this.baseAddress + slot * 4096;
  }

  capacity(slot: number): number {
    assert(this.#state[slot] === SLOT_USED, "a slot in use has a capacity", slot);
    const sizeClass = this.#slabClass[slot >> (SLAB_SHIFT - PAGE_SHIFT)];
    return sizeClass === LENT ? this.#lentPages[slot] << PAGE_SHIFT : 1 << (sizeClass + PAGE_SHIFT);
  }

  bytes(slot: number): Uint8Array {
    const capacity = this.capacity(slot);
    const view = this.#views[slot];
    if (view !== undefined && view.length === capacity) return view;
    // Made at the first use of the slot in its class and kept: making views is dear.
    return this.#views[slot] = new Uint8Array(this.#buffer, slot * 4096, capacity);
  }

  /** An empty slab cut for `sizeClass`, or -1. One that is cut for it already is taken if it was emptied last. */
  #takeEmpty(sizeClass: number): number {
    const slab = this.#empty;
    if (slab === NONE) return NONE;
    this.#empty = this.#next[slab];
    if (this.#empty !== NONE) this.#previous[this.#empty] = NONE;
    if (this.#slabClass[slab] !== sizeClass) this.#cut(slab, sizeClass);
    return slab;
  }

  #cut(slab: number, sizeClass: number): void {
    const first = slab * PAGES_PER_SLAB;
    const stride = 1 << sizeClass;
    this.#state.fill(SLOT_NOT, first, first + PAGES_PER_SLAB);
    this.#slabClass[slab] = sizeClass;
    let free = NONE;
    for (let slot = first + PAGES_PER_SLAB - stride; slot >= first; slot -= stride) {
      this.#state[slot] = SLOT_FREE;
      this.#nextFree[slot] = free;
      free = slot;
    }
    this.#slabFree[slab] = free;
  }

  #pushEmpty(slab: number): void {
    this.#previous[slab] = NONE;
    this.#next[slab] = this.#empty;
    if (this.#empty !== NONE) this.#previous[this.#empty] = slab;
    this.#empty = slab;
  }

  #pushWithRoom(slab: number, sizeClass: number): void {
    const first = this.#withRoom[sizeClass];
    this.#previous[slab] = NONE;
    this.#next[slab] = first;
    if (first !== NONE) this.#previous[first] = slab;
    this.#withRoom[sizeClass] = slab;
  }

  #removeWithRoom(slab: number, sizeClass: number): void {
    const next = this.#next[slab];
    const previous = this.#previous[slab];
    if (previous === NONE) this.#withRoom[sizeClass] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
  }
}

function classOf(lengthBytes: number): number {
  assert(lengthBytes >= 1 && lengthBytes <= SLAB_BYTES, "a slot has 1 byte to 1 MiB", lengthBytes);
  return lengthBytes <= 4096 ? 0 : 32 - Math.clz32((lengthBytes - 1) >> PAGE_SHIFT);
}
