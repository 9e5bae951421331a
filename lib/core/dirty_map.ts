/**
 * What one leg knows another to lack: one bit a chunk, and which of its pages differ from what is on disk.
 *
 * The bits in memory are exact. The pages on disk may lag behind: until a page is saved, the extents it speaks of stay in the
 * intent log, which is the durable form of the same suspicion (see intent_log.ts and ARCHITECTURE.md, "Durable suspicion").
 *
 * @module
 */

import { PAGE_BITS, SparseBitmap } from "../base/sparse_bitmap.ts";

/** The dirty map of one leg, as held by another. */
export class DirtyMap {
  /** Pages on disk count only when they carry this number. */
  incarnation: number;
  /** What a chunk is in this incarnation when no page says otherwise. */
  isDefaultDirty: boolean;
  /** Counts the times that it started over: a page that was being saved then is one of before. */
  life = 0;
  #bits: SparseBitmap;
  readonly #unsaved = new Set<number>();
  readonly #saving = new Set<number>();
  /** Pages of the checkpoint whose save has not begun, and those being saved. */
  readonly #checkpoint = new Set<number>();
  readonly #checkpointSaving = new Set<number>();

  constructor(chunkCount: number, incarnation: number, dirty: boolean) {
    this.incarnation = incarnation;
    this.isDefaultDirty = dirty;
    this.#bits = new SparseBitmap(chunkCount, dirty);
  }

  get bits(): SparseBitmap {
    return this.#bits;
  }

  /** Starts over: a new incarnation, all clean or all dirty, with nothing on disk. */
  reset(incarnation: number, dirty: boolean): void {
    this.incarnation = incarnation;
    this.isDefaultDirty = dirty;
    this.life++;
    this.#bits = new SparseBitmap(this.#bits.bitCount, dirty);
    this.#unsaved.clear();
    this.#saving.clear();
    this.#checkpoint.clear();
    this.#checkpointSaving.clear();
  }

  /** Pages of this incarnation may be on disk that say too little: all is dirty, and every page is to be saved. */
  distrust(): void {
    this.#bits.set(0, this.#bits.bitCount);
    for (let page = 0; page < this.#bits.pageCount; page++) this.#unsaved.add(page);
  }

  /** Marks chunks dirty. */
  add(firstChunk: number, count: number): void {
    this.#change(firstChunk, count, true);
  }

  /** Marks chunks clean. Whether they may be is the caller's business. */
  clear(firstChunk: number, count: number): void {
    if (this.#bits.count > 0) this.#change(firstChunk, count, false);
  }

  /** Marks everything in `other` dirty. */
  addAll(other: SparseBitmap): void {
    this.#bits.addAll(other, (page) => this.#unsaved.add(page));
  }

  /** Takes over a page as loaded from disk. A damaged one (`null`) is dirty throughout. */
  load(page: number, words: Uint32Array | null): void {
    if (words !== null) {
      // What is on disk for a page replaces the default of the incarnation.
      const first = page * PAGE_BITS;
      this.#bits.clear(first, Math.min(PAGE_BITS, this.#bits.bitCount - first));
      this.#bits.mergePage(page, words);
    } else {
      const first = page * PAGE_BITS;
      this.add(first, Math.min(PAGE_BITS, this.#bits.bitCount - first));
      this.#unsaved.add(page);
    }
  }

  /** Whether a page that speaks of these chunks is not on disk as it is in memory. */
  isUnsaved(firstChunk: number, count: number): boolean {
    if (this.#unsaved.size === 0 && this.#saving.size === 0) return false;
    const last = Math.floor((firstChunk + count - 1) / PAGE_BITS);
    for (let page = Math.floor(firstChunk / PAGE_BITS); page <= last; page++) {
      if (this.#unsaved.has(page) || this.#saving.has(page)) return true;
    }
    return false;
  }

  /** Pages that differ from the disk, those being saved included. */
  get unsavedCount(): number {
    return this.#unsaved.size + this.#saving.size;
  }

  /** Takes one unsaved page for saving, or -1. `finishSave` must follow. A page is never saved twice at a time. */
  takeUnsaved(): number {
    for (const page of this.#unsaved) {
      if (this.#saving.has(page)) continue;
      this.#unsaved.delete(page);
      this.#saving.add(page);
      if (this.#checkpoint.delete(page)) this.#checkpointSaving.add(page);
      return page;
    }
    return -1;
  }

  /** The save of `page`, begun in `life`, has ended. Returns whether the checkpoint waits, or has waited, for it. */
  finishSave(page: number, life: number, saved: boolean): boolean {
    if (life !== this.life) return false;
    this.#saving.delete(page);
    if (!saved) this.#unsaved.add(page);
    const isAwaited = this.#checkpointSaving.delete(page);
    if (isAwaited && !saved) this.#checkpoint.add(page);
    return isAwaited;
  }

  /** From now on: is everything that is in memory now on disk? See {@link isCheckpointDone}. */
  beginCheckpoint(): void {
    this.#checkpoint.clear();
    this.#checkpointSaving.clear();
    for (const page of this.#unsaved) this.#checkpoint.add(page);
    for (const page of this.#saving) if (!this.#unsaved.has(page)) this.#checkpointSaving.add(page);
  }

  /** Whether all that was in memory at `beginCheckpoint` has been saved, whatever has changed since. */
  get isCheckpointDone(): boolean {
    return this.#checkpoint.size === 0 && this.#checkpointSaving.size === 0;
  }

  /** Only pages in which something changes differ from the disk by it. */
  #change(firstChunk: number, count: number, dirty: boolean): void {
    const end = firstChunk + count;
    for (let chunk = firstChunk; chunk < end;) {
      const page = Math.floor(chunk / PAGE_BITS);
      const next = Math.min(end, (page + 1) * PAGE_BITS);
      const changed = dirty ? this.#bits.set(chunk, next - chunk) : this.#bits.clear(chunk, next - chunk);
      if (changed > 0) this.#unsaved.add(page);
      chunk = next;
    }
  }
}
