/** Turns a reactor until a condition holds; what tests wait with. */

import assert from "node:assert/strict";
import "../../ffi/libc_opened.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";

/** Far more than anything takes, so that only a hang reaches it. */
const LIMIT_MS = 20_000;

export function turnUntil(reactor: Reactor, condition: () => boolean, what: string): void {
  const limitMs = reactor.clockMs() + LIMIT_MS;
  while (!condition()) {
    assert.ok(reactor.clockMs() < limitMs, `waited ${LIMIT_MS} ms for: ${what}`);
    reactor.turn(Math.min(limitMs, reactor.clockMs() + 1000));
  }
}

/** Turns until nothing is in flight. */
export function drain(reactor: Reactor): void {
  turnUntil(reactor, () => reactor.inFlightCount === 0, "nothing in flight");
}

/** Collects completions, in order. */
export class Completions {
  readonly list: { token: number; result: number; flags: number }[] = [];

  onCompletion(token: number, result: number, flags: number): void {
    this.list.push({ token, result, flags });
  }

  /** The result of the one completion there is; forgets it. */
  takeOne(): number {
    assert.equal(this.list.length, 1);
    return this.list.pop()!.result;
  }
}
