/** Streams within one machine keep the transport's contract, and what is lent is not used for anything else meanwhile. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { closeDescriptor } from "../../../ffi/libc/file.ts";
import { connectNow, Family, newSocket } from "../../../ffi/libc/socket.ts";
import {
  newPipe,
  newShareableMemory,
  receiveDescriptors,
  sealedSizeOf,
  sendDescriptors,
} from "../../../ffi/libc/shared_memory.ts";
import { libc } from "../../../ffi/libc/library.ts";
import { abstractAddress } from "../../../lib/io/socket_address.ts";
import { decodeGreeting, encodeGreeting, LocalOutcome } from "../../../lib/transport/local_greeting.ts";
import { MessageType } from "../../../lib/wire/message.ts";
import { CONFORMANCE_TESTS, registerConformance } from "./conformance.ts";
import { closedCount, connect, finish, join, pattern, ping, sendWrite, slotsOf, write } from "./conformance_steps.ts";
import { localHarness } from "./local_harness.ts";

/** What is about payloads on their way: here they have none. */
const TRAVELLING = /does not match its sum|without checksums payloads in slots say so|a close with payloads under way/;

registerConformance(
  "local",
  CONFORMANCE_TESTS.filter(([what]) => !TRAVELLING.test(what)),
  (options) => localHarness(options),
);
registerConformance("local network over tcp", CONFORMANCE_TESTS, (options) => localHarness(options, false));

Deno.test("a write's payload lies in the sender's memory, and its slot is not given out again before it is released", () => {
  const harness = localHarness({});
  const { a, b, ca, cb } = join(harness);
  assert.deepEqual(a.transport.way!(ca), { transport: "shared-memory" });
  assert.equal(a.transport.sumsPayloads!(ca), false);
  const bytes = pattern(1, 9000);
  const slot = sendWrite(a, ca, 1, bytes);
  let borrowed = -1;
  b.handler.keepSlots = true;
  harness.until(() => b.handler.frames.length === 1 && a.handler.sentCounts.size === 1);
  borrowed = b.handler.keptSlots[0];
  assert.ok(borrowed >= 1 << 24);
  assert.equal(b.handler.frames[0].message.flags, 0, "The handler sees a write like any other");
  assert.equal(a.pool.usedBytes, 16384, "Freed by its owner, and still held");
  const others = [];
  for (let other = a.pool.allocate(9000); other >= 0; other = a.pool.allocate(9000)) others.push(other);
  assert.ok(!others.includes(slot));
  for (const other of others) a.pool.free(other);
  assert.ok(Buffer.from(b.pool.bytes(borrowed).subarray(0, 9000)).equals(bytes));
  b.pool.free(borrowed);
  harness.until(() => a.pool.usedBytes === 0);
  finish({ harness, a, b, ca, cb });
});

Deno.test("a connection that ends leaves the slot held until the other side is done with it", () => {
  const harness = localHarness({});
  const { a, b, ca, cb } = join(harness);
  sendWrite(a, ca, 1, pattern(1, 4096));
  b.handler.keepSlots = true;
  harness.until(() => b.handler.frames.length === 1);
  const [borrowed] = b.handler.keptSlots;
  a.transport.close(ca);
  harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
  for (let turn = 0; turn < 5; turn++) harness.reactor.turn(0);
  assert.equal(a.pool.usedBytes, 4096);
  assert.ok(Buffer.from(b.pool.bytes(borrowed).subarray(0, 4096)).equals(pattern(1, 4096)));
  b.pool.free(borrowed);
  harness.until(() => a.pool.usedBytes === 0);
  harness.close();
});

Deno.test("what may be held is bounded: beyond it payloads travel", () => {
  const harness = localHarness({});
  const { a, b, ca, cb } = join(harness);
  b.handler.keepSlots = true;
  const count = 12;
  for (let i = 0; i < count; i++) assert.ok(sendWrite(a, ca, i, pattern(i, 1 << 20)) >= 0);
  harness.until(() => b.handler.frames.length === count && a.handler.sentCounts.size === count);
  assert.equal(harness.lender.heldBytes, 6 << 20, "Three eighths of 16 MiB");
  b.handler.frames.forEach(({ payload }, i) => assert.ok(Buffer.from(payload!).equals(pattern(i, 1 << 20))));
  for (const slot of b.handler.keptSlots) b.pool.free(slot);
  harness.until(() => a.pool.usedBytes === 0);
  finish({ harness, a, b, ca, cb });
});

