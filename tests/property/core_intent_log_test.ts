/**
 * The intent log against its promise: an extent that a write was told is durable is in what was last written whole to the
 * record's block, and stays so as long as the write is in flight or above the watermark.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { FREE_SLOT, IntentLog, Pin } from "../../lib/core/intent_log.ts";

/** One log without room for neighbours, and one with. */
const SHAPES = [{ slotCount: 10, slotsPerBlock: 4 }, { slotCount: 60, slotsPerBlock: 24 }];
/** Extents of the pool; the last group is not whole. */
const EXTENT_COUNT = 20;

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("pin" as const), first: fc.nat(14), span: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("unpin" as const), which: fc.nat(30) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("begin" as const), lazy: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.nat(3), ok: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("forget" as const), most: fc.nat(5), cold: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("watermark" as const) }) },
);

Deno.test("an extent that is durable for a write stays on disk until the write is flushed everywhere", () => {
  fc.assert(
    fc.property(fc.constantFrom(...SHAPES), fc.array(step, { maxLength: 120 }), (shape, steps) => {
      const { slotCount, slotsPerBlock } = shape;
      const log = new IntentLog(new Uint32Array(slotCount).fill(FREE_SLOT), slotsPerBlock, EXTENT_COUNT);
      const disk: Uint32Array[] = Array.from({ length: log.blockCount }, () => new Uint32Array(0));
      const writing = new Map<number, Uint32Array>();
      /** Writes: their extents, their number, whether they are in flight. */
      let writes: { first: number; last: number; sequence: number; inFlight: boolean; durable: boolean }[] = [];
      let sequence = 0;
      for (const each of steps) {
        if (each.kind === "pin") {
          const last = each.first + each.span;
          const before = log.size;
          const result = log.pin(each.first, last, ++sequence);
          if (result === Pin.FULL) assert.equal(log.size, before, "a pin that finds no room changes nothing");
          else writes.push({ first: each.first, last, sequence, inFlight: true, durable: result === Pin.HOT });
        } else if (each.kind === "unpin") {
          const flying = writes.filter((write) => write.inFlight);
          if (flying.length === 0) continue;
          const write = flying[each.which % flying.length];
          log.unpin(write.first, write.last);
          write.inFlight = false;
        } else if (each.kind === "begin") {
          const block = log.nextBlockToWrite(each.lazy);
          if (block >= 0) writing.set(block, log.beginWrite(block));
        } else if (each.kind === "end") {
          if (writing.size === 0) continue;
          const [block, content] = [...writing][each.which % writing.size];
          writing.delete(block);
          // A failed write may have reached the disk all the same; only a good one counts as the last relied upon.
          if (each.ok) disk[block] = content;
          log.endWrite(block, each.ok);
        } else if (each.kind === "forget") {
          log.forget(each.most, watermarkOf(writes, sequence), each.cold, () => true);
        } else {
          const flushed = watermarkOf(writes, sequence);
          writes = writes.filter((write) => write.inFlight || write.sequence > flushed);
        }
        for (const write of writes) {
          if (!write.durable && write.inFlight) write.durable = log.isDurable(write.first, write.last);
        }
        const onDisk = new Set(disk.flatMap((block) => [...block]));
        const inTransit = [...writing.values()].map((block) => new Set(block));
        for (const write of writes) {
          if (!write.durable || write.sequence <= watermarkOf(writes, sequence)) continue;
          for (let extent = write.first; extent <= write.last; extent++) {
            assert.ok(onDisk.has(extent), `extent ${extent} of durable write ${write.sequence} is on disk`);
          }
        }
        assert.equal(log.size + log.freeCount, slotCount);
        assert.ok(log.extents().every((extent) => extent < EXTENT_COUNT), "no extent lies past the pool's end");
        assert.ok(inTransit.length <= log.blockCount);
      }
    }),
    { numRuns: 400 },
  );
});

Deno.test("an extent brings its group along in the same record write, as long as half of the log stays free", () => {
  const log = new IntentLog(new Uint32Array(96).fill(FREE_SLOT), 96, 1000);
  assert.equal(log.pin(21, 21, 1), Pin.PENDING);
  assert.deepEqual(log.extents().sort((a, b) => a - b), Array.from({ length: 16 }, (_, i) => 16 + i));
  const block = log.nextBlockToWrite(false);
  log.beginWrite(block);
  log.endWrite(block, true);
  assert.equal(log.pin(30, 31, 2), Pin.HOT, "a neighbour's write need not wait");
  assert.equal(log.pin(999, 999, 3), Pin.PENDING);
  assert.equal(log.size, 16 + 8, "the pool's last group ends with the pool");
  log.pin(100, 100, 4);
  assert.equal(log.size, 40);
  log.pin(300, 300, 5);
  assert.equal(log.size, 41, "when half of the log would not stay free, an extent comes alone");
  assert.equal(log.forget(Infinity, 0, true, () => true), 41 - 6, "neighbours that nobody wrote are forgotten");
});

/** All writes up to here have ended and count as flushed everywhere. */
function watermarkOf(writes: readonly { sequence: number; inFlight: boolean }[], sequence: number): number {
  const flying = writes.filter((write) => write.inFlight).map((write) => write.sequence);
  return flying.length === 0 ? sequence : Math.min(...flying) - 1;
}
