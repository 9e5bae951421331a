/**
 * The chunks a leg was asked to write since the watermark: whatever any active leg may have acked but not yet have on stable
 * storage. When a leg is dropped this becomes its first dirty chunks.
 *
 * Two generations stand in for per-chunk sequence numbers: `old` is closed with the highest sequence it contains and dropped
 * as a whole once the watermark reaches it; `young` collects meanwhile. The set is thus a superset of the exact one, by at most
 * the writes of about two flush intervals.
 *
 * @module
 */

import { SparseBitmap } from "../base/sparse_bitmap.ts";

/** A superset of the chunks written above the watermark. */
export class UnflushedSet {
  #young: SparseBitmap;
  #old: SparseBitmap;
  #youngSequence = 0;
  #oldSequence = 0;

  constructor(chunkCount: number) {
    this.#young = new SparseBitmap(chunkCount);
    this.#old = new SparseBitmap(chunkCount);
  }

  /** A write with `sequence` touches these chunks. */
  add(firstChunk: number, count: number, sequence: number): void {
    this.#young.set(firstChunk, count);
    if (sequence > this.#youngSequence) this.#youngSequence = sequence;
  }

  /** A flush is asked for: close the young generation if the old one is gone. */
  rotate(): void {
    if (this.#old.count > 0 || this.#young.count === 0) return;
    const empty = this.#old;
    this.#old = this.#young;
    this.#oldSequence = this.#youngSequence;
    this.#young = empty;
  }

  /** Everything up to `watermark` is on stable storage everywhere. */
  forget(watermark: number): void {
    if (this.#old.count > 0 && watermark >= this.#oldSequence) this.#old.clearAll();
    if (this.#young.count > 0 && watermark >= this.#youngSequence) this.#young.clearAll();
  }

  /** A new session begins; sequences start over. */
  reset(): void {
    this.#old.clearAll();
    this.#young.clearAll();
    this.#youngSequence = 0;
    this.#oldSequence = 0;
  }

  /** Calls `into` with each generation's chunks. */
  forEach(into: (chunks: SparseBitmap) => void): void {
    if (this.#old.count > 0) into(this.#old);
    if (this.#young.count > 0) into(this.#young);
  }

  /** Chunks in the set, counted once a generation. */
  get count(): number {
    return this.#old.count + this.#young.count;
  }
}
