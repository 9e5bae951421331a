/**
 * The simulated disk: what may and what may not survive.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Prng } from "../../lib/base/prng.ts";
import { DiskOp, SimDisk } from "./sim_disk.ts";
import { SlotOwner, SlotTable } from "./slots.ts";

const SECTORS = 16;

function fresh(): { disk: SimDisk; prng: Prng; slots: SlotTable } {
  const disk = new SimDisk(0);
  disk.reset(SECTORS);
  return { disk, prng: new Prng(7), slots: new SlotTable() };
}

function write(disk: SimDisk, prng: Prng, slots: SlotTable, first: number, count: number, value: number, fua = false) {
  const operation = disk.begin(DiskOp.WRITE, 0);
  operation.slot = slots.allocate(0, count * 512, SlotOwner.CORE);
  operation.slot.values.fill(value);
  operation.firstSector = first;
  operation.sectorCount = count;
  operation.fua = fua;
  disk.submit(operation, prng);
  return operation;
}

Deno.test("a finished write is read; a flushed one survives the power, an unflushed one may or may not", () => {
  let lost = 0;
  let kept = 0;
  for (let seed = 0; seed < 200; seed++) {
    const { disk, slots } = fresh();
    const prng = new Prng(seed);
    const first = write(disk, prng, slots, 0, 8, 1);
    disk.finish(first, prng);
    disk.end(first);
    const flush = disk.begin(DiskOp.FLUSH, 0);
    disk.submit(flush, prng);
    disk.finish(flush, prng);
    disk.end(flush);
    const second = write(disk, prng, slots, 0, 8, 2);
    disk.finish(second, prng);
    disk.end(second);
    assert.equal(disk.current[3], 2);
    disk.tearAll(prng);
    disk.losePower(prng);
    for (let sector = 0; sector < 8; sector++) {
      if (disk.current[sector] === 1) lost++;
      else if (disk.current[sector] === 2) kept++;
      else assert.fail(`sector ${sector} holds ${disk.current[sector]}`);
    }
  }
  assert.ok(lost > 100 && kept > 100, `lost ${lost}, kept ${kept}`);
});

Deno.test("a write with FUA survives the power", () => {
  for (let seed = 0; seed < 50; seed++) {
    const { disk, slots } = fresh();
    const prng = new Prng(seed);
    const operation = write(disk, prng, slots, 4, 4, 9, true);
    disk.finish(operation, prng);
    disk.end(operation);
    disk.losePower(prng);
    assert.deepEqual([...disk.current.subarray(4, 8)], [9, 9, 9, 9]);
  }
});

Deno.test("a flush covers what was finished when it began even if it is overwritten meanwhile", () => {
  for (let seed = 0; seed < 100; seed++) {
    const { disk, slots } = fresh();
    const prng = new Prng(seed);
    const first = write(disk, prng, slots, 0, 8, 1);
    disk.finish(first, prng);
    disk.end(first);
    const flush = disk.begin(DiskOp.FLUSH, 0);
    disk.submit(flush, prng);
    write(disk, prng, slots, 0, 8, 2);
    disk.finish(flush, prng);
    disk.end(flush);
    disk.tearAll(prng);
    disk.losePower(prng);
    for (let sector = 0; sector < 8; sector++) assert.ok(disk.current[sector] >= 1);
  }
});

Deno.test("a write in flight when its process dies lands in whole, in part or not", () => {
  const counts = [0, 0, 0];
  for (let seed = 0; seed < 300; seed++) {
    const { disk, slots } = fresh();
    const prng = new Prng(seed);
    write(disk, prng, slots, 0, 8, 5);
    disk.tearAll(prng);
    const landed = disk.current.subarray(0, 8).filter((value) => value === 5).length;
    counts[landed === 0 ? 0 : landed === 8 ? 1 : 2]++;
  }
  assert.ok(Math.min(...counts) > 20, counts.join(" "));
});
