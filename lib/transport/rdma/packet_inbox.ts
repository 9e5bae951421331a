/**
 * Packets that have been received and not been taken apart yet, in order, and how far the first of them has been.
 *
 * Places are bytes in the memory that packets are received into. There are never more packets than posted receives.
 *
 * @module
 */

import { assert } from "../../base/assert.ts";
import { RECEIVE_COUNT } from "./link.ts";
import { PACKET_BYTES } from "./packet.ts";

/** See the module's description. */
export class PacketInbox {
  /** Body and end of each, in a ring. */
  readonly #places = new Int32Array(2 * RECEIVE_COUNT);
  #head = 0;
  #count = 0;
  /** Where to go on in the first packet, and where it ends. */
  at = 0;
  end = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** A packet came whose body lies from `bodyAt` to `end`. */
  add(bodyAt: number, end: number): void {
    assert(this.#count < RECEIVE_COUNT, "a packet takes a receive", this.#count);
    const place = 2 * ((this.#head + this.#count++) % RECEIVE_COUNT);
    this.#places[place] = bodyAt;
    this.#places[place + 1] = end;
    if (this.#count === 1) this.#begin();
  }

  /** The first packet has been taken apart. Returns the number of its buffer. */
  drop(): number {
    assert(this.#count > 0 && this.at === this.end, "a packet is taken apart whole", this.at, this.end);
    const buffer = Math.floor((this.end - 1) / PACKET_BYTES);
    this.#head = (this.#head + 1) % RECEIVE_COUNT;
    this.#count--;
    if (this.#count > 0) this.#begin();
    return buffer;
  }

  #begin(): void {
    this.at = this.#places[2 * this.#head];
    this.end = this.#places[2 * this.#head + 1];
  }
}
