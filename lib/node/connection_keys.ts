/**
 * Names for connections that are never used twice. A transport gives the number of a dead connection to a new one, and a core
 * may still have work under way for the old one, whose answer must not go to the new one.
 *
 * A key is `life * 4096 + connection`.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** Most connections of a transport at once. */
export const CONNECTION_LIMIT = 4096;

/** Keys of the connections of one transport. */
export class ConnectionKeys {
  readonly #keys = new Float64Array(CONNECTION_LIMIT).fill(-1);
  #nextLife = 1;

  /** A fresh key for `connection`, which has come into being. */
  open(connection: number): number {
    assert(connection < CONNECTION_LIMIT, "A transport has fewer connections", connection);
    const key = this.#nextLife++ * CONNECTION_LIMIT + connection;
    this.#keys[connection] = key;
    return key;
  }

  /** `connection` is gone; its key stands for nothing from now on. */
  close(connection: number): void {
    this.#keys[connection] = -1;
  }

  /** The key of a connection that is there. */
  keyOf(connection: number): number {
    return this.#keys[connection];
  }

  /** The connection that `key` stands for, or -1 when it is gone. */
  connectionOf(key: number): number {
    const connection = key % CONNECTION_LIMIT;
    return this.#keys[connection] === key ? connection : -1;
  }
}
