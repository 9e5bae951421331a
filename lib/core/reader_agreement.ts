/**
 * Whether the members have answered a reader's request alike: all with one hash, and all under the record that they were asked under.
 *
 * @module
 */

import type { Message } from "../wire/message.ts";
import type { ReaderView } from "./reader_links.ts";

/** What has been answered so far, by request. */
export class ReaderAgreement {
  /** Under which view the request was asked. */
  readonly #views: (ReaderView | null)[];
  readonly #isSpoilt: Uint8Array;
  /** The hash that all must tell, once one has. */
  readonly #hasHash: Uint8Array;
  readonly #hashLow: Uint32Array;
  readonly #hashHigh: Float64Array;

  constructor(capacity: number) {
    this.#views = new Array(capacity).fill(null);
    this.#isSpoilt = new Uint8Array(capacity);
    this.#hasHash = new Uint8Array(capacity);
    this.#hashLow = new Uint32Array(capacity);
    this.#hashHigh = new Float64Array(capacity);
  }

  /** The members of `view` are asked. */
  ask(request: number, view: ReaderView): void {
    this.#views[request] = view;
    this.#isSpoilt[request] = 0;
    this.#hasHash[request] = 0;
  }

  /** The view under which the members were asked. */
  view(request: number): ReaderView | null {
    return this.#views[request];
  }

  /** Whatever the others answer, the request is to be tried again. */
  spoil(request: number): void {
    this.#isSpoilt[request] = 1;
  }

  /** Whether no answer so far speaks against the data. */
  isWhole(request: number): boolean {
    return this.#isSpoilt[request] === 0;
  }

  /** A member has told its hash. */
  hear(request: number, message: Message): void {
    if (this.#hasHash[request] === 0) {
      this.#hasHash[request] = 1;
      this.#hashLow[request] = message.resyncSession;
      this.#hashHigh[request] = message.offset;
    } else if (this.#hashLow[request] !== message.resyncSession || this.#hashHigh[request] !== message.offset) {
      this.spoil(request);
    }
  }

  /** Whether an answer was given under the record that was asked under; if not, it is of no use. */
  isSameRecord(request: number, message: Message): boolean {
    const shared = this.#views[request]?.shared;
    const isSame = shared !== undefined && shared.generation === message.sequence &&
      shared.epoch === message.watermark &&
      shared.historyNumber === message.mask;
    if (!isSame) this.spoil(request);
    return isSame;
  }
}
