import assert from "node:assert/strict";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import type { BlockStore, BlockStoreHandler } from "../../../lib/store/block_store.ts";
import { checkBlockStore } from "../../../lib/store/checked_block_store.ts";
import { MemoryBlockStore } from "../../../lib/store/memory_block_store.ts";
import { shareBlockStore } from "../../../lib/store/shared_block_store.ts";
import "./store_fixture.ts";

const SIZE_BYTES = 1024 * 1024;

class Completions implements BlockStoreHandler {
  readonly done: [number, number][] = [];
  onBlockDone(token: number, result: number): void {
    this.done.push([token, result]);
  }
}

function setUp() {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  const handler = new Completions();
  const store = new MemoryBlockStore({ sizeBytes: SIZE_BYTES, pool, handler });
  const slot = pool.allocate(8192);
  /** The first byte of each of the pages at these offsets. */
  const at = (...offsets: number[]) =>
    offsets.map((offset) => {
      const byte = new Uint8Array(1);
      store.peek(offset, byte);
      return byte[0];
    });
  const write = (token: number, value: number, offset: number, durable = false) => {
    pool.bytes(slot).fill(value);
    store.write(token, slot, 4096, offset, durable);
    store.complete(store.pending.length - 1);
  };
  return { pool, handler, store, slot, at, write };
}

Deno.test("memory store: nothing happens before the test completes it", () => {
  const { pool, handler, store, slot, at } = setUp();
  pool.bytes(slot).fill(9);
  store.write(1, slot, 4096, 4096, false);
  store.read(2, slot, 8192, 0);
  assert.deepEqual([handler.done, at(4096)], [[], [0]]);
  store.complete(0);
  assert.deepEqual([handler.done, at(4096)], [[[1, 0]], [9]]);
  store.complete(0);
  assert.deepEqual([pool.bytes(slot)[0], pool.bytes(slot)[4096]], [0, 9]);
});

Deno.test("memory store: power loss keeps durable and flushed writes only", () => {
  const { store, at, write } = setUp();
  write(1, 1, 0);
  write(2, 2, 4096);
  store.flush(3);
  store.complete();
  write(4, 3, 0);
  write(5, 4, 8192, true);
  write(6, 5, 12288);
  store.zero(7, 4096, 4096, false);
  store.complete();
  assert.deepEqual(at(0, 4096, 8192, 12288), [3, 0, 4, 5]);
  store.flush(8); // never completes
  store.loseUnflushed();
  assert.deepEqual(at(0, 4096, 8192, 12288), [1, 2, 4, 0]);
  assert.equal(store.pending.length, 0);
  write(9, 6, 0);
  store.loseUnflushed();
  assert.deepEqual(at(0), [1]);
});

Deno.test("memory store: a failed write may have been torn", () => {
  const { pool, handler, store, slot, at } = setUp();
  pool.bytes(slot).fill(7);
  store.write(1, slot, 4096, 0, true);
  store.fail(0, -5, 1024);
  assert.deepEqual([handler.done, at(0, 512, 1024)], [[[1, -5]], [7, 7, 0]]);
  assert.throws(() => store.complete(0), AssertionFailure);
});

Deno.test("the choke point takes what the contract allows", () => {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  const handler = new Completions();
  let memory!: MemoryBlockStore;
  const store = checkBlockStore(
    (inner) => memory = new MemoryBlockStore({ sizeBytes: SIZE_BYTES, pool, handler: inner }),
    handler,
    pool,
  );
  const [a, b] = [pool.allocate(4096), pool.allocate(4096)];
  store.write(1, a, 4096, 0, false);
  store.write(2, a, 512, 4096, false);
  store.read(3, b, 4096, 2048);
  store.zero(4, 4096, 8192, true);
  store.flush(5);
  memory.completeAll();
  store.write(1, a, 4096, 0, false);
  memory.completeAll();
  store.close();
  assert.deepEqual(handler.done.map(([token]) => token), [1, 2, 3, 4, 5, 1]);
});

Deno.test("the choke point stops every breach of the contract", () => {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  const [a, b] = [pool.allocate(4096), pool.allocate(4096)];
  const breaches: [string, (store: BlockStore) => void][] = [
    ["offset", (store) => store.read(1, a, 512, 100)],
    ["length", (store) => store.read(1, a, 100, 0)],
    ["empty", (store) => store.zero(1, 0, 0, false)],
    ["beyond the end", (store) => store.write(1, a, 4096, SIZE_BYTES - 512, false)],
    ["before the start", (store) => store.write(1, a, 4096, -4096, false)],
    ["slot too small", (store) => store.read(1, a, 8192, 0)],
    ["slot unknown", (store) => store.read(1, 99, 4096, 0)],
    ["token twice", (store) => (store.read(1, a, 512, 0), store.read(1, b, 512, 0))],
    ["overlapping writes", (store) => (store.write(1, a, 4096, 0, false), store.write(2, b, 512, 3584, false))],
    ["zero over a write", (store) => (store.write(1, a, 4096, 0, false), store.zero(2, 8192, 0, false))],
    ["slot shared with a read", (store) => (store.write(1, a, 512, 0, false), store.read(2, a, 512, 4096))],
    ["close in flight", (store) => (store.flush(1), store.close())],
    ["use after close", (store) => (store.close(), store.flush(1))],
  ];
  for (const [name, breach] of breaches) {
    const store = checkBlockStore(
      (handler) => new MemoryBlockStore({ sizeBytes: SIZE_BYTES, pool, handler }),
      new Completions(),
      pool,
    );
    assert.throws(() => breach(store), AssertionFailure, name);
  }
});

Deno.test("the choke point stops a store that completes twice or with a byte count", () => {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  let inner!: BlockStoreHandler;
  const store = checkBlockStore(
    (handler) => {
      inner = handler;
      return new MemoryBlockStore({ sizeBytes: SIZE_BYTES, pool, handler });
    },
    new Completions(),
    pool,
  );
  store.flush(1);
  inner.onBlockDone(1, 0);
  assert.throws(() => inner.onBlockDone(1, 0), AssertionFailure);
  store.flush(2);
  assert.throws(() => inner.onBlockDone(2, 4096), AssertionFailure);
});

Deno.test("users of a shared store get their own completions, with their own tokens", () => {
  const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
  const users = [new Completions(), new Completions(), new Completions()];
  let memory!: MemoryBlockStore;
  const ports = shareBlockStore(
    (handler) => memory = new MemoryBlockStore({ sizeBytes: SIZE_BYTES, pool, handler }),
    users,
  );
  const slot = pool.allocate(4096);
  const large = 2 ** 50;
  ports[0].read(5, slot, 512, 0);
  ports[1].write(5, slot, 512, 0, true);
  ports[2].zero(large, 512, 0, false);
  ports[2].flush(0);
  assert.deepEqual(memory.pending.map((p) => [p.kind, p.durable]), [
    ["read", false],
    ["write", true],
    ["zero", false],
    ["flush", false],
  ]);
  memory.fail(1, -28);
  memory.completeAll();
  assert.deepEqual(users.map((user) => user.done), [[[5, 0]], [[5, -28]], [[large, 0], [0, 0]]]);
  ports[0].close();
  ports[2].close();
  assert.throws(() => ports[0].close(), AssertionFailure);
  memory.flush(1); // the store beneath is still open
  memory.completeAll();
  ports[1].close();
  assert.throws(() => memory.flush(1), AssertionFailure);
});
