/**
 * Messages from the main isolate to a data-plane worker.
 *
 * A worker never returns to its event loop, so `postMessage` does not reach it. A mailbox does: JSON messages in a ring of
 * shared memory, and an eventfd that the worker's reactor reads, so that `turn()` returns when something came. The way
 * back needs none of this: `postMessage` from a worker arrives at once.
 *
 * ```ts
 * const sender = new MailboxSender();                       // main isolate
 * worker.postMessage({ mailbox: sender.port });
 * await sender.send({ op: "status" });
 *
 * const receiver = new MailboxReceiver(port, reactor, (value) => …);   // worker
 * ```
 *
 * Bounded: a message larger than the ring is refused, and so is a message when too many already wait for room.
 * One sender and one receiver. Messages arrive in the order sent.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";
import { newEventfd, wakeEventfd } from "../../ffi/libc/process.ts";
import type { UringReactor } from "./uring_reactor.ts";

/** What is handed to the worker (structured-cloneable). */
export interface MailboxPort {
  readonly memory: SharedArrayBuffer;
  /** Number of an eventfd of this process. */
  readonly eventfd: number;
}

/** Thrown when a mailbox cannot take a message: it is too large, or the worker has stopped taking messages. */
export class MailboxFull extends Error {
  override name = "MailboxFull";
}

// Control words at the start of the shared memory; positions count bytes and wrap as u32.
const READ_AT = 0;
const WRITTEN_TO = 1;
const HEADER_BYTES = 64;
const LENGTH_BYTES = 4;
const DEFAULT_RING_BYTES = 256 * 1024;
/** Messages that may wait for room. A worker takes messages every few milliseconds; so many waiting means it is stuck. */
const MAX_WAITING = 256;

/** The main isolate's end. */
export class MailboxSender {
  /** For `postMessage` to the worker. LIFETIME: the eventfd is never closed, since the worker's ring may read it. */
  readonly port: MailboxPort;
  readonly #words: Int32Array;
  readonly #ring: RingBytes;
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  /** `ringBytes`: room for messages, a power of two of at least 4096. Default 256 KiB. */
  constructor(ringBytes = DEFAULT_RING_BYTES) {
    assert(ringBytes >= 4096 && (ringBytes & (ringBytes - 1)) === 0, "a mailbox's size is a power of two", ringBytes);
    const eventfd = newEventfd();
    if (eventfd < 0) {
      throw new Error(`Cannot make an eventfd: ${errnoName(eventfd)}. Raise the limit of open files (\`ulimit -n\`)`);
    }
    const memory = new SharedArrayBuffer(HEADER_BYTES + ringBytes);
    this.port = { memory, eventfd };
    this.#words = new Int32Array(memory, 0, HEADER_BYTES / 4);
    this.#ring = new RingBytes(memory);
  }