Deno.test("one slot goes to several, and is free when the last one has released it", () => {
  const harness = localHarness({});
  const joined = join(harness);
  const { a, b, ca } = joined;
  const second = connect(harness, b.transport.listen(harness.anyAddress).boundAddress);
  slotsOf(a);
  const slot = a.pool.allocate(4096);
  a.pool.bytes(slot).set(pattern(1, 4096));
  b.handler.keepSlots = true;
  assert.ok(a.transport.send(ca, write(1, 4096), slot, 100));
  assert.ok(a.transport.send(second.ca, write(2, 4096), slot, 101));
  harness.until(() => b.handler.frames.length === 2);
  a.pool.free(slot);
  b.pool.free(b.handler.keptSlots[0]);
  a.transport.send(ca, ping(1), -1, -1);
  harness.until(() => b.handler.frames.length === 3);
  assert.equal(a.pool.usedBytes, 4096);
  b.pool.free(b.handler.keptSlots[1]);
  harness.until(() => a.pool.usedBytes === 0);
  a.transport.close(second.ca);
  finish(joined);
});

Deno.test("a frame that names memory outside of what is shared, or gives back what was not lent, ends the connection", () => {
  for (const kind of ["page", "released"] as const) {
    const harness = localHarness({});
    const { a, b, ca, cb } = join(harness);
    if (kind === "page") {
      // A payload longer than the memory behind its page: 1 MiB from the last page on.
      const message = write(1, 1 << 20);
      message.flags = 8;
      message.payloadCrc = (16 << 20) / 4096 - 1;
      const slot = a.pool.allocate(1 << 20);
      message.payloadLength = 1 << 20;
      assert.ok(a.transport.sendBytes(ca, message, a.pool.bytes(slot)));
      a.pool.free(slot);
    } else {
      const message = ping(0).reset(MessageType.RELEASED);
      assert.ok(b.transport.sendBytes(cb, message, new Uint8Array(new Uint32Array([5, 0xffffffff]).buffer)));
    }
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    const [wary, its] = kind === "page" ? [b, cb] : [a, ca];
    assert.equal(wary.handler.closed.find((end) => end.connection === its)!.reason, -71);
    harness.close();
  }
});

/** Greets `address` by hand and returns the outcome; null when the other end hangs up. */
function greetByHand(
  harness: ReturnType<typeof localHarness>,
  address: string,
  bytes: Uint8Array,
  descriptors: readonly number[],
): number | null {
  const socket = newSocket(Family.UNIX);
  assert.ok(connectNow(socket, abstractAddress(`brmr/${address}`).bytes) >= 0);
  assert.equal(sendDescriptors(socket, bytes, descriptors), bytes.length);
  let answer: ReturnType<typeof receiveDescriptors> = -11;
  harness.until(() => {
    answer = receiveDescriptors(socket, 64);
    if (answer !== -11) return true;
    harness.reactor.wake();
    return false;
  });
  closeDescriptor(socket);
  assert.ok(typeof answer !== "number");
  return decodeGreeting((answer as { bytes: Uint8Array }).bytes)?.outcome ?? null;
}

Deno.test("memory that could shrink, or is not as large as said, and greetings of another kind are refused", () => {
  const harness = localHarness({});
  const { boundAddress } = harness.sides[1].transport.listen(harness.anyAddress);
  const [readEnd, writeEnd] = newPipe() as [number, number];
  const sealed = newShareableMemory(1 << 20);
  assert.ok(typeof sealed !== "number");
  assert.equal(sealedSizeOf(sealed.descriptor), 1 << 20);
  const unsealed = libc().memfd_create(new TextEncoder().encode("test\0"), 3);
  assert.equal(libc().ftruncate64(unsealed, 1n << 20n), 0);
  assert.equal(sealedSizeOf(unsealed), -22);
  const greeting = encodeGreeting(1 << 20);
  assert.equal(greetByHand(harness, boundAddress, greeting, [unsealed, writeEnd]), LocalOutcome.MEMORY);
  assert.equal(
    greetByHand(harness, boundAddress, encodeGreeting(2 << 20), [sealed.descriptor, writeEnd]),
    LocalOutcome.MEMORY,
  );
  assert.equal(greetByHand(harness, boundAddress, greeting, [sealed.descriptor]), LocalOutcome.VERSION);
  assert.equal(greetByHand(harness, boundAddress, greeting, []), LocalOutcome.VERSION);
  assert.equal(
    greetByHand(harness, boundAddress, new Uint8Array(64), [sealed.descriptor, writeEnd]),
    LocalOutcome.VERSION,
  );
  assert.equal(greetByHand(harness, boundAddress, greeting, [sealed.descriptor, writeEnd]), LocalOutcome.TAKEN);
  for (const descriptor of [readEnd, writeEnd, sealed.descriptor, unsealed]) closeDescriptor(descriptor);
  harness.close();
});
