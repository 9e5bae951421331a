/**
 * The range that a verify holds against writes: one at a time, or none.
 *
 * @module
 */

/** See the module comment. */
export class RangeLock {
  #offset = 0;
  #end = 0;

  /** Holds a range. */
  hold(offset: number, lengthBytes: number): void {
    this.#offset = offset;
    this.#end = offset + lengthBytes;
  }

  /** Holds nothing. */
  release(): void {
    this.#offset = 0;
    this.#end = 0;
  }

  /** Whether a range touches what is held. */
  overlaps(offset: number, lengthBytes: number): boolean {
    return offset < this.#end && offset + lengthBytes > this.#offset;
  }
}
