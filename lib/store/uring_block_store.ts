/**
 * The block store of the data path: O_DIRECT reads and writes of an exclusively opened device through the reactor's
 * ring.
 *
 * A request that moved fewer bytes than asked is continued where it stopped; one that cannot go on is -EIO. Zeroing
 * frees space by punching holes; where the device cannot, it zeroes ranges, and at last writes zeroes.
 *
 * Nothing is allocated per I/O: requests live in columns of numbers, sized when the store is opened.
 *
 * @module
 */

import { Errno } from "../../ffi/libc/errno.ts";
import { AllocateMode } from "../../ffi/libc/file.ts";
import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { CompletionHandler, Reactor } from "../io/reactor.ts";
import type { BlockStore, BlockStoreHandler } from "./block_store.ts";
import { type DeviceFile, isUnsupported } from "./device_file.ts";

/** How a {@link UringBlockStore} is made. */
export interface UringBlockStoreOptions {
  /** Opened for exclusive use; the store owns it from now on and closes it. */
  readonly device: DeviceFile;
  readonly reactor: Reactor;
  readonly pool: BufferPool;
  readonly handler: BlockStoreHandler;
  /** Most requests at once; more is a bug of the caller, whose credits must bound them. */
  readonly maxInFlight?: number;
}

const Operation = { READ: 0, WRITE: 1, WRITE_DURABLE: 2, FLUSH: 3, PUNCH: 4, ZERO_RANGE: 5, ZERO_WRITE: 6 } as const;

/** Bytes of zeroes written at once where the device knows no better. */
const ZERO_CHUNK_BYTES = 64 * 1024;
/** A request interrupted or put off by the kernel this often without moving a byte has failed. */
const MAX_RETRIES = 100;

/** Blocks of one device on one ring. */
export class UringBlockStore implements BlockStore, CompletionHandler {
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly #device: DeviceFile;
  readonly #reactor: Reactor;
  readonly #pool: BufferPool;
  readonly #handler: BlockStoreHandler;
  readonly #owner: number;
  readonly #file: number;
  /** LIFETIME: held until close, so the kernel may read it whenever a zeroing request is in flight. */
  readonly #zeroSlot: number;
  #canPunch = true;
  #canZeroRange = true;
  #closed = false;

  // Columns of the request table; a row number is the reactor's token.
  readonly #tokens: Float64Array;
  readonly #operations: Uint8Array;
  readonly #retries: Uint8Array;
  /** Next byte in memory, bytes still to move, next byte on the device. */
  readonly #addresses: Float64Array;
  readonly #remaining: Float64Array;
  readonly #offsets: Float64Array;
  readonly #freeRows: Int32Array;
  #freeCount: number;

