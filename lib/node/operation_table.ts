/**
 * Numbers for operations in flight: each holds the core's token and the slot involved. Grows to the most that were ever
 * in flight at once (the core bounds that) and never again, so that nothing is allocated per operation.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** A free list over parallel arrays. */
export class OperationTable {
  #tokens = new Float64Array(256);
  #slots = new Int32Array(256);
  #startedMs = new Float64Array(256);
  #next = new Int32Array(256);
  #free = 0;
  #usedCount = 0;

  constructor() {
    this.#chain(0);
  }

  #chain(from: number): void {
    const capacity = this.#next.length;
    for (let i = from; i < capacity; i++) this.#next[i] = i + 1 < capacity ? i + 1 : -1;
    this.#free = from;
  }

  /** A number for an operation with `token` and `slot` that starts now. */
  add(token: number, slot: number, nowMs: number): number {
    if (this.#free === -1) this.#grow();
    const operation = this.#free;
    this.#free = this.#next[operation];
    this.#next[operation] = -2;
    this.#tokens[operation] = token;
    this.#slots[operation] = slot;
    this.#startedMs[operation] = nowMs;
    this.#usedCount++;
    return operation;
  }

  token(operation: number): number {
    return this.#tokens[operation];
  }

  slot(operation: number): number {
    return this.#slots[operation];
  }

  startedMs(operation: number): number {
    return this.#startedMs[operation];
  }

  remove(operation: number): void {
    assert(this.#next[operation] === -2, "Operation is in flight", operation);
    this.#next[operation] = this.#free;
    this.#free = operation;
    this.#usedCount--;
  }

  get usedCount(): number {
    return this.#usedCount;
  }

  #grow(): void {
    const capacity = this.#next.length;
    const tokens = new Float64Array(capacity * 2);
    const slots = new Int32Array(capacity * 2);
    const startedMs = new Float64Array(capacity * 2);
    const next = new Int32Array(capacity * 2);
    tokens.set(this.#tokens);
    slots.set(this.#slots);
    startedMs.set(this.#startedMs);
    next.set(this.#next);
    this.#tokens = tokens;
    this.#slots = slots;
    this.#startedMs = startedMs;
    this.#next = next;
    this.#chain(capacity);
  }
}
