/**
 * What the tests of this room share: temporary places, a pool and a ring, legs and their properties.
 *
 * @module
 */

import assert from "node:assert/strict";
import { allocateFile, closeDescriptor, openFile, OpenFlag } from "../../../ffi/libc/file.ts";
import { libc } from "../../../ffi/libc/library.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { randomUuid } from "../../../lib/base/uuid.ts";
import {
  DeviceFile,
  type FormatLegOptions,
  type LoadedLeg,
  type LoadedMapPage,
  loadLeg,
  StoreError,
  type StoreErrorCode,
} from "../../../lib/store/leg_device.ts";

// Opened once and never closed; done here so that no test seems to leak it.
libc();

/** Longest a test waits for something that should take milliseconds. */
export const GENEROUS_MS = 20_000;

/** Runs `body` with a directory that is removed afterwards. */
export function withDirectory(body: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "brmr_store_" });
  try {
    body(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** A ring and a pool, and the completions that came. */
export class Machine {
  readonly pool = new SlabBufferPool({ totalBytes: 16 * 1024 * 1024 });
  readonly reactor = UringReactor.create({ entries: 64, completionEntries: 256, pool: this.pool });
  /** Result by token. */
  readonly done = new Map<number, number>();

  onBlockDone = (token: number, result: number): void => {
    assert.ok(!this.done.has(token), `token ${token} completes once`);
    this.done.set(token, result);
  };

  /** Turns until `token` is done; returns its result. */
  wait(token: number): number {
    const deadlineMs = this.reactor.clockMs() + GENEROUS_MS;
    while (!this.done.has(token)) {
      assert.ok(this.reactor.clockMs() < deadlineMs, `token ${token} completes in time`);
      this.reactor.turn(deadlineMs);
    }
    return this.done.get(token)!;
  }
}

/** Properties of a small pool for {@link formatLeg}; `changes` go over them. */
export function legOptions(path: string, changes: Partial<FormatLegOptions> = {}): FormatLegOptions {
  const legUuid = randomUuid();
  return {
    poolUuid: randomUuid(),
    poolName: "vol1",
    legUuid,
    legIndex: 0,
    path,
    sizeBytes: 8 * 1024 * 1024,
    chunkBytes: 4096,
    logicalBlockBytes: 4096,
    extentBytes: 1024 * 1024,
    hotExtentCount: 1000,
    force: false,
    shared: sharedEpoch(legUuid),
    zeroData: true,
    createdMs: 1_700_000_000_000,
    ...changes,
  };
}

/** An epoch of two legs, of which the first is in sync. */
export function sharedEpoch(legUuid: string): SharedEpoch {
  const entry = { mapIncarnation: 1, mapDefaultDirty: false, outSinceMs: 0, isDrained: false };
  return {
    historyId: randomUuid(),
    historyNumber: 0,
    generation: 1,
    clientGeneration: 1,
    epoch: 1,
    inSyncMask: 1,
    minInSync: 1,
    ioTimeoutMs: 60_000,
    legs: [
      { uuid: legUuid, address: "127.0.0.1:7701", ...entry },
      { uuid: randomUuid(), address: "127.0.0.1:7702", ...entry },
    ],
  };
}

/** Asserts that `body` throws a {@link StoreError}. */
export function refuses(code: StoreErrorCode, message: RegExp, body: () => unknown): void {
  assert.throws(body, (error: unknown) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** Runs `body` with the device open for exclusive use. */
export function withDevice<T>(path: string, body: (device: DeviceFile) => T): T {
  const device = DeviceFile.open(path, { access: "exclusive" });
  try {
    return body(device);
  } finally {
    device.close();
  }
}

/** The leg at `path` and the map it keeps for leg 1. */
export function load(path: string): LoadedLeg & { readonly pages: readonly LoadedMapPage[] } {
  return withDevice(path, (device) => {
    const leg = loadLeg(device);
    return Object.assign(leg, { pages: leg.mapPages(1) });
  });
}

/** Makes a file of that size whose space is set aside. */
export function setAside(path: string, sizeBytes: number): void {
  Deno.writeFileSync(path, new Uint8Array(0));
  const descriptor = openFile(path, OpenFlag.READ_WRITE);
  assert.equal(allocateFile(descriptor, 0, 0, sizeBytes), 0);
  closeDescriptor(descriptor);
}

/** All bytes of a file or block device. */
export function readWhole(path: string): Uint8Array {
  const device = DeviceFile.open(path, { access: "read" });
  const bytes = new Uint8Array(device.sizeBytes);
  for (let at = 0; at < bytes.length; at += 65536) bytes.set(device.read(at, Math.min(65536, bytes.length - at)), at);
  device.close();
  return bytes;
}
