/**
 * Tokens to be returned to the user of a transport at a later moment, not from within the call that made them due. Nothing
 * is allocated per token.
 *
 * @module
 */

import type { TransportHandler } from "./transport.ts";

/** See the module's description. */
export class SentTokens {
  readonly #handler: TransportHandler;
  /** Pairs of (connection, token); those from `#toldCount` to `#count` wait. */
  #pairs = new Float64Array(128);
  #count = 0;
  #toldCount = 0;

  constructor(handler: TransportHandler) {
    this.#handler = handler;
  }

  /** Whether some wait to be told. */
  get isWaiting(): boolean {
    return this.#toldCount < this.#count;
  }

  /** `token` of `connection` is due. */
  add(connection: number, token: number): void {
    if (this.#count * 2 === this.#pairs.length) {
      // Bounded by the frames that can be sent between two turns, and reached once.
      const larger = new Float64Array(this.#pairs.length * 2);
      larger.set(this.#pairs);
      this.#pairs = larger;
    }
    this.#pairs[this.#count * 2] = connection;
    this.#pairs[this.#count * 2 + 1] = token;
    this.#count++;
  }

  /** Returns all, in the order they came. */
  tell(): void {
    // What the user does when told may add to the end, or lead here again.
    while (this.#toldCount < this.#count) {
      const at = this.#toldCount++ * 2;
      this.#handler.onSent(this.#pairs[at], this.#pairs[at + 1]);
    }
    this.#toldCount = 0;
    this.#count = 0;
  }
}
