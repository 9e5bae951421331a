/**
 * Numbers for the requests that frontends have under way at a client, and what is known of each: the core knows a request by
 * its number, the frontend by its tag.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

const FIRST_CAPACITY = 256;
/** In the chain of free numbers: this one is taken. */
const TAKEN = -2;

/** See the module's description. Grows to what was under way at one time, which frontends bound. */
export class RequestNumbers {
  #tags = new Float64Array(0);
  #slots = new Int32Array(0);
  #statuses = new Int32Array(0);
  #frontends = new Int32Array(0);
  /** The free ones are a chain; -1 ends it. */
  #next = new Int32Array(0);
  #free = -1;
  #count = 0;

  /** How many are taken. */
  get count(): number {
    return this.#count;
  }

  /** Takes a number for a request of frontend number `frontend`. */
  take(frontend: number, tag: number, slot: number): number {
    if (this.#free === -1) this.#grow();
    const request = this.#free;
    this.#free = this.#next[request];
    this.#next[request] = TAKEN;
    this.#count++;
    this.#tags[request] = tag;
    this.#slots[request] = slot;
    this.#frontends[request] = frontend;
    return request;
  }

  /** Gives it back. What is known of it holds no longer. */
  giveBack(request: number): void {
    assert(this.#next[request] === TAKEN, "a request is completed once", request);
    this.#next[request] = this.#free;
    this.#free = request;
    this.#count--;
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
    const from = this.#next.length;
    const capacity = Math.max(FIRST_CAPACITY, 2 * from);
    this.#tags = grown(this.#tags, new Float64Array(capacity));
    this.#slots = grown(this.#slots, new Int32Array(capacity));
    this.#statuses = grown(this.#statuses, new Int32Array(capacity));
    this.#frontends = grown(this.#frontends, new Int32Array(capacity));
    this.#next = grown(this.#next, new Int32Array(capacity));
    for (let i = from; i < capacity; i++) this.#next[i] = i + 1 < capacity ? i + 1 : -1;
    this.#free = from;
  }
}

function grown<T extends Float64Array | Int32Array>(old: T, larger: T): T {
  larger.set(old);
  return larger;
}
