/** The report of where a leg lacks data, against a plain set of chunks. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { SparseBitmap } from "../../../lib/base/sparse_bitmap.ts";
import { dirtyMapReport } from "../../../lib/node/dirty_map_report.ts";

Deno.test("dirtyMapReport() counts buckets, runs and bytes as a slow count does", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 300 }),
    fc.uniqueArray(fc.nat({ max: 299 })),
    fc.integer({ min: 1, max: 64 }),
    fc.nat({ max: 20 }),
    fc.boolean(),
    (chunkCount, picks, buckets, maxRuns, isShort) => {
      const chunks = new Set(picks.filter((chunk) => chunk < chunkCount));
      const bits = new SparseBitmap(chunkCount);
      for (const chunk of chunks) bits.set(chunk, 1);
      const sizeBytes = chunkCount * 4096 - (isShort ? 1024 : 0);
      const request = { pool: "p", legIndex: 1, buckets, maxRuns };
      const report = dirtyMapReport(request, { chunkBytes: 4096, sizeBytes }, bits);

      assert.equal(report.dirtyChunks, chunks.size);
      const last = isShort && chunks.has(chunkCount - 1) ? 1024 : 0;
      assert.equal(report.dirtyBytes, chunks.size * 4096 - last);
      assert.equal(report.buckets.length, Math.min(buckets, chunkCount));
      assert.equal(report.buckets.reduce((sum, count) => sum + count, 0), chunks.size);
      const runs: { offsetBytes: number; lengthBytes: number }[] = [];
      for (let chunk = 0; chunk < chunkCount; chunk++) {
        if (!chunks.has(chunk)) continue;
        const lengthBytes = Math.min(4096, sizeBytes - chunk * 4096);
        if (chunks.has(chunk - 1)) runs[runs.length - 1].lengthBytes += lengthBytes;
        else runs.push({ offsetBytes: chunk * 4096, lengthBytes });
      }
      assert.equal(report.runCount, runs.length);
      assert.deepEqual(report.runs, runs.slice(0, maxRuns));
    },
  ));
});
