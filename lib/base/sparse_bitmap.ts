/**
 * A bitmap over a large index space that costs memory only where it is mixed: a page is all clear (nothing), all set (nothing
 * but a mark), or explicit words. It is explicit only while it has both: a search never reads words that hold nothing. Counts are
 * exact at all times.
 *
 * @module
 */

import { assert } from "./assert.ts";

/** Bits of one page. Not a power of two on purpose: it is what one 4 KiB metadata block carries besides its header. */
export const PAGE_BITS = 31744;
/** 32-bit words of one page. */
export const PAGE_WORDS = PAGE_BITS / 32;

/** What the table of pages takes for each: its words' place and its count. */
const PAGE_TABLE_BYTES = 8 + 2;

/** Shared stand-in for a page whose bits are all set. Never written to. */
const FULL = new Uint32Array(PAGE_WORDS).fill(0xffffffff);

/** A set of integers in [0, bitCount). */
export class SparseBitmap {
  /** Number of bits. */
  readonly bitCount: number;
  /** Number of pages. */
  readonly pageCount: number;
  readonly #pages: (Uint32Array | null)[];
  /** Set bits of each page. */
  readonly #counts: Uint16Array;
  readonly #lastPageBits: number;
  /** Words of a page that has become clear, for the next one: a single bit that comes and goes costs no memory each time. */
  #spare: Uint32Array | null = null;
  #count = 0;
  #explicitPages = 0;

