/**
 * A choke point that holds both sides of the block store contract to their word: the caller to alignment, bounds, known
 * slots and no overlapping writes; the store to completing every request exactly once, with 0 or a negative errno. A
 * breach is an assertion failure. It looks at all requests in flight for each new one, so it is for tests and for
 * hunting bugs.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { BlockStore, BlockStoreHandler } from "./block_store.ts";

interface InFlight {
  readonly token: number;
  readonly slot: number;
  readonly writes: boolean;
  readonly start: number;
  readonly end: number;
}

/**
 * Opens a store behind the choke point.
 *
 * @param open opens the store beneath with the handler it is given
 */
export function checkBlockStore(
  open: (handler: BlockStoreHandler) => BlockStore,
  handler: BlockStoreHandler,
  pool: BufferPool,
): CheckedBlockStore {
  const inFlight = new Map<number, InFlight>();
  const store = open({
    onBlockDone(token: number, result: number): void {
      assert(inFlight.delete(token), "A request completes once", token);
      assert(Number.isInteger(result) && result <= 0, "A result is 0 or a negative errno", result);
      handler.onBlockDone(token, result);
    },
  });
  return new CheckedBlockStore(store, pool, inFlight);
}

/** See {@link checkBlockStore}. */
export class CheckedBlockStore implements BlockStore {
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly #store: BlockStore;
  readonly #pool: BufferPool;
  readonly #inFlight: Map<number, InFlight>;
  #closed = false;

  /** Use {@link checkBlockStore}. */
  constructor(store: BlockStore, pool: BufferPool, inFlight: Map<number, InFlight>) {
    this.path = store.path;
    this.sizeBytes = store.sizeBytes;
    this.logicalBlockBytes = store.logicalBlockBytes;
    this.#store = store;
    this.#pool = pool;
    this.#inFlight = inFlight;
    const known = this.logicalBlockBytes === 512 || this.logicalBlockBytes === 4096;
    assert(known, "Logical blocks have 512 or 4096 bytes", this.logicalBlockBytes);
  }

  read(token: number, slot: number, lengthBytes: number, offset: number): void {
    this.#checkSlot(slot, lengthBytes);
    this.#begin(token, slot, false, lengthBytes, offset);
    this.#store.read(token, slot, lengthBytes, offset);
  }

  write(token: number, slot: number, lengthBytes: number, offset: number, durable: boolean): void {
    this.#checkSlot(slot, lengthBytes);
    this.#begin(token, slot, true, lengthBytes, offset);
    this.#store.write(token, slot, lengthBytes, offset, durable);
  }

  zero(token: number, lengthBytes: number, offset: number, keepSpace: boolean): void {
    this.#begin(token, -1, true, lengthBytes, offset);
    this.#store.zero(token, lengthBytes, offset, keepSpace);
  }

  flush(token: number): void {
    this.#add({ token, slot: -1, writes: false, start: 0, end: 0 });
    this.#store.flush(token);
  }

  close(): void {
    assert(!this.#closed, "A store is closed once", this.path);
    assert(this.#inFlight.size === 0, "Nothing is in flight at close", this.#inFlight.size);
    this.#closed = true;
    this.#store.close();
  }

  #checkSlot(slot: number, lengthBytes: number): void {
    assert(lengthBytes <= this.#pool.capacity(slot), "The slot holds the length", slot, lengthBytes);
    assert(this.#pool.address(slot) % 4096 === 0, "A slot is page aligned", this.#pool.address(slot));
  }

  #begin(token: number, slot: number, writes: boolean, lengthBytes: number, offset: number): void {
    const block = this.logicalBlockBytes;
    assert(Number.isSafeInteger(offset) && offset >= 0 && offset % block === 0, "An aligned offset", offset);
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes > 0, "A positive length", lengthBytes);
    assert(lengthBytes % block === 0, "An aligned length", lengthBytes);
    const end = offset + lengthBytes;
    assert(end <= this.sizeBytes, "The range lies on the device", end, this.sizeBytes);
    for (const other of this.#inFlight.values()) {
      const overlaps = offset < other.end && other.start < end;
      assert(
        !(overlaps && writes && other.writes),
        "Writes in flight do not overlap",
        offset,
        end,
        other.start,
        other.end,
      );
      // Into a slot the kernel fills nothing else may go, and from it nothing else may come.
      const sharesSlot = slot >= 0 && slot === other.slot && !(writes && other.writes);
      assert(!sharesSlot, "A slot being read into has one request", slot);
    }
    this.#add({ token, slot, writes, start: offset, end });
  }

  #add(request: InFlight): void {
    assert(!this.#closed, "The store is open", this.path);
    assert(!this.#inFlight.has(request.token), "A token in flight is used once", request.token);
    this.#inFlight.set(request.token, request);
  }
}
