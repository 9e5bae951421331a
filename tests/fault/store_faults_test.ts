/**
 * The n-th I/O fails, for n = 1, 2, 3, … until nothing fails: every request still completes exactly once, only what the
 * failure hit fails, and metadata stays readable.
 */

import assert from "node:assert/strict";
import { decodeIntentBlock, emptyIntentBlock, encodeIntentBlock } from "../../lib/disk_format/intent_block.ts";
import { pickTwin } from "../../lib/disk_format/twin.ts";
import { SlabBufferPool } from "../../lib/io/slab_buffer_pool.ts";
import type { BlockStoreHandler } from "../../lib/store/block_store.ts";
import { checkBlockStore } from "../../lib/store/checked_block_store.ts";
import { DeviceFile } from "../../lib/store/leg_device.ts";
import { MemoryBlockStore } from "../../lib/store/memory_block_store.ts";
import { openLegStore } from "../../lib/store/leg_store.ts";
import { TwinMetadataStore } from "../../lib/store/twin_metadata_store.ts";
import { UringBlockStore } from "../../lib/store/uring_block_store.ts";
import { ScriptedReactor } from "../unit/store/scripted_reactor.ts";
import { withDirectory } from "../unit/store/store_fixture.ts";

const EIO = -5;
const OWNER = { poolUuid: crypto.randomUUID(), legUuid: crypto.randomUUID() };

function record(sequence: number): Uint8Array {
  return encodeIntentBlock(emptyIntentBlock(sequence), OWNER, sequence);
}

/** Runs `body` with n = 1, 2, 3, … until it says that its n-th I/O was never reached; returns how many failed. */
function failEach(body: (n: number) => boolean): number {
  let n = 1;
  while (body(n)) {
    n++;
    assert.ok(n < 10_000, "some n is beyond the last I/O");
  }
  return n - 1;
}

Deno.test("twin records: the n-th block write fails, torn anywhere", () => {
  const failed = failEach((n) => {
    let reached = false;
    for (const tornBytes of [0, 512, 2048, 4096]) {
      const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
      const results = new Map<number, number>();
      const metadata = new TwinMetadataStore({
        pool,
        handler: {
          onMetadataDone(token, result) {
            assert.ok(!results.has(token));
            results.set(token, result);
          },
        },
      });
      let memory!: MemoryBlockStore;
      metadata.attach(checkBlockStore(
        (handler) => memory = new MemoryBlockStore({ sizeBytes: 65536, pool, handler }),
        metadata,
        pool,
      ));
      let writes = 0;
      for (let sequence = 1; sequence <= 4; sequence++) {
        metadata.writeTwin(sequence, 8192, record(sequence));
        while (memory.pending.length > 0) {
          if (++writes === n) {
            reached = true;
            memory.fail(0, EIO, tornBytes);
          } else {
            memory.complete(0);
          }
        }
        memory.loseUnflushed();
        const copies = new Uint8Array(8192);
        memory.peek(8192, copies);
        const pick = pickTwin(copies.subarray(0, 4096), copies.subarray(4096), decodeIntentBlock, OWNER);
        const lastGood = Math.max(0, ...[...results].filter(([, result]) => result === 0).map(([token]) => token));
        const found = pick.ok ? pick.sequence : 0;
        assert.ok(
          found >= lastGood && found <= sequence,
          `write ${n} torn at ${tornBytes}: found ${found} of ${sequence}`,
        );
        if (!pick.ok) assert.ok(pick.neverWritten);
      }
      const bad = [...results].filter(([, result]) => result !== 0);
      assert.equal(results.size, 4);
      assert.equal(bad.length, reached ? 1 : 0);
    }
    return reached;
  });
  assert.equal(failed, 8);
});

/** Ends every operation whole, but the n-th with `errno`. */
function serve(reactor: ScriptedReactor, n: number, counter: { operations: number }, errno: number): void {
  while (reactor.prepared.length > 0) {
    const { lengthBytes, kind } = reactor.prepared[0];
    const whole = kind === "read" || kind === "write" ? lengthBytes : 0;
    reactor.end(++counter.operations === n ? errno : whole);
  }
}

Deno.test("a leg's stores: the n-th operation of the ring fails", () => {
  withDirectory((directory) => {
    const path = `${directory}/a.img`;
    Deno.writeFileSync(path, new Uint8Array(1024 * 1024));
    const pool = new SlabBufferPool({ totalBytes: 2 * 1024 * 1024 });
    const failed = failEach((n) => {
      const reactor = new ScriptedReactor();
      const counter = { operations: 0 };
      const blockResults: [number, number][] = [];
      const metadataResults: [number, number][] = [];
      const stores = openLegStore({
        device: DeviceFile.open(path, { access: "exclusive" }),
        reactor,
        pool,
        onBlockDone: (token, result) => void blockResults.push([token, result]),
        onMetadataDone: (token, result) => void metadataResults.push([token, result]),
      });
      const slot = pool.allocate(65536);
      stores.blocks.write(1, slot, 65536, 0, false);
      stores.metadata.writeTwin(1, 131072, record(1));
      stores.blocks.read(2, slot, 4096, 65536);
      stores.blocks.zero(3, 65536, 262144, false);
      stores.metadata.writeTwin(2, 131072, record(2));
      stores.blocks.flush(4);
      serve(reactor, n, counter, EIO);
      assert.deepEqual(blockResults.map(([token]) => token).sort(), [1, 2, 3, 4]);
      assert.deepEqual(metadataResults.map(([token]) => token).sort(), [1, 2]);
      const bad = [...blockResults, ...metadataResults].filter(([, result]) => result !== 0);
      const reached = counter.operations >= n;
      assert.deepEqual(bad.map(([, result]) => result), reached ? [EIO] : []);
      pool.free(slot);
      stores.close();
      assert.equal(pool.usedBytes, 0);
      return reached;
    });
    assert.equal(failed, 8);
  });
});

Deno.test("zeroing by hand: the n-th operation fails, or is interrupted", () => {
  withDirectory((directory) => {
    const path = `${directory}/a.img`;
    Deno.writeFileSync(path, new Uint8Array(1024 * 1024));
    const pool = new SlabBufferPool({ totalBytes: 1024 * 1024 });
    for (const errno of [EIO, -28, -4]) {
      failEach((n) => {
        const reactor = new ScriptedReactor();
        const results: [number, number][] = [];
        const handler: BlockStoreHandler = { onBlockDone: (token, result) => void results.push([token, result]) };
        const device = DeviceFile.open(path, { access: "exclusive" });
        const store = new UringBlockStore({ device, reactor, pool, handler });
        store.zero(7, 300 * 1024, 0, false);
        reactor.end(-95);
        reactor.end(-95);
        const counter = { operations: 0 };
        serve(reactor, n, counter, errno);
        const reached = counter.operations >= n;
        assert.deepEqual(results, [[7, reached && errno !== -4 ? errno : 0]]);
        store.close();
        return reached;
      });
    }
  });
});
