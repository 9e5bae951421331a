/**
 * The intent log of one leg: a bounded set of extents that may be mid-write, durable before the first data write into each.
 *
 * Slots sit in blocks of one metadata record each. Adding an extent changes its block; any number of additions to one block
 * share one record write (group commit). An extent that is already in costs nothing: steady-state writes to a hot set that fits
 * cause no metadata I/O.
 *
 * An extent may be forgotten when no write into it is in flight, its last write is at or below the watermark (on stable storage
 * on every active leg), and nothing else needs it (`mayForget`: dirty pages that touch it are saved). Forgetting is lazy: on
 * disk an extent may linger, which only widens what is compared after a crash.
 *
 * While the log has much room, an extent brings its neighbours along, an aligned group of them, in the same record write:
 * where one write goes others follow, and each would wait for a record write of its own. They cost a slot until they are
 * forgotten like any other, and after a crash their comparison.
 *
 * What an unclean end means is told by this log alone: it is empty if and only if the last session ended cleanly.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** A slot that holds no extent. */
export const FREE_SLOT = 0xffffffff;

/** Extents of a group. */
const GROUP_EXTENTS = 16;

/** What `pin` found. */
export const Pin = {
  /** All extents are durable in the log: write at once. */
  HOT: 0,
  /** Pinned, but a block write must finish first: ask `isDurable` after each. */
  PENDING: 1,
  /** No room now; nothing was pinned. */
  FULL: 2,
} as const;

/** A bounded, durable set of extents. */
export class IntentLog {
  readonly slotsPerBlock: number;
  readonly blockCount: number;
  readonly #slots: Uint32Array;
  readonly #inFlight: Uint16Array;
  readonly #touched: Uint8Array;
  readonly #sequence: Float64Array;
  /** Version of the slot's block from which on the slot's extent is durable. */
  readonly #durableFrom: Float64Array;
  readonly #byExtent = new Map<number, number>();
  readonly #free: number[] = [];
  readonly #version: Float64Array;
  readonly #written: Float64Array;
  readonly #writing: Float64Array;
  #hand = 0;
  readonly #extentCount: number;

