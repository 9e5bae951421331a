/**
 * A block store in memory, for tests: requests wait until the test completes them, in the order the test likes.
 *
 * It has a volatile cache like a disk's: a write is seen by reads once it completes, and survives {@link
 * MemoryBlockStore.loseUnflushed} only if it was durable or a flush that began after it has completed.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { BlockStore, BlockStoreHandler } from "./block_store.ts";

const PAGE_BYTES = 512;

/** One request that waits. */
export interface PendingRequest {
  readonly kind: "read" | "write" | "zero" | "flush";
  readonly token: number;
  readonly slot: number;
  readonly lengthBytes: number;
  readonly offset: number;
  readonly durable: boolean;
}

/** How a {@link MemoryBlockStore} is made. */
export interface MemoryBlockStoreOptions {
  readonly sizeBytes: number;
  readonly logicalBlockBytes?: number;
  readonly pool: BufferPool;
  readonly handler: BlockStoreHandler;
  readonly path?: string;
}

/** Blocks in memory; sparse. */
export class MemoryBlockStore implements BlockStore {
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  /** Requests that wait for the test, oldest first. */
  readonly pending: PendingRequest[] = [];
  readonly #pool: BufferPool;
  readonly #handler: BlockStoreHandler;
  /** By number of the 512-byte page: what reads see. An absent page is zeroes. */
  readonly #pages = new Map<number, Uint8Array>();
  /** What reads would see after a loss of power, where it differs. */
  readonly #durable = new Map<number, Uint8Array | undefined>();
  #closed = false;

  constructor(options: MemoryBlockStoreOptions) {
    this.path = options.path ?? "memory";
    this.sizeBytes = options.sizeBytes;
    this.logicalBlockBytes = options.logicalBlockBytes ?? 512;
    this.#pool = options.pool;
    this.#handler = options.handler;
  }

  read(token: number, slot: number, lengthBytes: number, offset: number): void {
    this.#add({ kind: "read", token, slot, lengthBytes, offset, durable: false });
  }

  write(token: number, slot: number, lengthBytes: number, offset: number, durable: boolean): void {
    this.#add({ kind: "write", token, slot, lengthBytes, offset, durable });
  }

  zero(token: number, lengthBytes: number, offset: number, _keepSpace: boolean): void {
    this.#add({ kind: "zero", token, slot: -1, lengthBytes, offset, durable: false });
  }

  flush(token: number): void {
    this.#add({ kind: "flush", token, slot: -1, lengthBytes: 0, offset: 0, durable: false });
  }

  close(): void {
    assert(!this.#closed, "A store is closed once", this.path);
    assert(this.pending.length === 0, "Nothing is in flight at close", this.pending.length);
    this.#closed = true;
  }

  /** Carries out the waiting request at `index` and completes it. */
  complete(index = 0): void {
    const request = this.#take(index);
    if (request.kind === "read") this.peek(request.offset, this.#bytesOf(request));
    if (request.kind === "write") this.#apply(request.offset, this.#bytesOf(request), request.durable);
    if (request.kind === "zero") this.#apply(request.offset, new Uint8Array(request.lengthBytes), false);
    // Every write that completed before the flush did is covered; writes still pending are not in the pages yet.
    if (request.kind === "flush") this.#durable.clear();
    this.#handler.onBlockDone(request.token, 0);
  }

  /**
   * Completes the waiting request at `index` with `errno` (negative). A write has by then put its first `tornBytes`
   * down.
   */
  fail(index: number, errno: number, tornBytes = 0): void {
    const request = this.#take(index);
    if (request.kind === "write" && tornBytes > 0) {
      this.#apply(request.offset, this.#bytesOf(request).subarray(0, tornBytes), request.durable);
    }
    this.#handler.onBlockDone(request.token, errno);
  }

  /** Completes all that waits, and what is asked for meanwhile, oldest first. */
  completeAll(): void {
    while (this.pending.length > 0) this.complete(0);
  }

  /** Loss of power: forgets unflushed writes and all waiting requests, which never complete. */
  loseUnflushed(): void {
    for (const [page, bytes] of this.#durable) {
      if (bytes === undefined) this.#pages.delete(page);
      else this.#pages.set(page, bytes);
    }
    this.#durable.clear();
    this.pending.length = 0;
  }

  /** Copies what is on the device at `offset` into `target`. */
  peek(offset: number, target: Uint8Array): void {
    for (let at = 0; at < target.length;) {
      const page = Math.floor((offset + at) / PAGE_BYTES);
      const start = (offset + at) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - start, target.length - at);
      const bytes = this.#pages.get(page);
      if (bytes === undefined) target.fill(0, at, at + count);
      else target.set(bytes.subarray(start, start + count), at);
      at += count;
    }
  }

  /** Puts `bytes` on the device, durably, behind the back of its user. */
  poke(offset: number, bytes: Uint8Array): void {
    this.#apply(offset, bytes, true);
  }

  #add(request: PendingRequest): void {
    assert(!this.#closed, "The store is open", this.path);
    this.pending.push(request);
  }

  #take(index: number): PendingRequest {
    assert(index >= 0 && index < this.pending.length, "A request waits there", index, this.pending.length);
    return this.pending.splice(index, 1)[0];
  }

  #bytesOf(request: PendingRequest): Uint8Array {
    return this.#pool.bytes(request.slot).subarray(0, request.lengthBytes);
  }

  #apply(offset: number, bytes: Uint8Array, durable: boolean): void {
    for (let at = 0; at < bytes.length;) {
      const page = Math.floor((offset + at) / PAGE_BYTES);
      const start = (offset + at) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - start, bytes.length - at);
      const old = this.#pages.get(page);
      // Pages are replaced, never changed, so that the durable image may share them.
      const changed = old === undefined ? new Uint8Array(PAGE_BYTES) : old.slice();
      changed.set(bytes.subarray(at, at + count), start);
      if (durable) this.#durable.delete(page);
      else if (!this.#durable.has(page)) this.#durable.set(page, old);
      this.#pages.set(page, changed);
      at += count;
    }
  }
}
