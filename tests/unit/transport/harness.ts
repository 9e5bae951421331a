/**
 * Two transports that can reach each other, and what moves the bytes between them: the stage on which the conformance
 * tests play. One for each transport.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { BufferPool } from "../../../lib/io/buffer_pool.ts";
import { MemoryBufferPool } from "../../../lib/io/memory_buffer_pool.ts";
import { LoopbackNetwork } from "../../../lib/transport/loopback_transport.ts";
import { TcpTransport } from "../../../lib/transport/tcp_transport.ts";
import type { Transport } from "../../../lib/transport/transport.ts";
import { MemoryStreamNetwork, type MemoryStreamOptions } from "./memory_stream.ts";
import { RecordingHandler, WatchedTransport } from "./recording_handler.ts";

/** One side: a transport, its user, its memory. */
export interface Side {
  readonly transport: Transport;
  readonly handler: RecordingHandler;
  readonly pool: BufferPool;
}

export interface HarnessOptions {
  readonly checksums?: boolean;
  readonly maxQueuedBytes?: number;
}

export interface Harness {
  readonly sides: readonly [Side, Side];
  /** An address to listen on, and one at which nobody does. */
  readonly anyAddress: string;
  readonly deadAddress: string;
  /** Flushes both sides and moves bytes until `condition` holds. Fails when it never does. */
  until(condition: () => boolean): void;
  /** Damages the next header or payload on its way; null where the way cannot be reached. */
  readonly damageNext: ((part: "header" | "payload") => void) | null;
  /** Called at the end of a test: nothing may be left. */
  close(): void;
}

export type HarnessMaker = (options: HarnessOptions) => Harness;

export const POOL_BYTES = 16 << 20;

/** Both sides' `WatchedTransport` over what `make` returns. */
export function makeSides(
  make: (pool: BufferPool, handler: RecordingHandler) => Transport,
  makePool: () => BufferPool,
): [Side, Side] {
  const side = (): Side => {
    const pool = makePool();
    const handler = new RecordingHandler(pool);
    return { transport: new WatchedTransport(make(pool, handler), handler), handler, pool };
  };
  return [side(), side()];
}

/** Nothing is left over at the end of a test. */
export function checkClean(sides: readonly [Side, Side], lentBytes = 0): void {
  for (const { handler, pool } of sides) {
    assert.equal(pool.usedBytes, lentBytes, "All slots were given back");
    assert.equal(handler.sentTokens.length, handler.sentCounts.size);
  }
}

/** The loopback transport. */
export function loopbackHarness(options: HarnessOptions): Harness {
  const network = new LoopbackNetwork();
  const sides = makeSides(
    (pool, handler) => network.transport(pool, handler, options),
    () => new MemoryBufferPool(POOL_BYTES),
  );
  return {
    sides,
    anyAddress: "loop:0",
    deadAddress: "loop:1",
    until(condition: () => boolean): void {
      for (let idle = 0; !condition();) {
        for (const side of sides) side.transport.flushSends();
        idle = network.deliverOne() ? 0 : idle + 1;
        assert.ok(idle < 3, "The condition holds before nothing moves any more");
      }
    },
    damageNext(part): void {
      network.corrupt = (header, payload) => {
        const target = part === "header" ? header : payload;
        if (target === null) return;
        target[target.length >> 1] ^= 0x20;
        network.corrupt = null;
      };
    },
    close: () => checkClean(sides),
  };
}

/** The TCP transport over streams in memory, bytes moving in pieces of at most `maxChunkBytes`. */
export function memoryStreamHarness(
  options: HarnessOptions,
  maxChunkBytes: number,
  streamOptions: MemoryStreamOptions = {},
): Harness {
  const network = new MemoryStreamNetwork(streamOptions);
  network.maxChunkBytes = maxChunkBytes;
  const sides = makeSides(
    (pool, handler) => new TcpTransport(network, pool, handler, { ...options, report: () => {} }),
    () => new MemoryBufferPool(POOL_BYTES),
  );
  return {
    sides,
    anyAddress: "memory:0",
    deadAddress: "memory:1",
    until(condition: () => boolean): void {
      for (let idle = 0; !condition();) {
        for (const side of sides) side.transport.flushSends();
        idle = network.step() ? 0 : idle + 1;
        assert.ok(idle < 3, "The condition holds before nothing moves any more");
      }
    },
    // The tests that use this send one frame with a payload of 4096 bytes.
    damageNext(part): void {
      let skippedBytes = part === "header" ? 32 : 64 + 2048;
      network.corrupt = (bytes) => {
        if (skippedBytes >= bytes.length) {
          skippedBytes -= bytes.length;
          return;
        }
        bytes[skippedBytes] ^= 0x20;
        network.corrupt = null;
      };
    },
    close: () => checkClean(sides),
  };
}
