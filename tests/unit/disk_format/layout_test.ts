import assert from "node:assert/strict";
import fc from "fast-check";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import {
  computeLayout,
  DATA_ALIGNMENT_BYTES,
  intentBlockOffset,
  layoutProblem,
  mapPageOffset,
  TWIN_BYTES,
} from "../../../lib/disk_format/layout.ts";
import { CHUNKS_PER_MAP_PAGE } from "../../../lib/disk_format/map_page.ts";

const inputs = fc.record({
  sizeBytes: fc.integer({ min: 1, max: 2 ** 30 }).map((blocks) => blocks * 4096),
  chunkBytes: fc.integer({ min: 12, max: 20 }).map((bits) => 2 ** bits),
  extentBytes: fc.integer({ min: 16, max: 26 }).map((bits) => 2 ** bits),
  hotExtentCount: fc.integer({ min: 1, max: 65536 }),
});

Deno.test("a layout puts everything side by side, with room for every record", () => {
  fc.assert(fc.property(inputs, (input) => {
    const layout = computeLayout(input);
    assert.equal(layout.epochOffset, TWIN_BYTES);
    assert.equal(layout.intentOffset, 2 * TWIN_BYTES);
    assert.ok(layout.mapPageCount * CHUNKS_PER_MAP_PAGE * input.chunkBytes >= input.sizeBytes);
    assert.ok((layout.mapPageCount - 1) * CHUNKS_PER_MAP_PAGE * input.chunkBytes < input.sizeBytes);
    assert.equal(intentBlockOffset(layout, layout.intentBlockCount - 1) + TWIN_BYTES, layout.mapOffset);
    const lastPage = layout.mapPageCount - 1;
    for (let leg = 0; leg < 7; leg++) {
      assert.equal(mapPageOffset(layout, leg, lastPage) + TWIN_BYTES, mapPageOffset(layout, leg + 1, 0));
    }
    const mapEnd = mapPageOffset(layout, 7, lastPage) + TWIN_BYTES;
    assert.ok(mapEnd <= layout.dataOffset && layout.dataOffset - mapEnd < DATA_ALIGNMENT_BYTES);
    assert.equal(layout.dataOffset % DATA_ALIGNMENT_BYTES, 0);
    assert.equal(layout.deviceBytes, layout.dataOffset + input.sizeBytes);
    assert.throws(() => intentBlockOffset(layout, layout.intentBlockCount), AssertionFailure);
    assert.throws(() => mapPageOffset(layout, 0, layout.mapPageCount), AssertionFailure);
    assert.throws(() => mapPageOffset(layout, 8, 0), AssertionFailure);
  }));
});

Deno.test("the metadata of a large pool is 0.05 % of it", () => {
  const layout = computeLayout({ sizeBytes: 2 ** 40, chunkBytes: 4096, extentBytes: 2 ** 20, hotExtentCount: 1024 });
  assert.ok(layout.dataOffset / 2 ** 40 < 0.00052, String(layout.dataOffset));
});

Deno.test("impossible properties are named", () => {
  const good = { sizeBytes: 2 ** 30, chunkBytes: 4096, extentBytes: 2 ** 20, hotExtentCount: 1024 };
  assert.equal(layoutProblem(good), null);
  const bad: [Partial<typeof good>, RegExp][] = [
    [{ sizeBytes: 0 }, /positive multiple of 4096/],
    [{ sizeBytes: 4095 }, /positive multiple of 4096/],
    [{ sizeBytes: NaN }, /positive multiple of 4096/],
    [{ sizeBytes: 2 ** 45 }, /choose larger chunks/],
    [{ chunkBytes: 2048 }, /4K to 1M/],
    [{ chunkBytes: 2 ** 21 }, /4K to 1M/],
    [{ chunkBytes: 12288 }, /4K to 1M/],
    [{ chunkBytes: Infinity }, /4K to 1M/],
    [{ extentBytes: 2 ** 15 }, /64K to 64M/],
    [{ sizeBytes: 2 ** 49, chunkBytes: 2 ** 20, extentBytes: 2 ** 16 }, /choose larger extents/],
    [{ hotExtentCount: 0 }, /1 to 65536/],
    [{ hotExtentCount: 1.5 }, /1 to 65536/],
  ];
  for (const [change, message] of bad) {
    assert.match(String(layoutProblem({ ...good, ...change })), message);
    assert.throws(() => computeLayout({ ...good, ...change }), AssertionFailure);
  }
});
