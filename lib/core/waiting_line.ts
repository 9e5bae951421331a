/**
 * Requests that wait because something in flight overlaps them, or a limit is reached: in order, and with the ranges that they will need, since
 * none overtakes an earlier one that overlaps it.
 *
 * @module
 */

import { RangeCounter } from "./range_counter.ts";
import { RequestState, type RequestTable } from "./request_table.ts";

/** The line of one client. */
export class WaitingLine {
  readonly #requests: RequestTable;
  readonly #ranges = new RangeCounter();
  #line: number[] = [];

  constructor(requests: RequestTable) {
    this.#requests = requests;
  }

  get count(): number {
    return this.#line.length;
  }

  /** Whether one that waits overlaps the range. */
  overlaps(offset: number, lengthBytes: number): boolean {
    return this.#line.length > 0 && this.#ranges.any(offset, lengthBytes);
  }

  add(request: number): void {
    this.#requests.state[request] = RequestState.WAITING;
    this.#ranges.add(this.#requests.offset[request], this.#requests.lengthBytes[request]);
    this.#line.push(request);
  }

  /** All of them, in order; none waits any more. */
  take(): number[] {
    for (const request of this.#line) {
      this.#ranges.remove(this.#requests.offset[request], this.#requests.lengthBytes[request]);
    }
    const line = this.#line;
    this.#line = [];
    return line;
  }
}
