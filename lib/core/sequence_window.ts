/**
 * Which writes of a client are complete: the highest sequence up to which all are. Bounded: the newest write may be at most a window ahead
 * of the oldest unfinished one.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

/** Sequences in the window. A power of two. */
const WINDOW = 16384;
const INDEX_MASK = WINDOW - 1;
/**
 * Kept back for requests that are under way when the window is full: a read may become a write then (of what a leg could not read), and cannot
 * wait for those before it. As many as a client may have.
 */
const RESERVED = 4096;

/** Completed sequences. Sequence 1 stands for all that was before the session. */
export class SequenceWindow {
  readonly #done = new Uint8Array(WINDOW);
  #stable = 1;

  /** Every write up to here is complete. */
  get stable(): number {
    return this.#stable;
  }

  /** Whether a new write after `sequence` would be too far ahead. */
  isFull(sequence: number): boolean {
    return sequence - this.#stable >= WINDOW - 1 - RESERVED;
  }

  /** The write `sequence` is complete. */
  markDone(sequence: number): void {
    const done = this.#done;
    assert(
      sequence > this.#stable && sequence - this.#stable < WINDOW,
      "A write ends within the window",
      sequence,
      this.#stable,
    );
    done[sequence & INDEX_MASK] = 1;
    let next = (this.#stable + 1) & INDEX_MASK;
    while (done[next] === 1) {
      done[next] = 0;
      this.#stable++;
      next = (this.#stable + 1) & INDEX_MASK;
    }
  }

  /** A new session. */
  reset(): void {
    this.#done.fill(0);
    this.#stable = 1;
  }
}
