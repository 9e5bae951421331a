/**
 * A pool in memory behind the frontend contract. Requests are carried out when the test (or the loop) lets them complete,
 * in the order of submission unless told otherwise.
 *
 * @module
 */

import { assert } from "../../../lib/base/assert.ts";
import type { BufferPool } from "../../../lib/io/buffer_pool.ts";
import {
  type Frontend,
  type FrontendHost,
  MAX_REQUEST_BYTES,
  type PoolGeometry,
  RequestFlag,
  RequestKind,
} from "../../../lib/frontend/frontend.ts";

/** So much of a pool is really there, so that tests can use pools of any size. */
export const MAX_DISK_BYTES = 1 << 30;

/** One submitted request. */
export interface Submission {
  kind: number;
  flags: number;
  offset: number;
  lengthBytes: number;
  slot: number;
  tag: number;
}

/** The client node of a test. */
export class RamHost implements FrontendHost {
  readonly geometry: PoolGeometry;
  /** The first {@link MAX_DISK_BYTES} of the pool; what lies behind reads as zeroes and keeps nothing. */
  readonly disk: Uint8Array;
  /** Submitted, not completed. */
  readonly pending: Submission[] = [];
  /** Every submission so far, when `keepsLog`. */
  readonly log: Submission[] = [];
  keepsLog = true;
  /** Requests taken at once. */
  limit = 1024;
  /** Errno of a request, or 0; called when it completes. */
  failure: (request: Submission) => number = () => 0;
  frontend: Frontend | null = null;
  readonly #pool: BufferPool;

  constructor(pool: BufferPool, geometry: Partial<PoolGeometry> = {}) {
    this.#pool = pool;
    this.geometry = {
      name: "vol1",
      sizeBytes: 64 << 20,
      logicalBlockBytes: 512,
      readOnly: false,
      maxPayloadBytes: MAX_REQUEST_BYTES,
      maxRangeBytes: 32 << 20,
      ...geometry,
    };
    this.disk = new Uint8Array(Math.min(this.geometry.sizeBytes, MAX_DISK_BYTES));
  }

  get canSubmit(): boolean {
    return this.pending.length < this.limit;
  }

  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    assert(this.canSubmit, "submit only while canSubmit");
    assert(offset >= 0 && offset + lengthBytes <= this.geometry.sizeBytes, "in range", offset, lengthBytes);
    assert((offset | lengthBytes) % this.geometry.logicalBlockBytes === 0, "aligned", offset, lengthBytes);
    assert(flags === 0 || kind !== RequestKind.READ, "reads carry no flags", flags);
    assert((flags & ~(RequestFlag.FUA | RequestFlag.NO_HOLE)) === 0, "known flags", flags);
    const carriesData = kind === RequestKind.READ || kind === RequestKind.WRITE;
    const mostBytes = carriesData ? this.geometry.maxPayloadBytes : this.geometry.maxRangeBytes;
    assert(lengthBytes <= mostBytes, "no more than the host takes at once", lengthBytes);
    assert(carriesData === (slot >= 0), "a slot where data is involved", slot);
    if (carriesData) assert(this.#pool.capacity(slot) >= lengthBytes, "the slot holds the data");
    const request = { kind, flags, offset, lengthBytes, slot, tag };
    this.pending.push(request);
    if (this.keepsLog) this.log.push(request);
  }

  /** Carries out and completes the pending request at `index`. */
  complete(index = 0): void {
    const [request] = this.pending.splice(index, 1);
    this.#finish(request);
  }

  /** Completes all that is pending now. Returns how many. */
  completeAll(): number {
    const requests = this.pending.splice(0);
    for (const request of requests) this.#finish(request);
    return requests.length;
  }

  #finish(request: Submission): void {
    const status = this.failure(request);
    if (status === 0) this.#carryOut(request);
    this.frontend!.complete(request.tag, status);
  }

  #carryOut({ kind, offset, lengthBytes, slot }: Submission): void {
    const range = this.disk.subarray(offset, offset + lengthBytes);
    if (kind === RequestKind.READ) this.#pool.bytes(slot).fill(0, range.length, lengthBytes).set(range);
    else if (kind === RequestKind.WRITE) range.set(this.#pool.bytes(slot).subarray(0, range.length));
    else range.fill(0);
  }
}
