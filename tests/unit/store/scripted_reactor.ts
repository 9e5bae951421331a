/**
 * A reactor whose operations wait until the test says how they end: for results that no disk gives on demand.
 *
 * @module
 */

import { unreachable } from "../../../lib/base/assert.ts";
import type { CompletionHandler, Reactor } from "../../../lib/io/reactor.ts";

/** One operation that was prepared. */
export interface Prepared {
  readonly kind: "read" | "write" | "flush" | "allocate";
  readonly token: number;
  readonly address: number;
  readonly lengthBytes: number;
  readonly offset: number;
  /** write: 1 when durable; allocate: the mode. */
  readonly mode: number;
}

/** See the head of this file. Sockets are beyond it. */
export class ScriptedReactor implements Reactor {
  /** What waits, oldest first. */
  readonly prepared: Prepared[] = [];
  readonly registered: number[] = [];
  nowMs = 0;
  #handler: CompletionHandler | null = null;

  register(handler: CompletionHandler): number {
    this.#handler = handler;
    return 1;
  }

  read(_owner: number, token: number, _file: number, address: number, lengthBytes: number, offset: number): void {
    this.prepared.push({ kind: "read", token, address, lengthBytes, offset, mode: 0 });
  }

  write(
    _owner: number,
    token: number,
    _file: number,
    address: number,
    lengthBytes: number,
    offset: number,
    durable: boolean,
  ): void {
    this.prepared.push({ kind: "write", token, address, lengthBytes, offset, mode: durable ? 1 : 0 });
  }

  flush(_owner: number, token: number): void {
    this.prepared.push({ kind: "flush", token, address: 0, lengthBytes: 0, offset: 0, mode: 0 });
  }

  allocate(_owner: number, token: number, _file: number, mode: number, offset: number, lengthBytes: number): void {
    this.prepared.push({ kind: "allocate", token, address: 0, lengthBytes, offset, mode });
  }

  /** Ends the oldest operation with `result` and returns it. */
  end(result: number): Prepared {
    const operation = this.prepared.shift();
    if (operation === undefined) unreachable("no operation waits");
    this.#handler!.onCompletion(operation.token, result, 0);
    return operation;
  }

  registerFile(file: number): number {
    this.registered.push(file);
    return -this.registered.length;
  }

  unregisterFile(): void {
    this.registered.pop();
  }

  get inFlightCount(): number {
    return this.prepared.length;
  }

  clockMs(): number {
    return this.nowMs;
  }

  accept(): void {
    unreachable("sockets");
  }
  connect(): void {
    unreachable("sockets");
  }
  receive(): void {
    unreachable("sockets");
  }
  sendMessage(): void {
    unreachable("sockets");
  }
  pollReadable(): void {
    unreachable("sockets");
  }
  shutdown(): void {
    unreachable("sockets");
  }
  close(): void {
    unreachable("sockets");
  }
  cancel(): void {
    unreachable("nothing is cancelled here");
  }
  letOthersRun(): void {
    unreachable("the test ends operations itself");
  }
  turn(): number {
    unreachable("the test ends operations itself");
  }
  dispose(): void {
  }
}
