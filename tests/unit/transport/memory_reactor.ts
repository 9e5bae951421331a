/**
 * A reactor in memory: descriptors that are readable when their owner says so, and time that passes only when asked to.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { CompletionHandler } from "../../../lib/io/reactor.ts";
import type { PollingReactor } from "../../../lib/transport/rdma/verbs_network.ts";

export const POLLIN = 1;
export const POLLERR = 8;

const ECANCELED = 125;
const ETIME = 62;

interface Operation {
  readonly owner: number;
  readonly token: number;
  /** Its result; null while it is not complete. */
  result(): number | null;
  /** The descriptor that is waited on; -1 for a delay, and once it is cancelled. */
  readonly file: number;
  /** When it is complete by the mere passing of time. */
  readonly atMs: number;
}

/** Time of a test. Reactors may share it. */
export interface TestClock {
  nowMs: number;
}

export class MemoryReactor implements PollingReactor {
  readonly #clock: TestClock;
  readonly #handlers: CompletionHandler[] = [];
  #operations: Operation[] = [];
  readonly #descriptors = new Map<number, () => number>();
  #nextDescriptor = 100;

  constructor(clock: TestClock) {
    this.#clock = clock;
  }

  /** A descriptor; `ready` says what it is ready for. */
  open(ready: () => number): number {
    this.#descriptors.set(this.#nextDescriptor, ready);
    return this.#nextDescriptor++;
  }

  close(descriptor: number): void {
    assert.ok(!this.#operations.some(({ file }) => file === descriptor), "Nobody waits on what is closed");
    assert.ok(this.#descriptors.delete(descriptor), "A descriptor is closed once");
  }

  register(handler: CompletionHandler): number {
    return this.#handlers.push(handler) - 1;
  }

  pollReadable(owner: number, token: number, file: number): void {
    const ready = this.#descriptors.get(file);
    assert.ok(ready !== undefined, "Only an open descriptor is polled");
    this.#operations.push({ owner, token, file, result: () => ready() || null, atMs: Infinity });
  }

  delay(owner: number, token: number, timespecAddress: number): void {
    const time = new Deno.UnsafePointerView(Deno.UnsafePointer.create(BigInt(timespecAddress))!);
    const lastsMs = Number(time.getBigInt64(0)) * 1000 + Number(time.getBigInt64(8)) / 1e6;
    const atMs = this.#clock.nowMs + lastsMs;
    this.#operations.push({ owner, token, file: -1, result: () => this.#clock.nowMs >= atMs ? -ETIME : null, atMs });
  }

  /** Ends operations in the order in which they are cancelled. */
  cancel(owner: number, token: number): void {
    const isMeant = (each: Operation) => each.owner === owner && each.token === token;
    const meant = this.#operations.filter(isMeant);
    this.#operations = this.#operations.filter((each) => !isMeant(each));
    for (const each of meant) this.#operations.push({ ...each, file: -1, result: () => -ECANCELED });
  }

  get inFlightCount(): number {
    return this.#operations.length;
  }

  /** When the next delay is over; Infinity when there is none. */
  get nextMs(): number {
    return Math.min(...this.#operations.map(({ atMs }) => atMs));
  }

  /** Hands over what is complete. Whether anything was. */
  turn(): boolean {
    const results = this.#operations.map((operation) => ({ operation, result: operation.result() }));
    const complete = results.filter(({ result }) => result !== null);
    this.#operations = this.#operations.filter((each) => !complete.some(({ operation }) => operation === each));
    for (const { operation: { owner, token }, result } of complete) {
      this.#handlers[owner].onCompletion(token, result!, 0);
    }
    return complete.length > 0;
  }
}
