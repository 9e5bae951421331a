/**
 * The block store compared with plain memory: run on whatever it must work on.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Prng } from "../../../lib/base/prng.ts";
import type { BlockStoreHandler } from "../../../lib/store/block_store.ts";
import { checkBlockStore, type CheckedBlockStore } from "../../../lib/store/checked_block_store.ts";
import { DeviceFile } from "../../../lib/store/leg_device.ts";
import { UringBlockStore } from "../../../lib/store/uring_block_store.ts";
import { Machine, readWhole } from "./store_fixture.ts";

const MIB = 1024 * 1024;

/** A new sparse file. */
export function makeFile(path: string, sizeBytes: number): string {
  Deno.writeFileSync(path, new Uint8Array(0));
  Deno.truncateSync(path, sizeBytes);
  return path;
}

/** The store of the data path on `path`, behind the choke point. */
export function openOn(machine: Machine, path: string): CheckedBlockStore {
  return checkBlockStore(
    (handler: BlockStoreHandler) =>
      new UringBlockStore({
        device: DeviceFile.open(path, { access: "exclusive" }),
        reactor: machine.reactor,
        pool: machine.pool,
        handler,
      }),
    machine,
    machine.pool,
  );
}

/**
 * Random reads, writes and zeroings through the store, checked against a plain array; then the whole device, read
 * otherwise.
 */
export function behavesLikeMemory(path: string, sizeBytes: number, seed: number, steps: number): void {
  const machine = new Machine();
  const store = openOn(machine, path);
  const prng = new Prng(seed);
  const expected = new Uint8Array(sizeBytes);
  const block = store.logicalBlockBytes;
  const slot = machine.pool.allocate(MIB);
  const bytes = machine.pool.bytes(slot);
  let token = 0;
  for (let step = 0; step < steps; step++) {
    const lengthBytes = block * (1 + prng.below(prng.chance(0.2) ? MIB / block : 8));
    const offset = block * prng.below((sizeBytes - lengthBytes) / block + 1);
    token++;
    const choice = prng.below(10);
    if (choice < 5) {
      bytes.fill(1 + prng.below(255), 0, lengthBytes);
      expected.set(bytes.subarray(0, lengthBytes), offset);
      store.write(token, slot, lengthBytes, offset, prng.chance(0.1));
    } else if (choice < 7) {
      expected.fill(0, offset, offset + lengthBytes);
      store.zero(token, lengthBytes, offset, prng.chance(0.5));
    } else if (choice < 8) {
      store.flush(token);
    } else {
      store.read(token, slot, lengthBytes, offset);
    }
    assert.equal(machine.wait(token), 0, `step ${step} of seed ${seed}`);
    if (choice >= 8) {
      const same = equalBytes(bytes.subarray(0, lengthBytes), expected.subarray(offset, offset + lengthBytes));
      assert.ok(same, `read at ${offset}, step ${step} of seed ${seed}`);
    }
  }
  store.close();
  machine.pool.free(slot);
  assert.equal(machine.pool.usedBytes, 0);
  machine.reactor.dispose();
  assert.ok(equalBytes(readWhole(path), expected), `the whole device, seed ${seed}`);
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
