/**
 * Which pages of the peer's landing memory are free: this end chooses where its payloads land, the peer only says what is
 * free again. First fit from where the last search ended, so that the common case looks at few pages.
 *
 * @module
 */

/** See the module's description. */
export class PageRuns {
  readonly pageCount: number;
  /** By first page of a run in use: its length. */
  readonly #lengths: Int32Array;
  readonly #used: Uint8Array;
  #next = 0;

  constructor(pageCount: number) {
    this.pageCount = pageCount;
    this.#lengths = new Int32Array(pageCount);
    this.#used = new Uint8Array(pageCount);
  }

  /** First of `count` pages in a row, which are now in use; -1 when there are none. */
  take(count: number): number {
    const first = this.#search(this.#next, this.pageCount, count);
    const page = first >= 0 ? first : this.#search(0, Math.min(this.pageCount, this.#next + count - 1), count);
    if (page < 0) return -1;
    this.#used.fill(1, page, page + count);
    this.#lengths[page] = count;
    this.#next = page + count;
    return page;
  }

  /** Gives back the run that begins at `page`. False when no run in use begins there. */
  give(page: number): boolean {
    if (page >= this.pageCount || this.#lengths[page] === 0) return false;
    this.#used.fill(0, page, page + this.#lengths[page]);
    this.#lengths[page] = 0;
    return true;
  }

  #search(from: number, to: number, count: number): number {
    const used = this.#used;
    for (let page = from; page + count <= to;) {
      let free = 0;
      while (free < count && used[page + free] === 0) free++;
      if (free === count) return page;
      page += free + 1;
    }
    return -1;
  }
}
