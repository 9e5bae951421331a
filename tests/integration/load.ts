/**
 * A load that knows what it wrote: random blocks over an NBD connection, each acknowledged write noted, and a check that the
 * pool still holds every one of them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCK_BYTES = 4096;

/** The content of block `index` in version `version`: every eight bytes say which they are. */
function blockContent(index: number, version: number): Uint8Array {
  const words = new Uint32Array(BLOCK_BYTES / 4);
  for (let i = 0; i < words.length; i += 2) {
    words[i] = index;
    words[i + 1] = version;
  }
  return new Uint8Array(words.buffer);
}

function isContent(found: Uint8Array, index: number, version: number): boolean {
  const expected = blockContent(index, version);
  return found.length === expected.length && found.every((byte, i) => byte === expected[i]);
}

/** Writes blocks until told to stop, `depth` at a time, and never two to the same block at once. */
export class BlockLoad {
  readonly #uri: string;
  readonly #blockCount: number;
  readonly #acknowledged: Uint32Array;
  /** The version each block was asked to take last; differs from the acknowledged one while a write is in flight. */
  readonly #requested: Uint32Array;
  #version = 0;
  #random: number;
  #isStopping = false;
  #done: Promise<void> = Promise.resolve();
  /** Writes that the pool acknowledged. */
  writeCount = 0;

  constructor(uri: string, blockCount: number, seed: number) {
    this.#uri = uri;
    this.#blockCount = blockCount;
    this.#acknowledged = new Uint32Array(blockCount);
    this.#requested = new Uint32Array(blockCount);
    this.#random = seed >>> 0 || 1;
  }

  /** Begins to write, each of `depth` writers in a part of the pool of its own. */
  start(depth: number): void {
    this.#isStopping = false;
    this.#done = (async () => {
      const socket = await NbdSocket.connect(this.#uri);
      try {
        await Promise.all(Array.from({ length: depth }, (_, writer) => this.#write(socket, writer, depth)));
      } finally {
        await socket.close();
      }
    })();
    this.#done.catch(() => undefined); // stop() throws it
  }

  /** Waits until `count` more writes were acknowledged. Throws what a write threw, or after `limitMs`. */
  async waitForWrites(count: number, limitMs = 120_000): Promise<void> {
    const goal = this.writeCount + count;
    const deadline = performance.now() + limitMs;
    let hasEnded = false;
    this.#done.then(() => hasEnded = true, () => hasEnded = true);
    while (this.writeCount < goal) {
      if (hasEnded) await this.#done;
      if (hasEnded || performance.now() > deadline) {
        throw new Error(`Only ${count - (goal - this.writeCount)} of ${count} writes were acknowledged`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends the load. Throws what a write threw. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#done;
  }

  /**
   * Reads every block back. Throws on the first that is neither what was acknowledged last, nor what a write that was
   * never answered would have put there.
   */
  async check(): Promise<void> {
    const socket = await NbdSocket.connect(this.#uri);
    try {
      for (let index = 0; index < this.#blockCount; index++) {
        const acknowledged = this.#acknowledged[index];
        const requested = this.#requested[index];
        if (requested === 0) continue;
        const found = await socket.read(index * BLOCK_BYTES, BLOCK_BYTES);
        if (requested !== acknowledged && isContent(found, index, requested)) continue;
        const isAsAcknowledged = acknowledged === 0
          ? found.every((byte) => byte === 0)
          : isContent(found, index, acknowledged);
        if (!isAsAcknowledged) {
          const words = new Uint32Array(found.buffer, found.byteOffset, 2);
          assert.fail(
            `Block ${index} holds version ${words[1]} of block ${words[0]}; acknowledged was ${acknowledged}, ` +
              `requested ${requested}`,
          );
        }
      }
    } finally {
      await socket.close();
    }
  }

  async #write(socket: NbdSocket, writer: number, depth: number): Promise<void> {
    const span = Math.floor(this.#blockCount / depth);
    while (!this.#isStopping) {
      const index = writer * span + this.#nextRandom() % span;
      const version = ++this.#version;
      this.#requested[index] = version;
      await socket.write(index * BLOCK_BYTES, blockContent(index, version));
      this.#acknowledged[index] = version;
      this.writeCount++;
    }
  }

  /** xorshift32 (Marsaglia 2003). */
  #nextRandom(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return this.#random = x >>> 0;
  }
}