  /**
   * Sends a JSON value. Resolves when it is in the ring, which is at once while there is room. Rejects with
   * {@link MailboxFull} when it can never fit, or when 256 messages already wait for room.
   */
  send(value: unknown): Promise<void> {
    const text = JSON.stringify(value) as string | undefined;
    if (text === undefined) {
      return Promise.reject(new TypeError(`${typeof value} is no JSON value; send null or an object`));
    }
    const bytes = new TextEncoder().encode(text);
    if (bytes.length + LENGTH_BYTES > this.#ring.sizeBytes) {
      return Promise.reject(
        new MailboxFull(
          `A message of ${bytes.length} bytes is too large for a mailbox of ${this.#ring.sizeBytes}; send it in parts`,
        ),
      );
    }
    if (this.#waiting === 0 && this.#put(bytes)) return Promise.resolve();
    if (this.#waiting >= MAX_WAITING) {
      return Promise.reject(
        new MailboxFull(`${MAX_WAITING} messages already wait for room: the worker has stopped taking messages`),
      );
    }
    this.#waiting++;
    const sent = this.#last.then(() => this.#putWhenRoom(bytes)).finally(() => this.#waiting--);
    this.#last = sent;
    return sent;
  }

  async #putWhenRoom(bytes: Uint8Array): Promise<void> {
    for (;;) {
      const readAt = Atomics.load(this.#words, READ_AT);
      if (this.#put(bytes)) return;
      // The worker notifies after it has moved READ_AT; when it has moved meanwhile, this does not wait.
      const wait = Atomics.waitAsync(this.#words, READ_AT, readAt);
      if (wait.async) await wait.value;
    }
  }

  #put(bytes: Uint8Array): boolean {
    const readAt = Atomics.load(this.#words, READ_AT);
    const writtenTo = Atomics.load(this.#words, WRITTEN_TO);
    const needed = LENGTH_BYTES + bytes.length;
    if (this.#ring.sizeBytes - ((writtenTo - readAt) >>> 0) < needed) return false;
    this.#ring.writeLength(writtenTo, bytes.length);
    this.#ring.write(writtenTo + LENGTH_BYTES, bytes);
    Atomics.store(this.#words, WRITTEN_TO, (writtenTo + needed) | 0);
    const result = wakeEventfd(this.port.eventfd);
    assert(result >= 0, "an eventfd can be written", errnoName(result));
    return true;
  }
}

/** The worker's end: an operation on its reactor that is always armed. */
export class MailboxReceiver {
  readonly #port: MailboxPort;
  readonly #reactor: UringReactor;
  readonly #onMessage: (value: unknown) => void;
  readonly #owner: number;
  readonly #words: Int32Array;
  readonly #ring: RingBytes;
  /** LIFETIME: the kernel writes the eventfd's counter here; lives for the process. */
  readonly #counterAddress: number;
  #closed = false;

  /** Armed at once. `onMessage` is called from within `turn()`. */
  constructor(port: MailboxPort, reactor: UringReactor, onMessage: (value: unknown) => void) {
    this.#port = port;
    this.#reactor = reactor;
    this.#onMessage = onMessage;
    this.#words = new Int32Array(port.memory, 0, HEADER_BYTES / 4);
    this.#ring = new RingBytes(port.memory);
    this.#counterAddress = mapAnonymous(4096).address;
    this.#owner = reactor.register(this);
    this.#arm();
  }

  /** Stops receiving: no message is delivered any more, and the armed read ends in a later turn. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reactor.cancel(this.#owner, 0);
  }

  /** From the reactor. */
  onCompletion(_token: number, result: number, _flags: number): void {
    if (this.#closed) {
      this.#reactor.unregister(this.#owner);
      return;
    }
    assert(result === 8 || result === -Errno.EINTR, "an eventfd gives 8 bytes", errnoName(result));
    // Armed again first, so that what `onMessage` throws does not leave the worker deaf.
    this.#arm();
    this.#deliver();
  }

  #arm(): void {
    this.#reactor.read(this.#owner, 0, this.#port.eventfd, this.#counterAddress, 8, 0);
  }

  #deliver(): void {
    for (;;) {
      const readAt = Atomics.load(this.#words, READ_AT);
      if (this.#closed || readAt === Atomics.load(this.#words, WRITTEN_TO)) return;
      const lengthBytes = this.#ring.readLength(readAt);
      const text = new TextDecoder().decode(this.#ring.read(readAt + LENGTH_BYTES, lengthBytes));
      Atomics.store(this.#words, READ_AT, (readAt + LENGTH_BYTES + lengthBytes) | 0);
      Atomics.notify(this.#words, READ_AT);
      this.#onMessage(JSON.parse(text));
    }
  }
}

/** The bytes of the ring; positions wrap around its size. */
class RingBytes {
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;
  readonly #mask: number;
  readonly #lengthBytes = new Uint8Array(LENGTH_BYTES);
  readonly #lengthView = new DataView(this.#lengthBytes.buffer);

  constructor(memory: SharedArrayBuffer) {
    this.#bytes = new Uint8Array(memory, HEADER_BYTES);
    this.sizeBytes = this.#bytes.length;
    this.#mask = this.sizeBytes - 1;
  }

  write(position: number, source: Uint8Array): void {
    const at = position & this.#mask;
    const untilEnd = Math.min(source.length, this.sizeBytes - at);
    this.#bytes.set(source.subarray(0, untilEnd), at);
    this.#bytes.set(source.subarray(untilEnd), 0);
  }

  /** A copy, since text is not decoded from shared memory. */
  read(position: number, lengthBytes: number): Uint8Array {
    const out = new Uint8Array(lengthBytes);
    const at = position & this.#mask;
    const untilEnd = Math.min(lengthBytes, this.sizeBytes - at);
    out.set(this.#bytes.subarray(at, at + untilEnd));
    out.set(this.#bytes.subarray(0, lengthBytes - untilEnd), untilEnd);
    return out;
  }

  writeLength(position: number, lengthBytes: number): void {
    this.#lengthView.setUint32(0, lengthBytes, true);
    this.write(position, this.#lengthBytes);
  }

  readLength(position: number): number {
    this.#lengthBytes.set(this.read(position, LENGTH_BYTES));
    return this.#lengthView.getUint32(0, true);
  }
}
