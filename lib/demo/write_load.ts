/**
 * A load of small random writes over NBD, and the memory of what was acked: afterwards every block that was acked must
 * read back as written.
 *
 * Each block carries its number and a stamp that grows with every write, so that an old or a misplaced block shows.
 *
 * @module
 */

import { Prng } from "../base/prng.ts";
import type { NbdClient } from "../frontend/nbd_client.ts";

/** Bytes of one write. */
export const LOAD_BLOCK_BYTES = 4096;

/** How hard. */
export interface WriteLoadOptions {
  /** Blocks of the address space that are written to, from its start. */
  readonly blockCount: number;
  /** Writes in flight. */
  readonly depth: number;
  /** Writes a second at most, 0 for no limit. */
  readonly writesPerSecond: number;
  readonly seed: number;
}

/** A running load. */
export class WriteLoad {
  ackedCount = 0;
  /** Longest time without an ack, milliseconds, since `resetGap`. */
  longestGapMs = 0;
  /** Why the load has ended by itself: a write failed. */
  failure: Error | null = null;
  readonly #client: NbdClient;
  readonly #options: WriteLoadOptions;
  readonly #random: Prng;
  /** By block: stamp of the last acked write, 0 for none. */
  readonly #stamps: Float64Array;
  readonly #inFlight: Uint8Array;
  readonly #workers: Promise<void>[] = [];
  readonly #startedMs = performance.now();
  #issuedCount = 0;
  #isStopping = false;
  #lastAckMs = performance.now();

  constructor(client: NbdClient, options: WriteLoadOptions) {
    this.#client = client;
    this.#options = options;
    this.#random = new Prng(options.seed);
    this.#stamps = new Float64Array(options.blockCount);
    this.#inFlight = new Uint8Array(options.blockCount);
    for (let i = 0; i < options.depth; i++) {
      this.#workers.push(
        this.#work().catch((error) => {
          this.failure ??= error as Error;
          this.#isStopping = true;
        }),
      );
    }
  }

  /** Begins to measure the longest gap anew. */
  resetGap(): void {
    this.longestGapMs = 0;
    this.#lastAckMs = performance.now();
  }

  /** Ends the load; rejects with the first error any write met. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all(this.#workers);
    if (this.failure !== null) throw this.failure;
  }

  /** Reads every block back that was acked. Returns how many do not hold what was acked last. Only after `stop`. */
  async countWrong(): Promise<number> {
    const blocksPerRead = 64;
    let wrongCount = 0;
    for (let first = 0; first < this.#options.blockCount; first += blocksPerRead) {
      const count = Math.min(blocksPerRead, this.#options.blockCount - first);
      const bytes = await this.#client.read(first * LOAD_BLOCK_BYTES, count * LOAD_BLOCK_BYTES);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < count; i++) {
        const stamp = this.#stamps[first + i];
        if (stamp === 0) continue;
        const at = i * LOAD_BLOCK_BYTES;
        const last = at + LOAD_BLOCK_BYTES - 16;
        const isRight = view.getFloat64(at) === first + i && view.getFloat64(at + 8) === stamp &&
          view.getFloat64(last) === first + i && view.getFloat64(last + 8) === stamp;
        if (!isRight) wrongCount++;
      }
    }
    return wrongCount;
  }

  async #work(): Promise<void> {
    const data = new Uint8Array(LOAD_BLOCK_BYTES);
    const view = new DataView(data.buffer);
    while (!this.#isStopping) {
      await this.#pace();
      let block = this.#random.below(this.#options.blockCount);
      // Two writes of one block at once would leave it open which of them is last.
      while (this.#inFlight[block] === 1) block = (block + 1) % this.#options.blockCount;
      this.#inFlight[block] = 1;
      const stamp = ++this.#issuedCount;
      for (let at = 0; at < LOAD_BLOCK_BYTES; at += 16) {
        view.setFloat64(at, block);
        view.setFloat64(at + 8, stamp);
      }
      await this.#client.write(block * LOAD_BLOCK_BYTES, data);
      this.#stamps[block] = stamp;
      this.#inFlight[block] = 0;
      this.ackedCount++;
      const nowMs = performance.now();
      this.longestGapMs = Math.max(this.longestGapMs, nowMs - this.#lastAckMs);
      this.#lastAckMs = nowMs;
    }
  }

  async #pace(): Promise<void> {
    const { writesPerSecond } = this.#options;
    if (writesPerSecond === 0) return;
    const dueMs = this.#startedMs + this.#issuedCount * 1000 / writesPerSecond;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
