/**
 * Where a leg lacks data, in a form for people: counts over equal buckets of the address space, and the first runs.
 *
 * @module
 */

import type { SparseBitmap } from "../base/sparse_bitmap.ts";
import type { NodeOperations } from "../control/control_api.ts";

type Request = NodeOperations["pool.dirtyMap"]["request"];
type Report = NodeOperations["pool.dirtyMap"]["result"];

/** Runs counted at most, so that a scattered map of a big pool does not hold up the data plane: some 10 ms of work. */
const RUN_COUNT_LIMIT = 200_000;

/** The report on `bits`, one bit a chunk. `runCount` stops at 200,000. */
export function dirtyMapReport(
  request: Request,
  pool: { readonly chunkBytes: number; readonly sizeBytes: number },
  bits: SparseBitmap,
): Report {
  const { chunkBytes, sizeBytes } = pool;
  const chunkCount = Math.ceil(sizeBytes / chunkBytes);
  const bucketCount = Math.min(request.buckets, chunkCount);
  const buckets: number[] = [];
  for (let i = 0; i < bucketCount; i++) {
    const first = Math.floor(i * chunkCount / bucketCount);
    const end = Math.floor((i + 1) * chunkCount / bucketCount);
    buckets.push(bits.countRange(first, end - first));
  }
  const runs: { offsetBytes: number; lengthBytes: number }[] = [];
  let runCount = 0;
  for (let first = bits.next(0); first >= 0 && runCount < RUN_COUNT_LIMIT;) {
    const count = bits.runLength(first, chunkCount - first);
    runCount++;
    if (runs.length < request.maxRuns) {
      const offsetBytes = first * chunkBytes;
      runs.push({ offsetBytes, lengthBytes: Math.min(count * chunkBytes, sizeBytes - offsetBytes) });
    }
    first = first + count < chunkCount ? bits.next(first + count) : -1;
  }
  return {
    legIndex: request.legIndex,
    chunkBytes,
    sizeBytes,
    dirtyChunks: bits.count,
    dirtyBytes: dirtyBytesOf(bits, chunkBytes, sizeBytes, chunkCount),
    memoryBytes: bits.memoryBytes,
    buckets,
    runCount,
    runs,
  };
}

/** The last chunk may be shorter than the others. */
function dirtyBytesOf(bits: SparseBitmap, chunkBytes: number, sizeBytes: number, chunkCount: number): number {
  const shortBy = bits.test(chunkCount - 1) ? chunkCount * chunkBytes - sizeBytes : 0;
  return bits.count * chunkBytes - shortBy;
}
