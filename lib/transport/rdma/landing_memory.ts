/**
 * Memory that peers write to: part of the buffer pool, lent for good, of which each connection gets a run of its own.
 *
 * A connection's run is registered for that connection alone and is given to another one only when the device can no longer
 * reach it for the first (queue pair destroyed, registration taken back) and the last slot in it was freed. So nothing
 * that comes late can land in memory that belongs to someone else.
 *
 * The first slab of a run holds packets, sent and received; the peer has no access to it. The others are the landing: what the
 * peer has filled becomes a slot of the pool, until it is freed.
 *
 * @module
 */

import { assert } from "../../base/assert.ts";
import type { BufferPool } from "../../io/buffer_pool.ts";
import type { SlotBorrower } from "../../io/slab_buffer_pool.ts";
import { PAGE_BYTES } from "./packet.ts";

/** A pool that lends. */
export interface LendingPool extends BufferPool {
  lend(slabCount: number, borrower: SlotBorrower): number;
  placeSlot(slot: number, pageCount: number): void;
  lentBytes(slot: number, lengthBytes: number): Uint8Array;
}

const SLAB_PAGES = 256;
/** Most slabs of one connection, and fewest: one for packets, one to land a payload of any size. */
const MOST_SLABS = 9;
const FEWEST_SLABS = 2;
/** What part of what is free a new connection gets at most. */
const SHARE = 4;
/** A device that is removed reaches no memory once the kernel has taken it down, which takes milliseconds. */
const QUARANTINE_MS = 10_000;

/** What all connections share. */
export class LandingMemory implements SlotBorrower {
  readonly pool: LendingPool;
  readonly #firstSlot: number;
  /** By slab: who has it. */
  readonly #holders: (Landing | null)[];
  /** Landings that a dying device may still reach, and until when they are kept. */
  readonly #quarantined: { landing: Landing; untilMs: number }[] = [];

  /** Borrows `slabCount` slabs of 1 MiB of `pool`. */
  constructor(pool: LendingPool, slabCount: number) {
    this.pool = pool;
    this.#firstSlot = pool.lend(slabCount, this);
    this.#holders = new Array(slabCount).fill(null);
  }

  /** Bytes that were lent. */
  get totalBytes(): number {
    return this.#holders.length * SLAB_PAGES * PAGE_BYTES;
  }

  /** Memory for a connection; null when there is none left. */
  take(nowMs: number): Landing | null {
    while (this.#quarantined.length > 0 && this.#quarantined[0].untilMs <= nowMs) {
      this.giveBack(this.#quarantined.shift()!.landing);
    }
    const free = this.#holders.filter((holder) => holder === null).length;
    const wanted = Math.max(FEWEST_SLABS, Math.min(MOST_SLABS, Math.floor(free / SHARE) + 1));
    for (let count = wanted; count >= FEWEST_SLABS; count--) {
      const first = this.#search(count);
      if (first < 0) continue;
      const landing = new Landing(this, this.#firstSlot + first * SLAB_PAGES, count);
      this.#holders.fill(landing, first, first + count);
      return landing;
    }
    return null;
  }

  slotFreed(slot: number): void {
    const holder = this.#holders[Math.floor((slot - this.#firstSlot) / SLAB_PAGES)];
    assert(holder !== null, "a slot lies in memory that somebody holds", slot);
    holder.slotFreed(slot);
  }

  /** @internal Nobody uses the landing any more, but a dying device may. */
  quarantine(landing: Landing, nowMs: number): void {
    this.#quarantined.push({ landing, untilMs: nowMs + QUARANTINE_MS });
  }

  /** @internal Nobody uses the landing any more. */
  giveBack(landing: Landing): void {
    for (let i = 0; i < this.#holders.length; i++) if (this.#holders[i] === landing) this.#holders[i] = null;
  }

  #search(count: number): number {
    let free = 0;
    for (let i = 0; i < this.#holders.length; i++) {
      free = this.#holders[i] === null ? free + 1 : 0;
      if (free === count) return i - count + 1;
    }
    return -1;
  }
}

/** The memory of one connection. */
export class Landing {
  /** Where packets are. */
  readonly packetAddress: number;
  readonly packets: Uint8Array;
  /** Where the peer may write. */
  readonly address: number;
  readonly pageCount: number;
  /** Pages that were freed and of which the peer was not told, `freedCount` of them. */
  readonly freed: Uint32Array;
  freedCount = 0;
  /** Pages in those runs. */
  freedPages = 0;
  /** By first page of a run in use: its length. */
  readonly #lengths: Int32Array;
  readonly #memory: LandingMemory;
  readonly #firstSlot: number;
  readonly #inUse: Uint8Array;
  #inUseCount = 0;
  #isReleased = false;
  #mayStillBeReached = false;
  #releasedMs = 0;

  /** @internal use `LandingMemory.take` */
  constructor(memory: LandingMemory, firstSlot: number, slabCount: number) {
    this.#memory = memory;
    this.#firstSlot = firstSlot + SLAB_PAGES;
    this.packetAddress = memory.pool.address(firstSlot);
    this.packets = memory.pool.lentBytes(firstSlot, SLAB_PAGES * PAGE_BYTES);
    this.address = memory.pool.address(this.#firstSlot);
    this.pageCount = (slabCount - 1) * SLAB_PAGES;
    this.freed = new Uint32Array(this.pageCount);
    this.#lengths = new Int32Array(this.pageCount);
    this.#inUse = new Uint8Array(this.pageCount);
  }

  /**
   * The slot of a payload that has landed; -1 when the peer may not have written there: outside, or into what it was not
   * yet told to be free.
   */
  adopt(page: number, lengthBytes: number): number {
    const count = Math.ceil(lengthBytes / PAGE_BYTES);
    if (page + count > this.pageCount) return -1;
    for (let i = page; i < page + count; i++) if (this.#inUse[i] !== 0) return -1;
    this.#inUse.fill(1, page, page + count);
    this.#lengths[page] = count;
    this.#inUseCount++;
    const slot = this.#firstSlot + page;
    this.#memory.pool.placeSlot(slot, count);
    return slot;
  }

  /** @internal */
  slotFreed(slot: number): void {
    const page = slot - this.#firstSlot;
    this.#inUseCount--;
    if (this.#isReleased) {
      if (this.#inUseCount === 0) this.#giveBack();
      return;
    }
    // Counted as in use until the peer is told: `told` ends that.
    this.freed[this.freedCount++] = page;
    this.freedPages += this.#lengths[page];
  }

  /** The peer is being told of the first `count` runs of `freed`: it may write there again. */
  told(count: number): void {
    for (let i = 0; i < count; i++) {
      const page = this.freed[i];
      this.#inUse.fill(0, page, page + this.#lengths[page]);
      this.freedPages -= this.#lengths[page];
    }
    this.freed.copyWithin(0, count, this.freedCount);
    this.freedCount -= count;
  }

  /** The device has not confirmed that it lets the memory go: after its release it is kept for a while. */
  mayStillBeReached(): void {
    this.#mayStillBeReached = true;
  }

  /** The device lets the memory go. It is somebody else's when the slots that are still in use are freed. */
  release(nowMs: number): void {
    assert(!this.#isReleased, "a landing is released once");
    this.#isReleased = true;
    this.#releasedMs = nowMs;
    if (this.#inUseCount === 0) this.#giveBack();
  }

  #giveBack(): void {
    if (this.#mayStillBeReached) this.#memory.quarantine(this, this.#releasedMs);
    else this.#memory.giveBack(this);
  }
}
