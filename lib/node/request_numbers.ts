/**
 * Numbers for the requests that frontends have under way at a client, and what is known of each: the core knows a request by
 * its number, the frontend by its tag.
 *
 * @module
 */

import { grown, NumberChain } from "./number_chain.ts";

/** See the module's description. Grows to what was under way at one time, which frontends bound. */
export class RequestNumbers {
  readonly #numbers = new NumberChain();
  #tags = new Float64Array(0);
  #slots = new Int32Array(0);
  #statuses = new Int32Array(0);
  #frontends = new Int32Array(0);

  /** How many are taken. */
  get count(): number {
    return this.#numbers.takenCount;
  }

  /** Takes a number for a request of frontend number `frontend`. */
  take(frontend: number, tag: number, slot: number): number {
    if (this.#numbers.isExhausted) this.#grow();
    const request = this.#numbers.take();
    this.#tags[request] = tag;
    this.#slots[request] = slot;
    this.#frontends[request] = frontend;
    return request;
  }

  /** Gives it back. What is known of it holds no longer. */
  giveBack(request: number): void {
    this.#numbers.giveBack(request);
  }

  tag(request: number): number {
    return this.#tags[request];
  }

  /** Its payload, -1 for none. */
  slot(request: number): number {
    return this.#slots[request];
  }

  frontend(request: number): number {
    return this.#frontends[request];
  }

  /** How it has ended: 0 or a negative errno. */
  status(request: number): number {
    return this.#statuses[request];
  }

  setStatus(request: number, status: number): void {
    this.#statuses[request] = status;
  }

  #grow(): void {
    const capacity = this.#numbers.grow();
    this.#tags = grown(this.#tags, new Float64Array(capacity));
    this.#slots = grown(this.#slots, new Int32Array(capacity));
    this.#statuses = grown(this.#statuses, new Int32Array(capacity));
    this.#frontends = grown(this.#frontends, new Int32Array(capacity));
  }
}
