/**
 * What the conformance tests do again and again: join two sides, send, end.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import type { Harness, Side } from "./harness.ts";

/** A harness with a connection from side 0 to side 1. */
export interface Joined {
  readonly harness: Harness;
  readonly a: Side;
  readonly b: Side;
  /** The connection's number on side a and on side b. */
  readonly ca: number;
  readonly cb: number;
}

/** Makes the connection. */
export function join(harness: Harness): Joined {
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  const { ca, cb } = connect(harness, boundAddress);
  return { harness, a, b, ca, cb };
}

/** A further connection from side 0 to where side 1 listens. */
export function connect(harness: Harness, address: string): { ca: number; cb: number } {
  const { ca, reason } = tryConnect(harness, address);
  assert.equal(reason, null, "The connection ended before it stood");
  assert.equal(harness.sides[0].handler.connected.at(-1), ca);
  return { ca, cb: harness.sides[1].handler.accepted.at(-1)!.connection };
}

/** The same, where it may end before it stands, for `reason`. */
export function tryConnect(harness: Harness, address: string): { ca: number; reason: number | null } {
  const [a, b] = harness.sides;
  const connectedCount = a.handler.connected.length;
  const acceptedCount = b.handler.accepted.length;
  const ca = a.transport.connect(address);
  // Numbers are given out again: the ends of earlier ones do not count.
  const endedCount = a.handler.closed.length;
  const isGone = () => a.handler.closed.slice(endedCount).some(({ connection }) => connection === ca);
  harness.until(() =>
    isGone() || a.handler.connected.length > connectedCount && b.handler.accepted.length > acceptedCount
  );
  return { ca, reason: isGone() ? closeReason(a, ca) : null };
}

/** Ends what still stands, waits until both ends were told, and checks that nothing is left over. */
export function finish({ harness, a, b, ca, cb }: Joined): void {
  a.transport.close(ca);
  harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
  harness.close();
}

/** How often the end of `connection` was told. */
export function closedCount(side: Side, connection: number): number {
  return side.handler.closed.filter((end) => end.connection === connection).length;
}

/** The reason its last end was told with. */
export function closeReason(side: Side, connection: number): number {
  return side.handler.closed.findLast((end) => end.connection === connection)!.reason;
}

/** Bytes that differ from one seed, and from one place, to the next. */
export function pattern(seed: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < lengthBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** A WRITE of `lengthBytes`. */
export function write(requestId: number, lengthBytes: number): Message {
  const message = new Message().reset(MessageType.WRITE);
  message.requestId = requestId;
  message.length = lengthBytes;
  message.payloadLength = lengthBytes;
  return message;
}

/** A frame without payload. */
export function ping(requestId: number): Message {
  const message = new Message().reset(MessageType.PING);
  message.requestId = requestId;
  return message;
}

/** Sends `bytes` as a WRITE from a slot that is freed when its token comes back. */
export function sendWrite(side: Side, connection: number, requestId: number, bytes: Uint8Array): number {
  const slot = side.pool.allocate(bytes.length);
  assert.ok(slot >= 0, "The test's pool is large enough");
  side.pool.bytes(slot).set(bytes);
  const slots = slotsOf(side);
  slots.set(requestId, slot);
  if (!side.transport.send(connection, write(requestId, bytes.length), slot, requestId)) {
    slots.delete(requestId);
    side.pool.free(slot);
    return -1;
  }
  return slot;
}

/** Answers writes, as legs do: a payload may be held until then. */
export function answerWrites({ transport, handler }: Side, connection: number): void {
  handler.onFrame = ({ message }) => {
    if (message.type === MessageType.WRITE) assert.ok(transport.send(connection, ping(message.requestId), -1, -1));
  };
}

const slotTables = new WeakMap<Side, Map<number, number>>();

/** Slots to be freed when their token comes back, by token. Asking for it is what sees to that. */
export function slotsOf(side: Side): Map<number, number> {
  let slots = slotTables.get(side);
  if (slots === undefined) {
    const table = slots = new Map<number, number>();
    slotTables.set(side, slots);
    const then = side.handler.onToken;
    side.handler.onToken = (connection, token) => {
      const slot = table.get(token);
      if (slot !== undefined) {
        table.delete(token);
        side.pool.free(slot);
      }
      then?.(connection, token);
    };
  }
  return slots;
}

/** 0 .. count - 1 */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
