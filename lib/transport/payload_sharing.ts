/**
 * Payloads that do not travel: on a connection within one machine the sender shares its buffer memory, a frame names the page
 * at which its payload lies, and the receiver lets the device read it from there.
 *
 * Rules. A page that was named is *held* by the sender: its slot is not used for anything else, even when the request that
 * it belonged to is over and even when the connection is gone, until the receiver has said that it is done with it (RELEASED),
 * or until its *lifeline* ends: a pipe whose other end the receiver keeps open for as long as anything it was lent is in use.
 * The kernel closes it for a process that was killed, too, and not before the I/O of its ring is over, since the pipe is a
 * fixed file of that ring. So whatever a slow or forgotten receiver still writes to its disk is what it was asked to write.
 *
 * Held memory is bounded (`HELD_SHARE`); beyond that, payloads travel.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { SlabBufferPool } from "../io/slab_buffer_pool.ts";
import type { UringReactor } from "../io/uring_reactor.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import { unmapForKernel } from "../../ffi/libc/memory.ts";

/** What a connection of frames asks of the memory that its ends share. One end only lends, the other only borrows. */
export interface PayloadSharing {
  /** Lender: holds `slot` and returns the page to name; -1 when its payload has to travel. */
  share(slot: number): number;
  /** Lender: the other end is done with a page. False when it was not lent. */
  released(page: number): boolean;
  /** Borrower: the slot that stands for the named memory; -1 when it lies outside of what was lent. */
  borrow(page: number, lengthBytes: number): number;
  /** Borrower: takes `borrow` back, and the other end is not told: it will be asked for again. */
  unborrow(slot: number): void;
  /** Borrower: a page to tell the other end of, -1 when there is none. */
  takeReleased(): number;
  /** Pages that wait to be told. */
  readonly releasedCount: number;
  /** Nothing more is said over the connection. */
  streamClosed(): void;
}

const PAGE_BYTES = 4096;
/** Part of the pool that may be held: the frontends' half and this leave an eighth for what comes from legs. */
const HELD_SHARE = 3 / 8;
const TOKEN_LIFELINE = 1;

/** The lending end of one connection. */
export class LentMemory implements PayloadSharing {
  readonly releasedCount = 0;
  readonly #pool: SlabBufferPool;
  readonly #reactor: UringReactor;
  readonly #lifeline: number;
  readonly #owner: number;
  /** By page: how often it is lent. */
  readonly #counts: Uint8Array;
  readonly #limitBytes: number;
  #isOver = false;

