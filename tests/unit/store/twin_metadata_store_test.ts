import assert from "node:assert/strict";
import fc from "fast-check";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import { Prng } from "../../../lib/base/prng.ts";
import { decodeIntentBlock, emptyIntentBlock, encodeIntentBlock } from "../../../lib/disk_format/intent_block.ts";
import { pickTwin } from "../../../lib/disk_format/twin.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { checkBlockStore } from "../../../lib/store/checked_block_store.ts";
import { MemoryBlockStore } from "../../../lib/store/memory_block_store.ts";
import { TwinMetadataStore } from "../../../lib/store/twin_metadata_store.ts";
import "./store_fixture.ts";

const OWNER = { poolUuid: crypto.randomUUID(), legUuid: crypto.randomUUID() };
const EIO = -5;
const RECORDS = 4;

/** A record whose content is its sequence. */
function record(sequence: number): Uint8Array {
  const block = emptyIntentBlock(0);
  block.slots.fill(sequence);
  return encodeIntentBlock(block, OWNER, sequence);
}

function setUp(slotCount?: number) {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  /** Token and result, in the order of completion. */
  const done: [number, number][] = [];
  const metadata = new TwinMetadataStore({
    pool,
    slotCount,
    handler: { onMetadataDone: (token, result) => void done.push([token, result]) },
  });
  let memory: MemoryBlockStore | null = null;
  const checked = checkBlockStore(
    (handler) => memory = new MemoryBlockStore({ sizeBytes: 64 * 1024, pool, handler }),
    metadata,
    pool,
  );
  metadata.attach(checked);
  /** The record that a load would find at `offset`: its sequence, or null. */
  const found = (offset: number): number | null => {
    const copies = new Uint8Array(8192);
    memory!.peek(offset, copies);
    const pick = pickTwin(copies.subarray(0, 4096), copies.subarray(4096), decodeIntentBlock, OWNER);
    if (!pick.ok) {
      assert.ok(pick.neverWritten, `record at ${offset} is lost: ${pick.first.message}`);
      return null;
    }
    assert.ok(pick.value.slots.every((slot) => slot === pick.sequence));
    return pick.sequence;
  };
  return { pool, done, metadata, memory: memory! as MemoryBlockStore, found };
}

Deno.test("the second copy is begun when the first is durable, and done when both are", () => {
  const { pool, done, metadata, memory, found } = setUp();
  metadata.writeTwin(7, 8192, record(1));
  assert.deepEqual(memory.pending.map((p) => [p.offset, p.durable]), [[8192, true]]);
  memory.complete();
  assert.deepEqual(done, []);
  assert.deepEqual(memory.pending.map((p) => [p.offset, p.durable]), [[12288, true]]);
  memory.complete();
  assert.deepEqual(done, [[7, 0]]);
  assert.equal(found(8192), 1);
  assert.equal(metadata.pendingCount, 0);
  metadata.close();
  assert.equal(pool.usedBytes, 0);
});

Deno.test("the block is copied at the call", () => {
  const { metadata, memory, found } = setUp(1);
  const block = record(1);
  metadata.writeTwin(1, 0, block);
  metadata.writeTwin(2, 8192, block);
  block.fill(0);
  memory.completeAll();
  assert.deepEqual([found(0), found(8192)], [1, 1]);
});

Deno.test("writes to one record follow one another; those that wait are joined", () => {
  const { done, metadata, memory, found } = setUp();
  for (let i = 1; i <= 4; i++) metadata.writeTwin(i, 0, record(i));
  assert.equal(memory.pending.length, 1);
  memory.complete();
  memory.complete();
  assert.deepEqual(done, [[1, 0]]);
  assert.equal(found(0), 1);
  metadata.writeTwin(5, 0, record(5));
  memory.complete();
  assert.equal(found(0), 4);
  memory.complete();
  assert.deepEqual(done, [[1, 0], [2, 0], [3, 0], [4, 0]]);
  memory.completeAll();
  assert.deepEqual(done.at(-1), [5, 0]);
  assert.equal(found(0), 5);
});