  /** @param bitCount at most 2^32 @param full whether all bits start set */
  constructor(bitCount: number, full = false) {
    assert(bitCount > 0 && bitCount <= 4294967296, "A bitmap has 1 .. 2^32 bits", bitCount);
    this.bitCount = bitCount;
    this.pageCount = Math.ceil(bitCount / PAGE_BITS);
    this.#lastPageBits = bitCount - (this.pageCount - 1) * PAGE_BITS;
    this.#pages = new Array(this.pageCount).fill(full ? FULL : null);
    this.#counts = new Uint16Array(this.pageCount);
    if (!full) return;
    this.#count = bitCount;
    this.#counts.fill(PAGE_BITS);
    this.#counts[this.pageCount - 1] = this.#lastPageBits;
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  /** Memory of the explicit pages and the page table, in bytes. */
  get memoryBytes(): number {
    const explicitPages = this.#explicitPages + (this.#spare === null ? 0 : 1);
    return explicitPages * PAGE_WORDS * 4 + this.pageCount * PAGE_TABLE_BYTES;
  }

  /** Whether `bit` is set. */
  test(bit: number): boolean {
    const page = Math.floor(bit / PAGE_BITS);
    const words = this.#pages[page];
    if (words === null) return false;
    const inPage = bit - page * PAGE_BITS;
    return (words[inPage >>> 5] & (1 << (inPage & 31))) !== 0;
  }

  /** Sets `count` bits from `first`. Returns how many were clear before. */
  set(first: number, count: number): number {
    return this.#change(first, count, true);
  }

  /** Clears `count` bits from `first`. Returns how many were set before. */
  clear(first: number, count: number): number {
    if (this.#count === 0) return 0;
    return this.#change(first, count, false);
  }

  /** Clears everything and frees the pages. */
  clearAll(): void {
    this.#spare = null;
    if (this.#count === 0) return;
    this.#pages.fill(null);
    this.#counts.fill(0);
    this.#count = 0;
    this.#explicitPages = 0;
  }

  /** Whether any of `count` bits from `first` is set. */
  any(first: number, count: number): boolean {
    if (this.#count === 0) return false;
    const end = Math.min(this.bitCount, first + count);
    let bit = first;
    while (bit < end) {
      const page = Math.floor(bit / PAGE_BITS);
      const pageStart = page * PAGE_BITS;
      const to = Math.min(end - pageStart, PAGE_BITS);
      const words = this.#pages[page];
      if (words === FULL) return true;
      if (words !== null) {
        const from = bit - pageStart;
        for (let i = from >>> 5; i <= (to - 1) >>> 5; i++) {
          if ((words[i] & wordMask(i, from, to)) !== 0) return true;
        }
      }
      bit = pageStart + to;
    }
    return false;
  }

  /** The first set bit at or after `from`, or -1. */
  next(from: number): number {
    if (from >= this.bitCount || this.#count === 0) return -1;
    let page = Math.floor(from / PAGE_BITS);
    let inPage = from - page * PAGE_BITS;
    for (; page < this.pageCount; page++, inPage = 0) {
      const words = this.#pages[page];
      if (words === null) continue;
      let index = inPage >>> 5;
      let word = words[index] & (-1 << (inPage & 31));
      for (;;) {
        if (word !== 0) {
          const bit = page * PAGE_BITS + index * 32 + (31 - Math.clz32(word & -word));
          return bit < this.bitCount ? bit : -1;
        }
        if (++index === PAGE_WORDS) break;
        word = words[index];
      }
    }
    return -1;
  }

  /** Number of set bits in a row from `first`, at most `most`. */
  runLength(first: number, most: number): number {
    const end = Math.min(this.bitCount, first + most);
    let bit = first;
    while (bit < end) {
      const page = Math.floor(bit / PAGE_BITS);
      const words = this.#pages[page];
      if (words === null) break;
      if (words === FULL) {
        bit = (page + 1) * PAGE_BITS;
        continue;
      }
      const inPage = bit - page * PAGE_BITS;
      const zeros = ~(words[inPage >>> 5] >>> (inPage & 31));
      // Bits shifted in from the left read as ones in `zeros`, so the run never leaves the word.
      const ones = zeros === 0 ? 32 : 31 - Math.clz32(zeros & -zeros);
      const room = 32 - (inPage & 31);
      if (ones < room) {
        bit += ones;
        break;
      }
      bit += room;
    }
    return Math.min(bit, end) - first;
  }

  /** Adds every bit of `other`. `onPage` is told the pages that changed. */
  addAll(other: SparseBitmap, onPage?: (page: number) => void): void {
    assert(other.bitCount === this.bitCount, "Maps have one size", other.bitCount, this.bitCount);
    for (let page = 0; page < this.pageCount; page++) {
      const theirs = other.#pages[page];
      if (theirs === null) continue;
      if (this.#orPage(page, theirs)) onPage?.(page);
    }
  }

  /** Keeps only bits that are in `other` too. */
  keepOnly(other: SparseBitmap): void {
    assert(other.bitCount === this.bitCount, "Maps have one size", other.bitCount, this.bitCount);
    for (let page = 0; page < this.pageCount; page++) {
      const mine = this.#pages[page];
      const theirs = other.#pages[page];
      if (mine === null || theirs === FULL) continue;
      if (theirs === null) {
        this.#counted(page, -this.#counts[page]);
        continue;
      }
      const words = this.#explicit(page);
      let left = 0;
      for (let i = 0; i < PAGE_WORDS; i++) {
        words[i] &= theirs[i];
        left += popcount(words[i]);
      }
      this.#counted(page, left - this.#counts[page]);
    }
  }

  /** Merges `words` (of a stored page) into page `page`. Bits past the end are ignored. */
  mergePage(page: number, words: Uint32Array): void {
    this.#orPage(page, words);
  }

  /** Copies page `page` to `out` (PAGE_WORDS words). */
  copyPage(page: number, out: Uint32Array): void {
    const words = this.#pages[page];
    if (words === null) out.fill(0);
    else out.set(words);
  }

  /** Whether page `page` has any bit set. */
  pageHasBits(page: number): boolean {
    return this.#counts[page] > 0;
  }

  /** Set bits in [first, first + count). */
  countRange(first: number, count: number): number {
    let total = 0;
    const end = Math.min(this.bitCount, first + count);
    let bit = first;
    while (bit < end) {
      const page = Math.floor(bit / PAGE_BITS);
      const pageEnd = Math.min(end, (page + 1) * PAGE_BITS);
      const words = this.#pages[page];
      if (words === FULL) total += pageEnd - bit;
      else if (words !== null) {
        const from = bit - page * PAGE_BITS;
        const to = pageEnd - page * PAGE_BITS;
        for (let i = from >>> 5; i <= (to - 1) >>> 5; i++) {
          total += popcount(words[i] & wordMask(i, from, to));
        }
      }
      bit = pageEnd;
    }
    return total;
  }

  #change(first: number, count: number, value: boolean): number {
    assert(first >= 0 && count >= 0 && first + count <= this.bitCount, "Bits are inside", first, count, this.bitCount);
    let changed = 0;
    let bit = first;
    const end = first + count;
    while (bit < end) {
      const page = Math.floor(bit / PAGE_BITS);
      const pageStart = page * PAGE_BITS;
      const to = Math.min(end - pageStart, PAGE_BITS);
      const from = bit - pageStart;
      changed += this.#changePage(page, from, to, value);
      bit = pageStart + to;
    }
    return changed;
  }

  #changePage(page: number, from: number, to: number, value: boolean): number {
    const words = this.#pages[page];
    const pageBits = this.#bitsOf(page);
    if (value ? words === FULL : words === null) return 0;
    if (from === 0 && to === pageBits) {
      const changed = value ? pageBits - this.#counts[page] : this.#counts[page];
      this.#counted(page, value ? changed : -changed);
      return changed;
    }
    const mine = this.#explicit(page);
    let changed = 0;
    for (let i = from >>> 5; i <= (to - 1) >>> 5; i++) {
      const mask = wordMask(i, from, to);
      const old = mine[i];
      const now = value ? old | mask : old & ~mask;
      if ((now ^ old) !== 0) {
        changed += popcount(now ^ old);
        mine[i] = now;
      }
    }
    this.#counted(page, value ? changed : -changed);
    return changed;
  }

  #orPage(page: number, theirs: Uint32Array): boolean {
    if (this.#pages[page] === FULL) return false;
    const bits = this.#bitsOf(page);
    if (theirs === FULL) {
      this.#counted(page, bits - this.#counts[page]);
      return true;
    }
    let mine = this.#pages[page];
    let added = 0;
    for (let i = 0; i <= (bits - 1) >>> 5; i++) {
      const fresh = theirs[i] & ~(mine === null ? 0 : mine[i]) & wordMask(i, 0, bits);
      if (fresh === 0) continue;
      mine ??= this.#explicit(page);
      mine[i] |= fresh;
      added += popcount(fresh);
    }
    if (added > 0) this.#counted(page, added);
    return added > 0;
  }

  /** Page `page` has so many more bits: it is explicit only if it is mixed now. */
  #counted(page: number, more: number): void {
    const count = this.#counts[page] += more;
    this.#count += more;
    const words = this.#pages[page];
    if (count === 0) {
      if (words !== null && words !== FULL) {
        this.#explicitPages--;
        words.fill(0);
        this.#spare ??= words;
      }
      this.#pages[page] = null;
    } else if (count === this.#bitsOf(page)) {
      if (words !== null && words !== FULL) this.#explicitPages--;
      this.#pages[page] = FULL;
    }
  }

  /** Clears what lies past the end of the last page. */
  #trim(words: Uint32Array): void {
    const bits = this.#lastPageBits;
    for (let i = bits >>> 5; i < PAGE_WORDS; i++) {
      words[i] &= i * 32 >= bits ? 0 : (2 ** (bits & 31) - 1);
    }
  }

  #bitsOf(page: number): number {
    return page === this.pageCount - 1 ? this.#lastPageBits : PAGE_BITS;
  }

  #explicit(page: number): Uint32Array {
    const words = this.#pages[page];
    if (words !== null && words !== FULL) return words;
    const fresh = this.#spare ?? new Uint32Array(PAGE_WORDS);
    this.#spare = null;
    if (words === FULL) {
      fresh.fill(0xffffffff);
      if (page === this.pageCount - 1) this.#trim(fresh);
    }
    this.#pages[page] = fresh;
    this.#explicitPages++;
    return fresh;
  }
}

/** The bits of word `index` that lie in [from, to). */
function wordMask(index: number, from: number, to: number): number {
  const start = Math.max(from - index * 32, 0);
  const end = Math.min(to - index * 32, 32);
  const high = end === 32 ? -1 : (1 << end) - 1;
  return high & (-1 << start);
}

function popcount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return (((n + (n >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}