  /** @param lifeline the read end of the pipe whose write end the other process has; owned from now on */
  constructor(pool: SlabBufferPool, reactor: UringReactor, lifeline: number) {
    this.#pool = pool;
    this.#reactor = reactor;
    this.#lifeline = lifeline;
    this.#counts = new Uint8Array(pool.totalBytes / PAGE_BYTES);
    this.#limitBytes = pool.totalBytes * HELD_SHARE;
    this.#owner = reactor.register(this);
    reactor.pollReadable(this.#owner, TOKEN_LIFELINE, lifeline);
  }

  share(slot: number): number {
    const pool = this.#pool;
    if (this.#isOver || this.#counts[slot] === 255) return -1;
    if (!pool.isHeld(slot) && pool.heldBytes + pool.capacity(slot) > this.#limitBytes) return -1;
    pool.hold(slot);
    this.#counts[slot]++;
    return slot; // a slot's number is the number of its first page
  }

  released(page: number): boolean {
    if (page >= this.#counts.length || this.#counts[page] === 0) return false;
    this.#counts[page]--;
    this.#pool.release(page);
    return true;
  }

  borrow(): number {
    return -1;
  }

  unborrow(): void {}

  takeReleased(): number {
    return -1;
  }

  /** What is held stays so until the lifeline ends. */
  streamClosed(): void {}

  /** From the reactor: the lifeline has ended. Nobody writes to it, so that is all it can tell. */
  onCompletion(_token: number, _result: number, _flags: number): void {
    this.#isOver = true;
    this.#reactor.unregister(this.#owner);
    closeDescriptor(this.#lifeline);
    for (let page = 0; page < this.#counts.length; page++) {
      for (; this.#counts[page] > 0; this.#counts[page]--) this.#pool.release(page);
    }
  }
}

const REGION_SHIFT = 24;
const PAGE_MASK = (1 << REGION_SHIFT) - 1;
/** Most processes that share their memory with us at one time; slots stay below 2^31. */
export const MOST_REGIONS = 126;
/** Most bytes of one: 64 GiB. */
export const MOST_REGION_BYTES = PAGE_BYTES * (1 << REGION_SHIFT);
const MOST_SLOT_BYTES = 1 << 20;

/**
 * A pool of one's own, and slots in memory that others lend. Those have an address for the kernel and no bytes for us: what
 * another process may change at any moment is not looked at.
 */
export class BorrowingPool implements BufferPool {
  readonly #own: BufferPool;
  readonly #regions: (BorrowedMemory | null)[] = new Array(MOST_REGIONS).fill(null);

  constructor(own: BufferPool) {
    this.#own = own;
  }

  get usedBytes(): number {
    return this.#own.usedBytes;
  }

  get totalBytes(): number {
    return this.#own.totalBytes;
  }

  allocate(lengthBytes: number): number {
    return this.#own.allocate(lengthBytes);
  }

  free(slot: number): void {
    if (slot <= PAGE_MASK) this.#own.free(slot);
    else this.#region(slot).freed(slot & PAGE_MASK);
  }

  isHeld(slot: number): boolean {
    return slot <= PAGE_MASK && this.#own.isHeld(slot);
  }

  address(slot: number): number {
    if (slot <= PAGE_MASK) return this.#own.address(slot);
    return this.#region(slot).address + (slot & PAGE_MASK) * PAGE_BYTES;
  }

  capacity(slot: number): number {
    if (slot <= PAGE_MASK) return this.#own.capacity(slot);
    return Math.min(MOST_SLOT_BYTES, this.#region(slot).sizeBytes - (slot & PAGE_MASK) * PAGE_BYTES);
  }

  bytes(slot: number): Uint8Array {
    assert(slot <= PAGE_MASK, "borrowed memory is for the kernel only", slot);
    return this.#own.bytes(slot);
  }

  /** First slot of a new region, -1 when there are too many. */
  add(region: BorrowedMemory): number {
    const index = this.#regions.indexOf(null);
    if (index < 0) return -1;
    this.#regions[index] = region;
    return (index + 1) * (1 << REGION_SHIFT);
  }

  remove(firstSlot: number): void {
    this.#regions[(firstSlot >> REGION_SHIFT) - 1] = null;
  }

  #region(slot: number): BorrowedMemory {
    const region = this.#regions[(slot >> REGION_SHIFT) - 1] ?? null;
    assert(region !== null, "a borrowed slot belongs to a region", slot);
    return region!;
  }
}

/** The borrowing end of one connection. */
export class BorrowedMemory implements PayloadSharing {
  readonly address: number;
  readonly sizeBytes: number;
  readonly #pool: BorrowingPool;
  readonly #reactor: UringReactor;
  readonly #lifeline: number;
  readonly #lifelineFile: number;
  readonly #registered: number;
  readonly #firstSlot: number;
  readonly #counts: Uint8Array;
  #inUse = 0;
  #released = new Int32Array(256);
  #head = 0;
  #tail = 0;
  #isClosed = false;

  /**
   * Takes over the mapping and the lifeline. `null` when there is no room: then they are still the caller's.
   *
   * @param address of `sizeBytes` that another process shares, mapped for the kernel
   * @param lifeline the write end of its pipe
   */
  static open(
    pool: BorrowingPool,
    reactor: UringReactor,
    address: number,
    sizeBytes: number,
    lifeline: number,
  ): BorrowedMemory | null {
    const file = reactor.registerFile(lifeline);
    // Only as a fixed file does it outlive the process for as long as its I/O does.
    if (file >= 0) return null;
    const memory = new BorrowedMemory(pool, reactor, address, sizeBytes, lifeline, file);
    if (memory.#firstSlot >= 0) return memory;
    reactor.unregisterFile(file);
    if (memory.#registered >= 0) reactor.unregisterMemory(memory.#registered);
    return null;
  }

  private constructor(
    pool: BorrowingPool,
    reactor: UringReactor,
    address: number,
    sizeBytes: number,
    lifeline: number,
    lifelineFile: number,
  ) {
    this.#pool = pool;
    this.#reactor = reactor;
    this.address = address;
    this.sizeBytes = sizeBytes;
    this.#lifeline = lifeline;
    this.#lifelineFile = lifelineFile;
    this.#counts = new Uint8Array(sizeBytes / PAGE_BYTES);
    this.#registered = reactor.registerMemory(address, sizeBytes);
    this.#firstSlot = pool.add(this);
  }

  get releasedCount(): number {
    return this.#tail - this.#head;
  }

  share(): number {
    return -1;
  }

  released(): boolean {
    return false;
  }

  borrow(page: number, lengthBytes: number): number {
    if (page * PAGE_BYTES + lengthBytes > this.sizeBytes || this.#counts[page] === 255) return -1;
    this.#counts[page]++;
    this.#inUse++;
    return this.#firstSlot + page;
  }

  unborrow(slot: number): void {
    const page = slot - this.#firstSlot;
    assert(this.#counts[page] > 0, "only what was borrowed is taken back", page);
    this.#counts[page]--;
    this.#inUse--;
  }

  /** From the pool. */
  freed(page: number): void {
    assert(this.#counts[page] > 0, "only a slot in use is freed", page);
    this.#counts[page]--;
    this.#inUse--;
    if (!this.#isClosed) this.#push(page);
    else if (this.#inUse === 0) this.#dispose();
  }

  takeReleased(): number {
    if (this.#head === this.#tail) return -1;
    const page = this.#released[this.#head++];
    if (this.#head === this.#tail) this.#head = this.#tail = 0;
    return page;
  }

  streamClosed(): void {
    this.#isClosed = true;
    if (this.#inUse === 0) this.#dispose();
  }

  #push(page: number): void {
    if (this.#tail === this.#released.length) {
      // Bounded by what the peer may have in flight, and reached once.
      const larger = new Int32Array(this.#released.length * 2);
      larger.set(this.#released);
      this.#released = larger;
    }
    this.#released[this.#tail++] = page;
  }

  #dispose(): void {
    this.#pool.remove(this.#firstSlot);
    if (this.#registered >= 0) this.#reactor.unregisterMemory(this.#registered);
    unmapForKernel(this.address, this.sizeBytes);
    this.#reactor.unregisterFile(this.#lifelineFile);
    closeDescriptor(this.#lifeline);
  }
}
