/**
 * What the core wants done. Handlers of the core push outputs; the driver drains them with `poll()` after each input.
 * An output is plain data in a reused object: its fields are valid until the next `poll()`.
 *
 * @module
 */

import { Message } from "../wire/message.ts";
import { assert } from "../base/assert.ts";

/** What is to be done. The comment says which fields of {@link Output} count. */
export const OutputKind = {
  /** Send `message` on `connection`, with payload `slot` (or -1), or `body` (object: JSON; Uint32Array: words). */
  SEND: 1,
  /** Leg: read `lengthBytes` at pool `offset` into a buffer of the driver's choosing; answer handleDiskDone(token, result, slot). */
  DISK_READ: 2,
  /** Leg: write `slot`; flag FUA in `flags`. Answer handleDiskDone(token, result, slot). */
  DISK_WRITE: 3,
  /** Leg: zero a range; flag NO_HOLE in `flags`. */
  DISK_ZERO: 4,
  /** Leg: fdatasync. */
  DISK_FLUSH: 5,
  /** Leg: write twin record `body` (4096 bytes) at device `offset`. Answer handleMetadataDone(token, result). */
  METADATA_WRITE: 6,
  /** Leg: hash `lengthBytes` of `slot` chunk by chunk. Answer handleHashed(token, words). The slot stays the core's. */
  HASH: 7,
  /** The core has no more use for `slot`. */
  FREE_SLOT: 8,
  /**
   * Connect to leg `legIndex` at `address`; answer handleConnected(legIndex, connection) or handleConnectFailed(legIndex). A client's are
   * numbered: `token` comes back as the last argument.
   */
  CONNECT: 9,
  /** Close `connection`. */
  CLOSE: 10,
  /** Client: request `tag` is done with `status`. */
  COMPLETE: 11,
  /** Something an operator wants to know: `body` is a `CoreEvent`. */
  EVENT: 12,
  /** Client: the change of the leg table that was asked for with `token` is over; `body`: "" when done, or why it is not. */
  CHANGE_DONE: 13,
  /** Client: a buffer of `lengthBytes` is needed; answer handleSlot(token, slot), slot -1 while memory is short. FREE_SLOT ends it. */
  WANT_SLOT: 14,
  /** Client: attempt `token` to connect to leg `legIndex` is wanted no more. What becomes of it may be told or not. */
  GIVE_UP: 15,
} as const;

/** In `flags` of SEND: the payload was not given by a frontend, so its checksum is not known yet. */
export const FRESH_PAYLOAD = 1;

/** One thing to do. */
export class Output {
  kind = 0;
  readonly message: Message = new Message();
  connection = 0;
  legIndex = 0;
  token = 0;
  slot = -1;
  flags = 0;
  offset = 0;
  lengthBytes = 0;
  tag = 0;
  status = 0;
  /** SEND: the driver frees `slot` once it has left. */
  freeAfterSend = false;
  address = "";
  // deno-lint-ignore no-explicit-any -- each kind has its own body; the readers of each kind know its type
  body: any = null;
}

/** What operators are told, e.g. in the log and by `brmr status`. */
export interface CoreEvent {
  readonly level: "info" | "warning" | "error";
  /** Stable identifier, e.g. "leg-dropped". */
  readonly name: string;
  /** One sentence. */
  readonly message: string;
  readonly legIndex?: number;
}

/** Room for outputs at first; the ring doubles up to its capacity, and keeps what it grew to. */
const FIRST_ROOM = 64;

/** A ring of outputs, of bounded size. Overflow is a bug in the core's bounds and crashes. */
export class OutputQueue {
  readonly #capacity: number;
  #ring: Output[] = [];
  #indexMask: number;
  #head = 0;
  #tail = 0;

  /** @param capacity a power of two */
  constructor(capacity: number) {
    assert((capacity & (capacity - 1)) === 0, "Capacity is a power of two", capacity);
    this.#capacity = capacity;
    this.#indexMask = Math.min(capacity, FIRST_ROOM) - 1;
  }

  /** A fresh output at the end of the queue, to be filled in by the caller. */
  push(kind: number): Output {
    if (this.#tail - this.#head > this.#indexMask) this.#grow();
    const index = this.#tail & this.#indexMask;
    if (index === this.#ring.length) this.#ring.push(new Output());
    const output = this.#ring[index];
    this.#tail++;
    output.kind = kind;
    output.slot = -1;
    output.flags = 0;
    output.token = 0;
    output.freeAfterSend = false;
    output.body = null;
    return output;
  }

  /** The next thing to do, or null. */
  poll(): Output | null {
    if (this.#head === this.#tail) return null;
    const output = this.#ring[this.#head & this.#indexMask];
    this.#head++;
    return output;
  }

  /** Outputs waiting. */
  get length(): number {
    return this.#tail - this.#head;
  }

  /** Twice the room. Outputs keep their objects and their order. */
  #grow(): void {
    const count = this.#tail - this.#head;
    assert(count < this.#capacity, "Output queue has room", count);
    const ring: Output[] = [];
    for (let i = 0; i < count; i++) ring.push(this.#ring[(this.#head + i) & this.#indexMask]);
    this.#ring = ring;
    this.#indexMask = 2 * (this.#indexMask + 1) - 1;
    this.#head = 0;
    this.#tail = count;
  }
}
