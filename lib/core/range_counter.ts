/**
 * Counts, for 4 KiB blocks of the pool, how many operations in flight touch them, in a table of fixed size indexed by a hash. A
 * zero is certain; a number above zero may stem from another block that shares the cell: then an operation waits without
 * need, which is harmless and, at the depths we run, rare.
 *
 * @module
 */

import { assert } from "../base/assert.ts";

const CELLS = 32768;
const CELL_MASK = CELLS - 1;
const BLOCK_BYTES = 4096;

/** Conservative overlap detection for byte ranges. */
export class RangeCounter {
  readonly #cells = new Uint16Array(CELLS);

  /** Counts the range in. */
  add(offset: number, lengthBytes: number): void {
    const last = Math.floor((offset + lengthBytes - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block++) this.#cells[block & CELL_MASK]++;
  }

  /** Counts the range out. */
  remove(offset: number, lengthBytes: number): void {
    const last = Math.floor((offset + lengthBytes - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block++) {
      assert(this.#cells[block & CELL_MASK] > 0, "A range is counted out once", offset, lengthBytes);
      this.#cells[block & CELL_MASK]--;
    }
  }

  /** Whether something in flight may overlap the range. */
  any(offset: number, lengthBytes: number): boolean {
    const last = Math.floor((offset + lengthBytes - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block++) {
      if (this.#cells[block & CELL_MASK] !== 0) return true;
    }
    return false;
  }
}
