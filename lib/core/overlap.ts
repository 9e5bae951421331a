/**
 * Which requests may be in flight together: never two that overlap if one of them writes, none past one that waits and overlaps it, no
 * more writes than there is room for, and for a moment none at all.
 *
 * @module
 */

import type { ClientContext } from "./client_context.ts";
import { RangeCounter } from "./range_counter.ts";
import { RangeLock } from "./range_lock.ts";
import { COMPARE_KIND, COPY_KIND, RequestKind } from "./request_kind.ts";
import type { RequestTable } from "./request_table.ts";
import { WaitingLine } from "./waiting_line.ts";

/** What is in flight at one client, and what waits for it. */
export class Overlap {
  readonly waiting: WaitingLine;
  /** Payload bytes of writes in flight. */
  writeBytes = 0;
  /** While set, no further write is let through. */
  holdsWrites = false;
  readonly #requests: RequestTable;
  readonly #pool: ClientContext;
  readonly #readers = new RangeCounter();
  readonly #writers = new RangeCounter();
  /** The range that a verify compares. */
  readonly #lock = new RangeLock();

  constructor(requests: RequestTable, pool: ClientContext) {
    this.#requests = requests;
    this.#pool = pool;
    this.waiting = new WaitingLine(requests);
  }

  /** Whether a request must wait. `isWindowFull`: whether no further write can be numbered. */
  mustWait(request: number, isWindowFull: boolean): boolean {
    const requests = this.#requests;
    const kind = requests.kind[request];
    if (kind === RequestKind.FLUSH) return false;
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    // Writes that wait for its lock would wait for ever. Reads that come after it wait behind it.
    if (kind === COPY_KIND) return this.#readers.any(offset, lengthBytes) || this.#writers.any(offset, lengthBytes);
    if (this.waiting.overlaps(offset, lengthBytes)) return true;
    if (this.#writers.any(offset, lengthBytes)) return true;
    if (kind === RequestKind.READ || kind === COMPARE_KIND) return false;
    return this.holdsWrites || isWindowFull || this.#readers.any(offset, lengthBytes) ||
      this.#lock.overlaps(offset, lengthBytes) ||
      (requests.slot[request] >= 0 && this.writeBytes > 0 &&
        this.writeBytes + lengthBytes > this.#pool.writeLimitBytes);
  }

  /** Whether something else that is in flight may touch the range of this request, which is, or a verify holds it. */
  isShared(request: number): boolean {
    const { offset, lengthBytes } = this.#requests;
    if (this.#lock.overlaps(offset[request], lengthBytes[request])) return true;
    this.leave(request);
    const isShared = this.#readers.any(offset[request], lengthBytes[request]) ||
      this.#writers.any(offset[request], lengthBytes[request]);
    this.enter(request);
    return isShared;
  }

  /** A request is in flight from now on. Flushes touch no range. */
  enter(request: number): void {
    const requests = this.#requests;
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    const kind = requests.kind[request];
    if (kind === COMPARE_KIND) this.#lock.hold(offset, lengthBytes);
    else if (kind === RequestKind.READ) this.#readers.add(offset, lengthBytes);
    else {
      this.#writers.add(offset, lengthBytes);
      if (requests.slot[request] >= 0) this.writeBytes += lengthBytes;
    }
  }

  /** It no longer keeps overlapping ones away. */
  leave(request: number): void {
    const requests = this.#requests;
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    const kind = requests.kind[request];
    if (kind === COMPARE_KIND) this.#lock.release();
    else if (kind === RequestKind.READ) this.#readers.remove(offset, lengthBytes);
    else {
      this.#writers.remove(offset, lengthBytes);
      if (requests.slot[request] >= 0) this.writeBytes -= lengthBytes;
    }
  }
}
