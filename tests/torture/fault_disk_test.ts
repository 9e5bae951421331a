/** The disk that the torture runs on fails as it should: otherwise the torture proves less than it says. */

import assert from "node:assert/strict";
import { Prng } from "../../lib/base/prng.ts";
import { DISK_SECTOR_BYTES, FaultDisk, NO_TROUBLE } from "./fault_disk.ts";

const SIZE = 64 * DISK_SECTOR_BYTES;

function filled(value: number, sectors = 1): Uint8Array {
  return new Uint8Array(sectors * DISK_SECTOR_BYTES).fill(value);
}

function firstByte(disk: FaultDisk, sector: number): number {
  const found = disk.read(sector * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES);
  assert.ok(typeof found !== "number");
  return found[0];
}

Deno.test("a loss of power takes only what was not flushed, each sector old or new", () => {
  let lost = 0;
  let kept = 0;
  for (let seed = 1; seed <= 50; seed++) {
    const disk = new FaultDisk(SIZE, new Prng(seed));
    assert.equal(disk.write(0, filled(1, 4), false), 0);
    assert.equal(disk.flush(), 0);
    assert.equal(disk.write(0, filled(2, 4), false), 0);
    assert.equal(disk.write(4 * DISK_SECTOR_BYTES, filled(3), true), 0);
    disk.losePower();
    for (let sector = 0; sector < 4; sector++) {
      const value = firstByte(disk, sector);
      assert.ok(value === 1 || value === 2);
      if (value === 1) lost++;
      else kept++;
    }
    assert.equal(firstByte(disk, 4), 3, "FUA is stable");
  }
  assert.ok(lost > 0 && kept > 0);
});

Deno.test("spoilt sectors cannot be read until they are written", () => {
  const disk = new FaultDisk(SIZE, new Prng(1));
  disk.spoil(2, 1);
  assert.equal(disk.read(0, 4 * DISK_SECTOR_BYTES), 5);
  assert.equal(firstByte(disk, 1), 0);
  assert.equal(disk.write(2 * DISK_SECTOR_BYTES, filled(7), false), 0);
  assert.equal(firstByte(disk, 2), 7);
});

Deno.test("a write that fails may have written a part, and says what failed", () => {
  const parts = new Set<number>();
  for (let seed = 1; seed <= 50; seed++) {
    const disk = new FaultDisk(SIZE, new Prng(seed));
    disk.trouble = { ...NO_TROUBLE, writeFailure: 1, errorNumber: 28 };
    assert.equal(disk.write(0, filled(1, 4), false), 28);
    let part = 0;
    while (part < 4 && firstByte(disk, part) === 1) part++;
    parts.add(part);
  }
  assert.ok(parts.size > 2);
});
