import assert from "node:assert/strict";
import fc from "fast-check";
import "../../ffi/libc_opened.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";

const MIB = 1 << 20;

Deno.test("a slot is aligned, large enough and as large as its class", () => {
  const pool = new SlabBufferPool({ totalBytes: 16 * MIB });
  for (
    const [asked, capacity] of [[1, 4096], [4096, 4096], [4097, 8192], [65536, 65536], [65537, 131072], [MIB, MIB]]
  ) {
    const slot = pool.allocate(asked);
    assert.ok(slot >= 0);
    assert.equal(pool.capacity(slot), capacity);
    assert.equal(pool.bytes(slot).length, capacity);
    assert.equal(pool.address(slot) % 4096, 0);
    assert.equal(pool.bytes(slot), pool.bytes(slot), "the view is cached");
  }
});

Deno.test("lengths that no slot can have are assertion failures", () => {
  const pool = new SlabBufferPool({ totalBytes: MIB });
  for (const lengthBytes of [0, -1, MIB + 1, NaN]) {
    assert.throws(() => pool.allocate(lengthBytes), /a slot has 1 byte to 1 MiB/);
  }
  assert.throws(() => new SlabBufferPool({ totalBytes: 0 }), /0 bytes is not possible/);
});

Deno.test("double free, unknown slots and slots inside a slot are assertion failures", () => {
  const pool = new SlabBufferPool({ totalBytes: 2 * MIB });
  const slot = pool.allocate(8192);
  assert.throws(() => pool.free(slot + 1), /only a slot in use is freed/);
  pool.free(slot);
  for (const wrong of [slot, -1, 512, 1e9, 0.5]) assert.throws(() => pool.free(wrong), /only a slot in use is freed/);
  assert.throws(() => pool.bytes(slot), /a slot in use has a capacity/);
});

Deno.test("an exhausted pool says -1, and gives a slot again after a free, which freedCount tells", () => {
  const pool = new SlabBufferPool({ totalBytes: 2 * MIB });
  const large = [pool.allocate(MIB), pool.allocate(MIB)];
  assert.equal(pool.allocate(1), -1);
  assert.equal(pool.usedBytes, pool.totalBytes);
  const seen = pool.freedCount;
  pool.free(large[0]);
  assert.notEqual(pool.freedCount, seen);
  // The freed slab serves another class in full.
  const small: number[] = [];
  for (let slot = pool.allocate(4096); slot >= 0; slot = pool.allocate(4096)) small.push(slot);
  assert.equal(small.length, 256);
  assert.equal(pool.allocate(MIB), -1);
  small.forEach((slot) => pool.free(slot));
  assert.ok(pool.allocate(MIB) >= 0);
});

Deno.test("the slot freed last is used first", () => {
  const pool = new SlabBufferPool({ totalBytes: 4 * MIB });
  const slots = Array.from({ length: 10 }, () => pool.allocate(4096));
  pool.free(slots[3]);
  pool.free(slots[7]);
  assert.equal(pool.allocate(4096), slots[7]);
  assert.equal(pool.allocate(4096), slots[3]);
});

Deno.test("views survive a slab's change of class with the right length", () => {
  const pool = new SlabBufferPool({ totalBytes: MIB });
  const small = pool.allocate(4096);
  assert.equal(pool.bytes(small).length, 4096);
  pool.free(small);
  const large = pool.allocate(MIB);
  assert.equal(pool.bytes(large).length, MIB);
  pool.free(large);
  assert.equal(pool.bytes(pool.allocate(16384)).length, 16384);
});

// The oracle keeps every slot as a plain range of bytes and looks at all of them.
Deno.test("slots in use never overlap, keep their bytes, and accounts are right", () => {
  const action = fc.oneof(
    fc.record({ lengthBytes: fc.oneof(fc.integer({ min: 1, max: MIB }), fc.constantFrom(4096, 8192, 65536, MIB)) }),
    fc.record({ freeIndex: fc.nat(1000) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const pool = sharedPool;
      const inUse: { slot: number; start: number; end: number; mark: number }[] = [];
      let mark = 0;
      for (const one of actions) {
        if ("freeIndex" in one) {
          if (inUse.length === 0) continue;
          const [gone] = inUse.splice(one.freeIndex % inUse.length, 1);
          const bytes = pool.bytes(gone.slot);
          assert.equal(bytes[0], gone.mark);
          assert.equal(bytes[bytes.length - 1], gone.mark);
          pool.free(gone.slot);
        } else {
          const slot = pool.allocate(one.lengthBytes);
          if (slot === -1) {
            // Refused only when no slab is free: each has a slot in use.
            const touched = new Set(inUse.map((entry) => Math.floor((entry.start - pool.baseAddress) / MIB)));
            assert.equal(touched.size, pool.totalBytes / MIB);
            continue;
          }
          const start = pool.address(slot);
          const end = start + pool.capacity(slot);
          assert.ok(
            pool.capacity(slot) >= one.lengthBytes && pool.capacity(slot) < Math.max(2 * one.lengthBytes, 4097),
          );
          assert.ok(start >= pool.baseAddress && end <= pool.baseAddress + pool.totalBytes);
          for (const other of inUse) assert.ok(end <= other.start || start >= other.end, "overlap");
          mark = (mark + 1) & 255;
          pool.bytes(slot).fill(mark);
          inUse.push({ slot, start, end, mark });
        }
        assert.equal(pool.usedBytes, inUse.reduce((sum, entry) => sum + entry.end - entry.start, 0));
      }
      for (const entry of inUse) pool.free(entry.slot);
      assert.equal(pool.usedBytes, 0);
      // Nothing is lost: the whole pool can be had in the largest class again.
      const all: number[] = [];
      for (let slot = pool.allocate(MIB); slot >= 0; slot = pool.allocate(MIB)) all.push(slot);
      assert.equal(all.length, pool.totalBytes / MIB);
      all.forEach((slot) => pool.free(slot));
    }),
    { numRuns: 60 },
  );
});

// One mapping for all runs: mappings live for the process.
const sharedPool = new SlabBufferPool({ totalBytes: 8 * MIB });

Deno.test("a slot that is held is not handed out again before the last one has released it", () => {
  const pool = new SlabBufferPool({ totalBytes: MIB, shareable: true });
  assert.ok(pool.descriptor >= 0);
  const slot = pool.allocate(MIB);
  pool.hold(slot);
  pool.hold(slot);
  assert.equal(pool.heldBytes, MIB);
  pool.free(slot);
  assert.equal(pool.allocate(4096), -1);
  assert.throws(() => pool.free(slot), /only a slot in use is freed/);
  pool.release(slot);
  assert.equal(pool.allocate(4096), -1);
  assert.equal(pool.releasedCount, 0);
  pool.release(slot);
  assert.equal(pool.releasedCount, 1);
  assert.equal(pool.heldBytes, 0);
  assert.throws(() => pool.release(slot), /a slot that is held/);
  const again = pool.allocate(MIB);
  assert.equal(again, slot);
  pool.hold(again);
  pool.release(again);
  assert.equal(pool.usedBytes, MIB, "released before it is freed: it is its owner's");
  pool.free(again);
  assert.equal(pool.usedBytes, 0);
});