  /**
   * @param slots as loaded from disk: extent numbers or FREE_SLOT; its length is the size of the log
   * @param extentCount extents of the pool
   */
  constructor(slots: Uint32Array, slotsPerBlock: number, extentCount: number) {
    this.slotsPerBlock = slotsPerBlock;
    this.#extentCount = extentCount;
    this.blockCount = Math.ceil(slots.length / slotsPerBlock);
    this.#slots = slots.slice();
    this.#inFlight = new Uint16Array(slots.length);
    this.#touched = new Uint8Array(slots.length);
    this.#sequence = new Float64Array(slots.length);
    this.#durableFrom = new Float64Array(slots.length);
    this.#version = new Float64Array(this.blockCount);
    this.#written = new Float64Array(this.blockCount);
    this.#writing = new Float64Array(this.blockCount).fill(-1);
    for (let slot = slots.length - 1; slot >= 0; slot--) {
      const extent = slots[slot];
      if (extent !== FREE_SLOT && !this.#byExtent.has(extent)) this.#byExtent.set(extent, slot);
      else {
        // On disk a second place of an extent would outlive the first.
        if (extent !== FREE_SLOT) this.#version[this.#blockOf(slot)]++;
        this.#slots[slot] = FREE_SLOT;
        this.#free.push(slot);
      }
    }
  }

  /** Extents in the log. */
  get size(): number {
    return this.#byExtent.size;
  }

  /** Most extents the log can hold. */
  get capacity(): number {
    return this.#slots.length;
  }

  /** Slots free for new extents. */
  get freeCount(): number {
    return this.#free.length;
  }

  /** The extents, in no order. */
  extents(): number[] {
    return [...this.#byExtent.keys()];
  }

  /** A write numbered `sequence` into extents `first .. last` is about to happen. Returns a {@link Pin}. */
  pin(first: number, last: number, sequence: number): number {
    let missing = 0;
    for (let extent = first; extent <= last; extent++) if (!this.#byExtent.has(extent)) missing++;
    if (missing > this.#free.length) return Pin.FULL;
    let pending = false;
    for (let extent = first; extent <= last; extent++) {
      let slot = this.#byExtent.get(extent);
      if (slot === undefined) slot = this.#add(extent);
      this.#inFlight[slot]++;
      this.#touched[slot] = 1;
      this.#sequence[slot] = Math.max(this.#sequence[slot], sequence);
      if (!this.#isSlotDurable(slot)) pending = true;
    }
    if (missing > 0) this.#addGroupOf(last);
    return pending ? Pin.PENDING : Pin.HOT;
  }

  /** Whether all of `first .. last` (pinned) is on disk. */
  isDurable(first: number, last: number): boolean {
    for (let extent = first; extent <= last; extent++) {
      const slot = this.#byExtent.get(extent);
      assert(slot !== undefined, "A pinned extent is in the log", extent);
      if (!this.#isSlotDurable(slot)) return false;
    }
    return true;
  }

  /** A pinned write has ended. */
  unpin(first: number, last: number): void {
    for (let extent = first; extent <= last; extent++) {
      const slot = this.#byExtent.get(extent);
      assert(slot !== undefined && this.#inFlight[slot] > 0, "Only pinned extents are unpinned", extent);
      this.#inFlight[slot]--;
    }
  }

  /**
   * Forgets up to `most` extents whose last write is at or below `watermark`; with `onlyCold`, only such as were not written since
   * the hand last came by. Returns how many.
   */
  forget(most: number, watermark: number, onlyCold: boolean, mayForget: (extent: number) => boolean): number {
    let forgotten = 0;
    for (let step = 0; step < this.#slots.length && forgotten < most && this.#byExtent.size > 0; step++) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % this.#slots.length;
      const extent = this.#slots[slot];
      if (extent === FREE_SLOT || this.#inFlight[slot] > 0 || this.#sequence[slot] > watermark) continue;
      if (onlyCold && this.#touched[slot] === 1) {
        this.#touched[slot] = 0;
        continue;
      }
      if (!mayForget(extent)) continue;
      this.#slots[slot] = FREE_SLOT;
      this.#byExtent.delete(extent);
      this.#sequence[slot] = 0;
      this.#free.push(slot);
      this.#version[this.#blockOf(slot)]++;
      forgotten++;
    }
    return forgotten;
  }

  /** A new session: every extent counts as last written at `sequence`. Nothing may be pinned. */
  restartSequences(sequence: number): void {
    for (let slot = 0; slot < this.#slots.length; slot++) {
      assert(this.#inFlight[slot] === 0, "A drained leg has no pinned extents", this.#slots[slot]);
      if (this.#slots[slot] !== FREE_SLOT) this.#sequence[slot] = sequence;
    }
  }

  /** A block that must be written for additions to become durable, or with `lazy` for any change; -1 if none can start now. */
  nextBlockToWrite(lazy: boolean): number {
    for (let block = 0; block < this.blockCount; block++) {
      if (this.#writing[block] >= 0 || this.#version[block] === this.#written[block]) continue;
      if (lazy || this.#needsWrite(block)) return block;
    }
    return -1;
  }

  /** Begins the write of `block`: the content to write (a copy). */
  beginWrite(block: number): Uint32Array {
    this.#writing[block] = this.#version[block];
    return this.#slots.slice(block * this.slotsPerBlock, (block + 1) * this.slotsPerBlock);
  }

  /** The write of `block` has ended. A failed one is to be begun again. */
  endWrite(block: number, succeeded: boolean): void {
    if (succeeded) this.#written[block] = this.#writing[block];
    this.#writing[block] = -1;
  }

  /** What has been added so far, for {@link areDurable}: by block, the version that has all of it. */
  additions(): Float64Array {
    const versions = new Float64Array(this.blockCount);
    for (let slot = 0; slot < this.#slots.length; slot++) {
      if (this.#slots[slot] === FREE_SLOT) continue;
      const block = this.#blockOf(slot);
      versions[block] = Math.max(versions[block], this.#durableFrom[slot]);
    }
    return versions;
  }

  /** Whether all of `additions` is, or was, on disk. */
  areDurable(additions: Float64Array): boolean {
    for (let block = 0; block < this.blockCount; block++) if (this.#written[block] < additions[block]) return false;
    return true;
  }

  /** Every block is to be written anew, whatever is on disk. */
  rewriteAll(): void {
    for (let block = 0; block < this.blockCount; block++) this.#version[block]++;
  }

  /** Whether the log on disk is as it is in memory. */
  get isSaved(): boolean {
    for (let block = 0; block < this.blockCount; block++) {
      if (this.#version[block] !== this.#written[block]) return false;
    }
    return true;
  }

  #add(extent: number): number {
    const slot = this.#free.pop() as number;
    this.#slots[slot] = extent;
    this.#byExtent.set(extent, slot);
    this.#touched[slot] = 0;
    const block = this.#blockOf(slot);
    this.#version[block]++;
    this.#durableFrom[slot] = this.#version[block];
    return slot;
  }

  /** Adds the neighbours of `extent`, if more than half of the log stays free: what is surely written comes first. */
  #addGroupOf(extent: number): void {
    if ((this.#free.length - GROUP_EXTENTS) * 2 < this.#slots.length) return;
    const start = extent - extent % GROUP_EXTENTS;
    const end = Math.min(start + GROUP_EXTENTS, this.#extentCount);
    for (let each = start; each < end; each++) if (!this.#byExtent.has(each)) this.#add(each);
  }

  #needsWrite(block: number): boolean {
    const end = Math.min((block + 1) * this.slotsPerBlock, this.#slots.length);
    for (let slot = block * this.slotsPerBlock; slot < end; slot++) {
      if (this.#slots[slot] !== FREE_SLOT && this.#durableFrom[slot] > this.#written[block]) return true;
    }
    return false;
  }

  #isSlotDurable(slot: number): boolean {
    return this.#written[this.#blockOf(slot)] >= this.#durableFrom[slot];
  }

  #blockOf(slot: number): number {
    return Math.floor(slot / this.slotsPerBlock);
  }
}
