/**
 * The pulls of a resync target that are in flight. A request id is never used twice within a leg's life, so an answer that
 * comes after its pull was given up finds nothing.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** Where a pull stands. */
export const PullState = { FREE: 0, ASKED: 1, WRITING: 2, COMPARING: 3 } as const;

/** Pulls in flight, fixed in number. */
export class PullTable {
  readonly capacity: number;
  readonly state: Uint8Array;
  readonly firstChunk: Float64Array;
  readonly chunkCount: Uint32Array;
  readonly requestId: Uint32Array;
  readonly ours: (Uint32Array | null)[];
  readonly theirs: (Uint32Array | null)[];
  #count = 0;
  #lastRequestId = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.state = new Uint8Array(capacity);
    this.firstChunk = new Float64Array(capacity);
    this.chunkCount = new Uint32Array(capacity);
    this.requestId = new Uint32Array(capacity);
    this.ours = new Array(capacity).fill(null);
    this.theirs = new Array(capacity).fill(null);
  }

  get count(): number {
    return this.#count;
  }

  get hasRoom(): boolean {
    return this.#count < this.capacity;
  }

  /** A request id that no answer under way can carry. */
  nextRequestId(): number {
    this.#lastRequestId = this.#lastRequestId === 0xffffffff ? 1 : this.#lastRequestId + 1;
    return this.#lastRequestId;
  }

  allocate(firstChunk: number, chunkCount: number, state: number): number {
    const pull = this.state.indexOf(PullState.FREE);
    assert(pull >= 0, "There is room for a pull", this.#count);
    this.state[pull] = state;
    this.firstChunk[pull] = firstChunk;
    this.chunkCount[pull] = chunkCount;
    this.requestId[pull] = this.nextRequestId();
    this.ours[pull] = null;
    this.theirs[pull] = null;
    this.#count++;
    return pull;
  }

  free(pull: number): void {
    assert(this.state[pull] !== PullState.FREE, "A pull ends once", pull);
    this.state[pull] = PullState.FREE;
    this.ours[pull] = null;
    this.theirs[pull] = null;
    this.#count--;
  }

  /** The pull with this request id, or -1. */
  find(requestId: number): number {
    for (let pull = 0; pull < this.capacity; pull++) {
      if (this.state[pull] !== PullState.FREE && this.requestId[pull] === requestId) return pull;
    }
    return -1;
  }

  /** Pulls whose answer is outstanding. */
  forEachAsked(call: (pull: number) => void): void {
    for (let pull = 0; pull < this.capacity; pull++) {
      if (this.state[pull] === PullState.ASKED || this.state[pull] === PullState.COMPARING) call(pull);
    }
  }

  /** Gives up the pulls whose answer is outstanding. */
  clearAsked(): void {
    this.forEachAsked((pull) => this.free(pull));
  }

  /** Gives up everything. */
  clear(): void {
    for (let pull = 0; pull < this.capacity; pull++) if (this.state[pull] !== PullState.FREE) this.free(pull);
  }
}
