/**
 * One device, several users: each gets a block store with a handler of its own. Data and metadata of a leg share a
 * descriptor (and its lock) this way.
 *
 * A user's token is folded into the token of the store beneath, so nothing is looked up or kept per request.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BlockStore, BlockStoreHandler } from "./block_store.ts";

/**
 * Opens a store for several users.
 *
 * @param open opens the store beneath with the handler it is given
 * @param handlers one a user
 * @returns one store for each handler, in the same order; the store beneath is closed with the last of them. Tokens are
 * non-negative integers below 2^53 / handlers.length.
 */
export function shareBlockStore<S extends BlockStore>(
  open: (handler: BlockStoreHandler) => S,
  handlers: readonly BlockStoreHandler[],
): BlockStore[] {
  const users = handlers.length;
  const store = open({
    onBlockDone(folded: number, result: number): void {
      const user = folded % users;
      handlers[user].onBlockDone((folded - user) / users, result);
    },
  });
  const counter = { open: users };
  return handlers.map((_, user) => new SharedPort(store, user, users, counter));
}

class SharedPort implements BlockStore {
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly #store: BlockStore;
  readonly #user: number;
  readonly #users: number;
  readonly #counter: { open: number };
  #closed = false;

  constructor(store: BlockStore, user: number, users: number, counter: { open: number }) {
    this.path = store.path;
    this.sizeBytes = store.sizeBytes;
    this.logicalBlockBytes = store.logicalBlockBytes;
    this.#store = store;
    this.#user = user;
    this.#users = users;
    this.#counter = counter;
  }

  read(token: number, slot: number, lengthBytes: number, offset: number): void {
    this.#store.read(token * this.#users + this.#user, slot, lengthBytes, offset);
  }

  write(token: number, slot: number, lengthBytes: number, offset: number, durable: boolean): void {
    this.#store.write(token * this.#users + this.#user, slot, lengthBytes, offset, durable);
  }

  zero(token: number, lengthBytes: number, offset: number, keepSpace: boolean): void {
    this.#store.zero(token * this.#users + this.#user, lengthBytes, offset, keepSpace);
  }

  flush(token: number): void {
    this.#store.flush(token * this.#users + this.#user);
  }

  close(): void {
    assert(!this.#closed, "A store is closed once", this.path);
    this.#closed = true;
    if (--this.#counter.open === 0) this.#store.close();
  }
}