Deno.test("records wait for slots in order, and a busy one does not starve the others", () => {
  const { done, metadata, memory } = setUp(1);
  metadata.writeTwin(1, 0, record(1));
  metadata.writeTwin(2, 8192, record(1));
  metadata.writeTwin(3, 0, record(2));
  metadata.writeTwin(4, 16384, record(1));
  memory.completeAll();
  assert.deepEqual(done.map(([token]) => token), [1, 2, 4, 3]);
});

Deno.test("after a failed second copy the next write begins with it, so the good copy stays until then", () => {
  const { done, metadata, memory, found } = setUp();
  metadata.writeTwin(1, 0, record(1));
  memory.completeAll();
  metadata.writeTwin(2, 0, record(2));
  memory.complete();
  memory.fail(0, EIO, 512);
  assert.deepEqual(done.at(-1), [2, EIO]);
  assert.equal(found(0), 2);
  metadata.writeTwin(3, 0, record(3));
  assert.deepEqual(memory.pending.map((p) => p.offset), [4096]);
  memory.fail(0, EIO, 1024);
  assert.equal(found(0), 2);
  metadata.writeTwin(4, 0, record(4));
  memory.complete();
  assert.deepEqual(memory.pending.map((p) => p.offset), [0]);
  memory.complete();
  assert.deepEqual(done, [[1, 0], [2, EIO], [3, EIO], [4, 0]]);
  metadata.writeTwin(5, 0, record(5));
  assert.deepEqual(memory.pending.map((p) => p.offset), [0]);
  memory.completeAll();
});

Deno.test("misuse is a bug", () => {
  const { metadata, memory } = setUp();
  assert.throws(() => metadata.writeTwin(1, 0, new Uint8Array(512)), AssertionFailure);
  assert.throws(() => metadata.writeTwin(1, 512, record(1)), AssertionFailure);
  metadata.writeTwin(1, 0, record(1));
  assert.throws(() => metadata.close(), AssertionFailure);
  memory.completeAll();
});

/**
 * Random writes, completions, torn failures and finally a loss of power, in which the write under way may be torn:
 * what a load then finds is never older than what was reported done, never newer than what was asked, and every token
 * completes exactly once, with a write of its own content or a newer one.
 */
Deno.test("whatever fails, a load finds what was last relied upon or what was being written", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 4 }), (seed, slotCount) => {
      const { pool, done, metadata, memory, found } = setUp(slotCount);
      const prng = new Prng(seed);
      const asked: { at: number; sequence: number }[] = [];
      const newest = new Array(RECORDS).fill(0);
      for (let step = 0; step < 150; step++) {
        if (prng.chance(0.4) || memory.pending.length === 0) {
          const at = prng.below(RECORDS);
          asked.push({ at, sequence: ++newest[at] });
          metadata.writeTwin(asked.length - 1, at * 8192, record(newest[at]));
        } else if (prng.chance(0.2)) {
          memory.fail(prng.below(memory.pending.length), EIO, 512 * prng.below(9));
        } else {
          memory.complete(prng.below(memory.pending.length));
        }
      }
      const tokens = done.map(([token]) => token);
      assert.equal(new Set(tokens).size, tokens.length, "each token once");
      const torn = prng.below(9) * 512;
      const under = memory.pending.length > 0 ? prng.pick(memory.pending) : null;
      memory.loseUnflushed();
      // Of the write under way, the first sectors made it.
      if (under !== null) memory.poke(under.offset, pool.bytes(under.slot).subarray(0, torn));
      for (let at = 0; at < RECORDS; at++) {
        const reliedOn = done.filter(([token, result]) => result === 0 && asked[token].at === at)
          .reduce((most, [token]) => Math.max(most, asked[token].sequence), 0);
        const sequence = found(at * 8192) ?? 0;
        assert.ok(sequence >= reliedOn, `record ${at}: found ${sequence}, relied on ${reliedOn}`);
        assert.ok(sequence <= newest[at]);
      }
    }),
    { numRuns: 150 },
  );
});
