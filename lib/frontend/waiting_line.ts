/**
 * A line of connections that wait, first come, first served. Of fixed size; a connection stands in one line at most.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** A connection as a line sees it. */
export interface Waiter {
  /** Its number. */
  readonly connection: number;
  /** Tries the step it waits for. False: still impossible, it stays at the head. Otherwise it has left the line. */
  advance(): boolean;
}

/** The line. */
export class WaitingLine {
  readonly #places: (Waiter | null)[];
  #head = 0;
  #count = 0;

  constructor(capacity: number) {
    this.#places = new Array(capacity).fill(null);
  }

  /** How many wait. */
  get count(): number {
    return this.#count;
  }

  /** Whether nobody stands before `connection`. */
  isFree(connection: number): boolean {
    return this.#count === 0 || this.#places[this.#head]!.connection === connection;
  }

  /** Puts `waiter` at the end. It must not stand in a line. */
  wait(waiter: Waiter): void {
    assert(this.#count < this.#places.length, "a connection waits once", this.#count);
    this.#places[(this.#head + this.#count) % this.#places.length] = waiter;
    this.#count++;
  }

  /** Takes `waiter` out, wherever it stands. */
  leave(waiter: Waiter): void {
    let keptCount = 0;
    for (let i = 0; i < this.#count; i++) {
      const at = (this.#head + i) % this.#places.length;
      const other = this.#places[at];
      this.#places[at] = null;
      if (other === waiter) continue;
      this.#places[(this.#head + keptCount) % this.#places.length] = other;
      keptCount++;
    }
    this.#count = keptCount;
  }

  /** Lets the head try its step. Whether it could, and has left. */
  advance(): boolean {
    return this.#count > 0 && this.#places[this.#head]!.advance();
  }
}