  constructor(options: UringBlockStoreOptions) {
    const { device, reactor, pool, handler } = options;
    const capacity = options.maxInFlight ?? 8192;
    this.path = device.path;
    this.sizeBytes = device.sizeBytes;
    this.logicalBlockBytes = device.logicalBlockBytes;
    this.#device = device;
    this.#reactor = reactor;
    this.#pool = pool;
    this.#handler = handler;
    this.#zeroSlot = pool.allocate(ZERO_CHUNK_BYTES);
    assert(this.#zeroSlot >= 0, "The pool has room for a store's zeroes", pool.totalBytes);
    pool.bytes(this.#zeroSlot).fill(0);
    this.#owner = reactor.register(this);
    this.#file = reactor.registerFile(device.descriptor);
    this.#tokens = new Float64Array(capacity);
    this.#operations = new Uint8Array(capacity);
    this.#retries = new Uint8Array(capacity);
    this.#addresses = new Float64Array(capacity);
    this.#remaining = new Float64Array(capacity);
    this.#offsets = new Float64Array(capacity);
    this.#freeRows = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.#freeRows[i] = capacity - 1 - i;
    this.#freeCount = capacity;
  }

  /** Requests not yet completed. */
  get inFlightCount(): number {
    return this.#freeRows.length - this.#freeCount;
  }

  read(token: number, slot: number, lengthBytes: number, offset: number): void {
    this.#issue(this.#begin(Operation.READ, token, this.#pool.address(slot), lengthBytes, offset));
  }

  write(token: number, slot: number, lengthBytes: number, offset: number, durable: boolean): void {
    const operation = durable ? Operation.WRITE_DURABLE : Operation.WRITE;
    this.#issue(this.#begin(operation, token, this.#pool.address(slot), lengthBytes, offset));
  }

  zero(token: number, lengthBytes: number, offset: number, keepSpace: boolean): void {
    const operation = keepSpace ? Operation.ZERO_RANGE : Operation.PUNCH;
    this.#issue(this.#begin(operation, token, 0, lengthBytes, offset));
  }

  flush(token: number): void {
    this.#issue(this.#begin(Operation.FLUSH, token, 0, 0, 0));
  }

  close(): void {
    assert(!this.#closed, "A store is closed once", this.path);
    assert(this.inFlightCount === 0, "Nothing is in flight at close", this.inFlightCount);
    this.#closed = true;
    this.#reactor.unregisterFile(this.#file);
    this.#pool.free(this.#zeroSlot);
    this.#device.close();
  }

  onCompletion(row: number, result: number, _flags: number): void {
    const operation = this.#operations[row];
    if (result === -Errno.EINTR || result === -Errno.EAGAIN) {
      if (++this.#retries[row] <= MAX_RETRIES) this.#issue(row);
      else this.#finish(row, result);
    } else if (result < 0) {
      if (!isUnsupported(result) || !this.#fallBack(row)) this.#finish(row, result);
    } else if (operation <= Operation.WRITE_DURABLE || operation === Operation.ZERO_WRITE) {
      this.#advance(row, result);
    } else {
      this.#finish(row, 0);
    }
  }

  #begin(operation: number, token: number, address: number, lengthBytes: number, offset: number): number {
    assert(!this.#closed, "The store is open", this.path);
    assert(this.#freeCount > 0, "Requests in flight stay below the store's limit", this.#freeRows.length);
    const row = this.#freeRows[--this.#freeCount];
    this.#tokens[row] = token;
    this.#operations[row] = operation;
    this.#retries[row] = 0;
    this.#addresses[row] = address;
    this.#remaining[row] = lengthBytes;
    this.#offsets[row] = offset;
    return row;
  }

  #issue(row: number): void {
    const remaining = this.#remaining[row];
    const offset = this.#offsets[row];
    let operation = this.#operations[row];
    // What this device has refused before is not asked again.
    if (operation === Operation.PUNCH && !this.#canPunch) operation = Operation.ZERO_RANGE;
    if (operation === Operation.ZERO_RANGE && !this.#canZeroRange) operation = Operation.ZERO_WRITE;
    this.#operations[row] = operation;
    switch (operation) {
      case Operation.READ:
        this.#reactor.read(this.#owner, row, this.#file, this.#addresses[row], remaining, offset);
        break;
      case Operation.WRITE:
        this.#reactor.write(this.#owner, row, this.#file, this.#addresses[row], remaining, offset, false);
        break;
      case Operation.WRITE_DURABLE:
        this.#reactor.write(this.#owner, row, this.#file, this.#addresses[row], remaining, offset, true);
        break;
      case Operation.FLUSH:
        this.#reactor.flush(this.#owner, row, this.#file);
        break;
      case Operation.PUNCH:
        this.#reactor.allocate(this.#owner, row, this.#file, AllocateMode.PUNCH_HOLE, offset, remaining);
        break;
      case Operation.ZERO_RANGE:
        this.#reactor.allocate(this.#owner, row, this.#file, AllocateMode.ZERO_RANGE, offset, remaining);
        break;
      default: {
        const count = Math.min(remaining, ZERO_CHUNK_BYTES);
        const address = this.#pool.address(this.#zeroSlot);
        this.#reactor.write(this.#owner, row, this.#file, address, count, offset, false);
      }
    }
  }

  /** Part of a read or write is done: goes on with the rest. */
  #advance(row: number, count: number): void {
    const remaining = this.#remaining[row] - count;
    if (remaining === 0) {
      if (this.#operations[row] !== Operation.WRITE_DURABLE || this.#device.keepsDurableWrites) {
        return this.#finish(row, 0);
      }
      // What was written is not on stable storage yet.
      this.#operations[row] = Operation.FLUSH;
      this.#retries[row] = 0;
      return this.#issue(row);
    }
    // Nothing moved, or the rest could not be asked for with O_DIRECT: the device does not do as it says.
    if (count === 0 || count % this.logicalBlockBytes !== 0) return this.#finish(row, -Errno.EIO);
    this.#remaining[row] = remaining;
    this.#offsets[row] += count;
    if (this.#operations[row] !== Operation.ZERO_WRITE) this.#addresses[row] += count;
    this.#retries[row] = 0;
    this.#issue(row);
  }

  /** The device cannot do this: notes it and asks for the same in the next best way. False when there is none. */
  #fallBack(row: number): boolean {
    const operation = this.#operations[row];
    if (operation === Operation.PUNCH) this.#canPunch = false;
    else if (operation === Operation.ZERO_RANGE) this.#canZeroRange = false;
    else return false;
    this.#issue(row);
    return true;
  }

  #finish(row: number, result: number): void {
    const token = this.#tokens[row];
    // The row is free before the handler runs: it may ask for more at once.
    this.#freeRows[this.#freeCount++] = row;
    this.#handler.onBlockDone(token, result);
  }
}
