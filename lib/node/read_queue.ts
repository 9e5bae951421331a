/**
 * Reads that wait, first come first served, for buffer memory. A ring that grows to the most that ever waited at once;
 * the credits that the core grants bound that.
 *
 * @module
 */

/** Waiting reads of one leg: token, offset, length. */
export class ReadQueue {
  #words = new Float64Array(3 * 64);
  #head = 0;
  #count = 0;

  get length(): number {
    return this.#count;
  }

  push(token: number, offset: number, lengthBytes: number): void {
    const capacity = this.#words.length / 3;
    if (this.#count === capacity) this.#grow(capacity);
    const at = ((this.#head + this.#count) % (this.#words.length / 3)) * 3;
    this.#words[at] = token;
    this.#words[at + 1] = offset;
    this.#words[at + 2] = lengthBytes;
    this.#count++;
  }

  get firstToken(): number {
    return this.#words[this.#head * 3];
  }

  get firstOffset(): number {
    return this.#words[this.#head * 3 + 1];
  }

  get firstLengthBytes(): number {
    return this.#words[this.#head * 3 + 2];
  }

  shift(): void {
    this.#head = (this.#head + 1) % (this.#words.length / 3);
    this.#count--;
  }

  #grow(capacity: number): void {
    const words = new Float64Array(this.#words.length * 2);
    for (let i = 0; i < this.#count; i++) {
      const from = ((this.#head + i) % capacity) * 3;
      words[i * 3] = this.#words[from];
      words[i * 3 + 1] = this.#words[from + 1];
      words[i * 3 + 2] = this.#words[from + 2];
    }
    this.#words = words;
    this.#head = 0;
  }
}
