/** Which pages of a dirty map differ from the disk. */

import assert from "node:assert/strict";
import { PAGE_BITS } from "../../../lib/base/sparse_bitmap.ts";
import { DirtyMap } from "../../../lib/core/dirty_map.ts";

const PAGES = 100;

/** Saves all that is unsaved; returns which pages these were. */
function saveAll(map: DirtyMap): number[] {
  const pages: number[] = [];
  for (let page = map.takeUnsaved(); page >= 0; page = map.takeUnsaved()) {
    map.finishSave(page, map.incarnation, true);
    pages.push(page);
  }
  return pages;
}

Deno.test("only pages in which a chunk has changed are saved", () => {
  const map = new DirtyMap(PAGES * PAGE_BITS, 1, false);
  map.add(PAGE_BITS - 1, 2);
  map.add(70 * PAGE_BITS, 5);
  assert.deepEqual(saveAll(map), [0, 1, 70]);
  map.add(PAGE_BITS - 1, 2 * PAGE_BITS);
  assert.deepEqual(saveAll(map), [1, 2]);
  map.clear(0, map.bits.bitCount);
  assert.deepEqual(saveAll(map), [0, 1, 2, 70]);
  map.clear(0, map.bits.bitCount);
  assert.equal(map.unsavedCount, 0);
});

Deno.test("a page that could not be saved is unsaved, and says whether the checkpoint waits for it", () => {
  const map = new DirtyMap(PAGES * PAGE_BITS, 1, false);
  map.add(0, 1);
  map.beginCheckpoint();
  assert.equal(map.finishSave(map.takeUnsaved(), 1, false), true);
  assert.equal(map.isCheckpointDone, false);
  assert.equal(map.isUnsaved(0, 1), true);
  map.add(PAGE_BITS, 1);
  assert.equal(map.takeUnsaved(), 0);
  assert.equal(map.takeUnsaved(), 1);
  assert.equal(map.finishSave(1, 1, false), false);
  assert.equal(map.finishSave(0, 1, true), true);
  assert.equal(map.isCheckpointDone, true);
});
