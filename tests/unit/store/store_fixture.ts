/**
 * What the tests of this room share: temporary places, a pool and a ring, loop devices, a pool's properties.
 *
 * @module
 */

import assert from "node:assert/strict";
import { libc } from "../../../ffi/libc/library.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { randomUuid } from "../../../lib/base/uuid.ts";
import type { FormatLegOptions } from "../../../lib/store/leg_device.ts";

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
  readonly reactor = UringReactor.create({ entries: 64, pool: this.pool });
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
  const entry = { mapIncarnation: 1, mapDefaultDirty: false, outSinceMs: 0 };
  return {
    historyId: randomUuid(),
    generation: 1,
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

/** Runs a command and returns what it printed; fails the test if it fails. */
export function run(command: string, ...args: string[]): string {
  const output = new Deno.Command(command, { args }).outputSync();
  const text = new TextDecoder().decode(output.stdout).trim();
  assert.ok(output.success, `${command} ${args.join(" ")}: ${new TextDecoder().decode(output.stderr)}`);
  return text;
}

/** Runs `body` with a loop device of that sector size over a new file, and takes it down afterwards. */
export function withLoopDevice(
  sectorBytes: number,
  sizeBytes: number,
  body: (device: string, file: string) => void,
): void {
  withDirectory((directory) => {
    const file = `${directory}/disk.img`;
    Deno.writeFileSync(file, new Uint8Array(0));
    Deno.truncateSync(file, sizeBytes);
    const device = run("losetup", "--find", "--show", "--sector-size", String(sectorBytes), file);
    try {
      body(device, file);
    } finally {
      run("losetup", "--detach", device);
    }
  });
}
