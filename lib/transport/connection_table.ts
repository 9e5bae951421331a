/**
 * The connections of a transport by their numbers. A number is used again only after the end of its connection was told.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { ConnectionStats } from "./transport.ts";

/** What can stand in a table. */
export interface NumberedConnection {
  readonly id: number;
  readonly stats: ConnectionStats;
}

/** See the module's description. */
export class ConnectionTable<C extends NumberedConnection> {
  /** Index is the number; null where there is none. May grow while it is gone through. */
  readonly all: (C | null)[] = [];
  readonly #freeNumbers: number[] = [];
  #count = 0;

  /** Numbers that are taken: connections whose end was not told yet. */
  get count(): number {
    return this.#count;
  }

  /** A number that nobody has. It is taken until `giveBack`. */
  takeNumber(): number {
    this.#count++;
    const free = this.#freeNumbers.pop();
    if (free !== undefined) return free;
    return this.all.push(null) - 1;
  }

  /** Puts a connection in, at the number it was given. */
  add(connection: C): C {
    assert(this.all[connection.id] === null, "A number is one connection's", connection.id);
    this.all[connection.id] = connection;
    return connection;
  }

  /** The connection of that number, or null. */
  get(number: number): C | null {
    return this.all[number] ?? null;
  }

  /** Takes one out that is in. Its number stays taken: its end is yet to be told. */
  remove(connection: C): void {
    assert(this.all[connection.id] === connection, "A connection is in the table until it ends", connection.id);
    this.all[connection.id] = null;
  }

  /** The end of the connection was told: others may have its number. */
  giveBack(number: number): void {
    this.#count--;
    this.#freeNumbers.push(number);
  }

  /** What went through that connection so far; a copy, all 0 when it is gone. */
  statsOf(number: number): ConnectionStats {
    const connection = this.get(number);
    if (connection === null) return { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
    return { ...connection.stats };
  }
}
