/**
 * Numbers for operations in flight: each holds the core's token and the slot involved. Grows to the most that were ever
 * in flight at once (the core bounds that) and never again, so that nothing is allocated per operation.
 *
 * @module
 */

import { grown, NumberChain } from "./number_chain.ts";

/** See the module's description. */
export class OperationTable {
  readonly #numbers = new NumberChain();
  #tokens = new Float64Array(0);
  #slots = new Int32Array(0);
  #startedMs = new Float64Array(0);

  /** A number for an operation with `token` and `slot` that starts now. */
  add(token: number, slot: number, nowMs: number): number {
    if (this.#numbers.isExhausted) this.#grow();
    const operation = this.#numbers.take();
    this.#tokens[operation] = token;
    this.#slots[operation] = slot;
    this.#startedMs[operation] = nowMs;
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
    this.#numbers.giveBack(operation);
  }

  get usedCount(): number {
    return this.#numbers.takenCount;
  }

  #grow(): void {
    const capacity = this.#numbers.grow();
    this.#tokens = grown(this.#tokens, new Float64Array(capacity));
    this.#slots = grown(this.#slots, new Int32Array(capacity));
    this.#startedMs = grown(this.#startedMs, new Float64Array(capacity));
  }
}
