/**
 * Runs of chunks as legs tell them to each other: pairs of u32, the first chunk and how many.
 *
 * @module
 */

import type { SparseBitmap } from "../base/sparse_bitmap.ts";

/** Runs in one frame: 64 KiB of payload. */
export const RUNS_PER_FRAME = 8192;

/** Chunks of one run at most. The largest pool has 2^32, which is no u32. */
const MOST_RUN_CHUNKS = 2 ** 31;

/** As many runs of set bits from `from` on as one frame carries, and where to go on: -1 after the last one. */
export function runsFrom(bits: SparseBitmap, from: number): { readonly runs: Uint32Array; readonly next: number } {
  const runs = new Uint32Array(2 * RUNS_PER_FRAME);
  let count = 0;
  let chunk = bits.next(from);
  while (chunk >= 0 && count < RUNS_PER_FRAME) {
    const length = bits.runLength(chunk, MOST_RUN_CHUNKS);
    runs[2 * count] = chunk;
    runs[2 * count + 1] = length;
    count++;
    chunk = bits.next(chunk + length);
  }
  return { runs: runs.slice(0, 2 * count), next: chunk };
}
