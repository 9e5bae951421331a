/** Which pages of a dirty map differ from the disk. */

import assert from "node:assert/strict";
import { PAGE_BITS } from "../../../lib/base/sparse_bitmap.ts";
import { DirtyMap } from "../../../lib/core/dirty_map.ts";

const PAGES = 100;

/** Saves all that is unsaved; returns which pages these were. */
function saveAll(map: DirtyMap): number[] {
  const pages: number[] = [];
  for (let page = map.takeUnsaved(); page >= 0; page = map.takeUnsaved()) {
    map.finishSave(page, map.life, true);
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
  assert.equal(map.finishSave(map.takeUnsaved(), map.life, false), true);
  assert.equal(map.isCheckpointDone, false);
  assert.equal(map.isUnsaved(0, 1), true);
  map.add(PAGE_BITS, 1);
  assert.equal(map.takeUnsaved(), 0);
  assert.equal(map.takeUnsaved(), 1);
  assert.equal(map.finishSave(1, map.life, false), false);
  assert.equal(map.finishSave(0, map.life, true), true);
  assert.equal(map.isCheckpointDone, true);
});

Deno.test("a save that began before the map started over is none of it, also under the same number", () => {
  const map = new DirtyMap(PAGES * PAGE_BITS, 1, false);
  map.add(0, 1);
  const { life } = map;
  const page = map.takeUnsaved();
  map.reset(1, false);
  map.add(1, 1);
  assert.equal(map.takeUnsaved(), page);
  map.finishSave(page, life, true);
  assert.equal(map.isUnsaved(0, 1), true, "the second is under way");
  map.finishSave(page, map.life, true);
  assert.equal(map.isUnsaved(0, 1), false);
});

Deno.test("a map that is not trusted is dirty, and all of it is to be saved", () => {
  const map = new DirtyMap(PAGES * PAGE_BITS, 1, true);
  assert.equal(map.unsavedCount, 0);
  map.distrust();
  assert.equal(map.bits.count, map.bits.bitCount);
  assert.equal(saveAll(map).length, PAGES);
});
