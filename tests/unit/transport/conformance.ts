/**
 * What every transport must do, as tests that run on each of them. A new transport is done when it passes these.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Message, MessageFlag, MessageType } from "../../../lib/wire/message.ts";
import { payloadCrc } from "../../../lib/transport/payload_crc.ts";
import {
  answerWrites,
  closedCount,
  closeReason,
  connect,
  finish,
  join,
  pattern,
  ping,
  range,
  sendWrite,
  slotsOf,
  write,
} from "./conformance_steps.ts";
import type { HarnessMaker, HarnessOptions, Side } from "./harness.ts";

type ConformanceTest = (make: HarnessMaker) => void;

const NO_OPTIONS: HarnessOptions = {};

/** Name and test. */
export const CONFORMANCE_TESTS: readonly (readonly [string, ConformanceTest])[] = [
  ["both ends are told of a connection", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { a, b, ca, cb } = joined;
    assert.deepEqual(a.handler.connected, [ca]);
    assert.equal(b.handler.accepted.length, 1);
    assert.equal(b.handler.accepted[0].listener, 0);
    assert.notEqual(b.handler.accepted[0].peerAddress, "");
    finish(joined);
    assert.equal(closeReason(a, ca), 0);
    assert.equal(closeReason(b, cb), 0);
  }],

  ["every field of the header arrives", (make) => {
    const joined = join(make(NO_OPTIONS));
    const sent = new Message().reset(MessageType.READ);
    sent.flags = 5;
    sent.legIndex = 65535;
    sent.requestId = 0xfedcba98;
    sent.status = -2147483648;
    sent.sequence = Number.MAX_SAFE_INTEGER;
    sent.offset = Number.MAX_SAFE_INTEGER - 4095;
    sent.length = 0xffffffff;
    sent.mask = 0x80000001;
    sent.watermark = 2 ** 32 + 1;
    sent.resyncSession = 0xffffffff;
    assert.ok(joined.a.transport.send(joined.ca, sent, -1, -1));
    joined.harness.until(() => joined.b.handler.frames.length === 1);
    assert.deepEqual(joined.b.handler.frames[0].message, sent);
    finish(joined);
  }],

  ["thousands of small frames arrive once each and in order, both ways at once", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { a, b, ca, cb } = joined;
    const count = 3000;
    for (let i = 0; i < count; i++) {
      assert.ok(a.transport.send(ca, ping(i), -1, -1));
      assert.ok(b.transport.send(cb, ping(count + i), -1, -1));
    }
    joined.harness.until(() => a.handler.frames.length >= count && b.handler.frames.length >= count);
    assert.deepEqual(b.handler.frames.map((frame) => frame.message.requestId), range(count));
    assert.deepEqual(a.handler.frames.map((frame) => frame.message.requestId), range(count).map((i) => count + i));
    assert.equal(a.transport.stats(ca).sentFrames, count);
    assert.equal(a.transport.stats(ca).sentBytes, count * 64);
    assert.equal(b.transport.stats(cb).receivedFrames, count);
    assert.equal(b.transport.stats(cb).receivedBytes, count * 64);
    finish(joined);
  }],

  ["payloads of every size arrive whole, in order with frames without, and their tokens come back once", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    const sizes = [1, 63, 64, 65, 511, 4095, 4096, 4097, 8192, 16384, 40000, 65536, 131072, 1 << 20, 7, 1 << 20, 1];
    sizes.forEach((size, i) => {
      assert.ok(sendWrite(a, ca, i, pattern(i, size)) >= 0);
      assert.ok(a.transport.send(ca, ping(1000 + i), -1, -1));
      assert.ok(sendWrite(b, cb, i, pattern(100 + i, size)) >= 0);
    });
    harness.until(() => b.handler.frames.length === sizes.length * 2 && a.handler.frames.length === sizes.length);
    // The payload of a write comes back with the answer at the latest.
    for (const [side, connection] of [[a, ca], [b, cb]] as const) side.transport.send(connection, ping(0), -1, -1);
    harness.until(() => a.handler.sentCounts.size === sizes.length && b.handler.sentCounts.size === sizes.length);
    sizes.forEach((size, i) => {
      const { message, payload } = b.handler.frames[2 * i];
      assert.equal(message.requestId, i);
      assert.equal(message.length, size);
      assert.ok(Buffer.from(payload!).equals(pattern(i, size)), `Payload ${i} of ${size} bytes`);
      assert.equal(b.handler.frames[2 * i + 1].message.requestId, 1000 + i);
      assert.ok(Buffer.from(a.handler.frames[i].payload!).equals(pattern(100 + i, size)));
    });
    assert.deepEqual(a.handler.sentTokens, range(sizes.length));
    assert.deepEqual(b.handler.sentTokens, range(sizes.length));
    finish(joined);
  }],

  ["bytes given to sendBytes, and slots given without a token, may be overwritten at once", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca } = joined;
    const sizes = [8, 800, 4032, 4096, 100_000, 1 << 20];
    for (const size of sizes) {
      const bytes = pattern(size, size);
      const message = new Message().reset(MessageType.MAP_PART);
      assert.ok(a.transport.sendBytes(ca, message, bytes));
      bytes.fill(0);
      const slot = a.pool.allocate(size);
      a.pool.bytes(slot).set(pattern(size + 1, size));
      assert.ok(a.transport.send(ca, write(size, size), slot, -1));
      a.pool.bytes(slot).fill(0);
      a.pool.free(slot);
    }
    assert.ok(a.transport.sendBytes(ca, new Message().reset(MessageType.MAP_PART), new Uint8Array(0)));
    assert.ok(a.transport.sendBytes(ca, new Message().reset(MessageType.PONG), null));
    harness.until(() => b.handler.frames.length === 2 * sizes.length + 2);
    sizes.forEach((size, i) => {
      assert.ok(Buffer.from(b.handler.frames[2 * i].payload!).equals(pattern(size, size)), `${size} bytes copied`);
      assert.ok(Buffer.from(b.handler.frames[2 * i + 1].payload!).equals(pattern(size + 1, size)), `slot of ${size}`);
    });
    assert.equal(b.handler.frames.at(-2)!.payload, null);
    assert.equal(a.handler.sentCounts.size, 0);
    finish(joined);
  }],

  ["a token without a payload comes back too", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca } = joined;
    assert.ok(a.transport.send(ca, ping(1), -1, 17));
    harness.until(() => b.handler.frames.length === 1 && a.handler.sentCounts.size === 1);
    assert.deepEqual(a.handler.sentTokens, [17]);
    finish(joined);
  }],

  ["a receiver without memory stops its connection, not the others, and loses nothing", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    const second = connect(harness, b.transport.listen(harness.anyAddress).boundAddress);
    assert.notEqual(second.ca, ca);
    answerWrites(b, cb);
    b.handler.placementAnswers.push(-1, -1);
    const sizes = [100, 5000, 300_000];
    sizes.forEach((size, i) => assert.ok(sendWrite(a, ca, i, pattern(i, size)) >= 0));
    harness.until(() => b.handler.placementCount === 1);
    for (let i = 0; i < 10; i++) assert.ok(a.transport.send(second.ca, ping(100 + i), -1, -1));
    harness.until(() => b.handler.frames.length === 10);
    assert.ok(b.handler.frames.every((frame) => frame.connection === second.cb));
    assert.equal(b.handler.placementCount, 1, "It is not asked again unasked");
    b.transport.resume();
    harness.until(() => b.handler.placementCount === 2);
    b.transport.resume();
    harness.until(() => b.handler.frames.length === 10 + sizes.length && a.handler.sentCounts.size === sizes.length);
    sizes.forEach((size, i) => {
      assert.equal(b.handler.frames[10 + i].connection, cb);
      assert.ok(Buffer.from(b.handler.frames[10 + i].payload!).equals(pattern(i, size)));
    });
    a.transport.close(second.ca);
    finish(joined);
  }],

  ["a payload that is refused ends the connection with EPROTO", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    b.handler.placementAnswers.push(-2);
    assert.ok(sendWrite(a, ca, 1, pattern(1, 4096)) >= 0);
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1 && a.handler.sentCounts.size === 1);
    assert.equal(closeReason(b, cb), -71);
    assert.equal(b.handler.frames.length, 0);
    harness.close();
  }],

  ["a payload that does not match its sum ends the connection with EBADMSG and is not delivered", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    const bytes = pattern(3, 4096);
    const slot = a.pool.allocate(4096);
    a.pool.bytes(slot).set(bytes);
    const message = write(1, 4096);
    message.payloadCrc = payloadCrc(bytes, 4096) ^ 1;
    slotsOf(a).set(1, slot);
    assert.ok(a.transport.send(ca, message, slot, 1));
    assert.ok(a.transport.send(ca, ping(2), -1, -1));
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(closeReason(b, cb), -74);
    assert.equal(b.handler.frames.length, 0);
    assert.deepEqual(a.handler.sentTokens, [1]);
    harness.close();
  }],

  ["a sum that the caller has made is used", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca } = joined;
    const bytes = pattern(3, 5000);
    const message = new Message().reset(MessageType.MAP_PART);
    message.payloadCrc = payloadCrc(bytes, 5000);
    assert.ok(a.transport.sendBytes(ca, message, bytes));
    harness.until(() => b.handler.frames.length === 1);
    assert.equal(b.handler.frames[0].message.payloadCrc, message.payloadCrc);
    finish(joined);
  }],

  ["without checksums what is copied is summed nevertheless, and a sum that comes is checked", (make) => {
    const { harness, a, b, ca, cb } = join(make({ checksums: false }));
    const bytes = pattern(3, 5000);
    const body = () => new Message().reset(MessageType.MAP_PART);
    assert.ok(a.transport.sendBytes(ca, body(), bytes));
    harness.until(() => b.handler.frames.length === 1);
    const { flags, payloadCrc: sum } = b.handler.frames[0].message;
    assert.deepEqual([flags & MessageFlag.NO_PAYLOAD_CRC, sum], [0, payloadCrc(bytes, 5000)]);
    const wrong = body();
    wrong.payloadCrc = payloadCrc(bytes, 5000) ^ 1;
    assert.ok(a.transport.sendBytes(ca, wrong, bytes));
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(closeReason(b, cb), -74);
    assert.equal(b.handler.frames.length, 1);
    harness.close();
  }],

  ["without checksums payloads in slots say so, and are not checked", (make) => {
    const joined = join(make({ checksums: false }));
    const { harness, a, b, ca, cb } = joined;
    answerWrites(b, cb);
    assert.ok(sendWrite(a, ca, 1, pattern(1, 70_000)) >= 0);
    harness.until(() => b.handler.frames.length === 1 && a.handler.sentCounts.size === 1);
    assert.equal(b.handler.frames[0].message.flags, 2);
    assert.equal(b.handler.frames[0].message.payloadCrc, 0);
    assert.ok(Buffer.from(b.handler.frames[0].payload!).equals(pattern(1, 70_000)));
    finish(joined);
  }],

  ["a close with payloads under way returns every token once and delivers nothing afterwards", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    const count = 8;
    for (let i = 0; i < count; i++) assert.ok(sendWrite(a, ca, i, pattern(i, 1 << 20)) >= 0);
    harness.until(() => b.handler.placementCount >= 2);
    a.transport.close(ca);
    assert.equal(a.transport.send(ca, ping(1), -1, -1), false, "A connection that is closed takes nothing more");
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.deepEqual(a.handler.sentTokens, range(count));
    assert.equal(closeReason(a, ca), 0);
    assert.ok(b.handler.frames.length <= count);
    for (const { message, payload } of b.handler.frames) {
      assert.ok(Buffer.from(payload!).equals(pattern(message.requestId, 1 << 20)));
    }
    harness.close();
  }],

  ["a close by the receiver in the middle of a payload", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    b.handler.onPlacement = (connection) => b.transport.close(connection);
    for (let i = 0; i < 3; i++) assert.ok(sendWrite(a, ca, i, pattern(i, 1 << 20)) >= 0);
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(b.handler.placementCount, 1);
    assert.equal(b.handler.frames.length, 0);
    assert.equal(closeReason(b, cb), 0);
    assert.deepEqual(a.handler.sentTokens, [0, 1, 2]);
    harness.close();
  }],

  ["a close from within onMessage: no further frame, also of those that have arrived", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    b.handler.onFrame = ({ connection, message }) => {
      if (message.requestId === 4) b.transport.close(connection);
    };
    for (let i = 0; i < 200; i++) a.transport.send(ca, ping(i), -1, -1);
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.deepEqual(b.handler.frames.map((frame) => frame.message.requestId), range(5));
    harness.close();
  }],

  ["calls from within news: send from onConnected, onAccepted, onMessage and onSent", (make) => {
    const harness = make(NO_OPTIONS);
    const [a, b] = harness.sides;
    const { boundAddress } = b.transport.listen(harness.anyAddress);
    a.handler.onConnect = (connection) => assert.ok(sendWrite(a, connection, 1, pattern(1, 100)) >= 0);
    b.handler.onConnect = (connection) => assert.ok(b.transport.send(connection, ping(60), -1, -1));
    b.handler.onFrame = ({ connection, message }) => {
      if (message.requestId < 50) assert.ok(sendWrite(b, connection, message.requestId + 1, pattern(9, 9000)) >= 0);
    };
    a.handler.onFrame = ({ connection, message }) => {
      if (message.requestId < 50) assert.ok(sendWrite(a, connection, message.requestId + 1, pattern(8, 80)) >= 0);
    };
    slotsOf(a);
    const freeSlot = a.handler.onToken!;
    let followedUp = false;
    a.handler.onToken = (connection, token) => {
      freeSlot(connection, token);
      if (!followedUp) followedUp = a.transport.send(connection, ping(99), -1, -1);
    };
    const ca = a.transport.connect(boundAddress);
    const seen = (side: Side, id: number) => side.handler.frames.some((frame) => frame.message.requestId === id);
    harness.until(() => (seen(a, 50) || seen(b, 50)) && seen(b, 99));
    finish({ harness, a, b, ca, cb: b.handler.accepted[0].connection });
  }],

  ["calls from within news: close from onConnected, from onAccepted and from onSent", (make) => {
    const harness = make(NO_OPTIONS);
    const [a, b] = harness.sides;
    const { boundAddress } = b.transport.listen(harness.anyAddress);
    a.handler.onConnect = (connection) => a.transport.close(connection);
    a.transport.connect(boundAddress);
    harness.until(() => a.handler.closed.length === 1 && b.handler.closed.length === 1);
    a.handler.onConnect = null;
    b.handler.onConnect = (connection) => b.transport.close(connection);
    a.transport.connect(boundAddress);
    harness.until(() => a.handler.closed.length === 2 && b.handler.closed.length === 2);
    b.handler.onConnect = null;
    const { ca } = connect(harness, boundAddress);
    slotsOf(a);
    const freeSlot = a.handler.onToken!;
    a.handler.onToken = (connection, token) => {
      freeSlot(connection, token);
      a.transport.close(connection);
    };
    assert.ok(sendWrite(a, ca, 5, pattern(5, 100_000)) >= 0);
    assert.ok(sendWrite(a, ca, 6, pattern(6, 100)) >= 0);
    harness.until(() => a.handler.closed.length === 3 && b.handler.closed.length === 3);
    assert.deepEqual(a.handler.sentTokens, [5, 6]);
    harness.close();
  }],

  ["calls from within news: resume from onMessage of another connection", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    const second = connect(harness, b.transport.listen(harness.anyAddress).boundAddress);
    b.handler.outOfMemory = true;
    assert.ok(sendWrite(a, ca, 1, pattern(1, 20_000)) >= 0);
    harness.until(() => b.handler.placementCount === 1);
    b.handler.onFrame = ({ message }) => {
      b.handler.outOfMemory = false;
      b.transport.resume();
      if (message.type === MessageType.WRITE) b.transport.send(cb, ping(8), -1, -1);
    };
    assert.ok(a.transport.send(second.ca, ping(7), -1, -1));
    harness.until(() => b.handler.frames.length === 2 && a.handler.sentCounts.size === 1);
    a.transport.close(second.ca);
    finish(joined);
  }],

  ["what is sent on a connection that is gone, or never was, is refused and its token not returned", (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    b.transport.close(cb);
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(sendWrite(a, ca, 1, pattern(1, 5000)), -1);
    assert.equal(a.transport.send(ca, ping(1), -1, 3), false);
    assert.equal(a.transport.sendBytes(ca, ping(1), null), false);
    assert.equal(a.transport.send(777, ping(1), -1, -1), false);
    a.transport.close(ca);
    a.transport.close(777);
    a.transport.flushSends();
    assert.equal(a.handler.sentCounts.size, 0);
    assert.equal(a.transport.queuedBytes(ca), 0);
    assert.equal(a.transport.lastReceivedMs(ca), 0);
    assert.equal(a.transport.stats(ca).sentFrames, 0);
    assert.equal(a.handler.closed.length, 1);
    harness.close();
  }],

  ["nothing can be sent before the connection stands", (make) => {
    const harness = make(NO_OPTIONS);
    const [a, b] = harness.sides;
    const ca = a.transport.connect(b.transport.listen(harness.anyAddress).boundAddress);
    assert.equal(a.transport.send(ca, ping(1), -1, -1), false);
    a.transport.close(ca);
    harness.until(() => a.handler.closed.length === 1 && b.handler.accepted.length === b.handler.closed.length);
    assert.deepEqual(a.handler.connected, []);
    assert.equal(closeReason(a, ca), 0);
    harness.close();
  }],

  ["a connect that nobody answers, or to what is no address, ends once with a reason", (make) => {
    const harness = make(NO_OPTIONS);
    const [a] = harness.sides;
    const dead = a.transport.connect(harness.deadAddress);
    const malformed = a.transport.connect("no address at all");
    assert.notEqual(dead, malformed);
    assert.equal(a.handler.closed.length, 0, "Not from within the call");
    harness.until(() => a.handler.closed.length === 2);
    assert.ok(closeReason(a, dead) < 0);
    assert.ok(closeReason(a, malformed) < 0);
    harness.close();
  }],

  ["a sender whose peer takes nothing is cut off at the bound, and every token comes back", (make) => {
    const joined = join(make({ maxQueuedBytes: 2 << 20 }));
    const { harness, a, b, ca, cb } = joined;
    b.handler.outOfMemory = true;
    assert.ok(sendWrite(a, ca, 0, pattern(0, 65536)) >= 0);
    harness.until(() => b.handler.placementCount === 1);
    let sentCount = 1;
    // What the network itself takes (socket buffers) is not in our hands, but bounded.
    const limitBytes = 64 << 20;
    const slot = a.pool.allocate(65536);
    a.pool.bytes(slot).fill(1);
    while (a.transport.send(ca, write(sentCount, 65536), slot, sentCount)) {
      assert.ok(sentCount * 65536 < limitBytes, "The bound is reached");
      assert.ok(a.transport.queuedBytes(ca) <= 2 << 20, "What waits is bounded");
      sentCount++;
      a.transport.flushSends();
    }
    harness.until(() => closedCount(a, ca) === 1);
    // Who does not read need not notice that the peer is gone.
    b.handler.outOfMemory = false;
    b.transport.resume();
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(closeReason(a, ca), -105);
    assert.deepEqual(a.handler.sentTokens, range(sentCount));
    a.pool.free(slot);
    harness.close();
  }],

  ["a number is used again only after its end was told", (make) => {
    const harness = make(NO_OPTIONS);
    const [a, b] = harness.sides;
    const { boundAddress } = b.transport.listen(harness.anyAddress);
    const first = connect(harness, boundAddress);
    a.transport.close(first.ca);
    const second = a.transport.connect(boundAddress);
    assert.notEqual(second, first.ca);
    harness.until(() => closedCount(a, first.ca) === 1 && b.handler.accepted.length === 2);
    const third = a.transport.connect(boundAddress);
    assert.equal(third, first.ca, "Numbers stay small");
    harness.until(() => a.handler.connected.length === 3);
    a.transport.close(second);
    a.transport.close(third);
    harness.until(() => a.handler.closed.length === 3 && b.handler.closed.length === 3);
    harness.close();
  }],
];

/** Tests that need a hand on the wire. */
export const DAMAGE_TESTS: readonly (readonly [string, ConformanceTest])[] = (["header", "payload"] as const).map(
  (part) => [`a bit that flips in a ${part} ends the connection with EBADMSG and nothing bad is delivered`, (make) => {
    const joined = join(make(NO_OPTIONS));
    const { harness, a, b, ca, cb } = joined;
    harness.damageNext!(part);
    assert.ok(sendWrite(a, ca, 1, pattern(1, 4096)) >= 0);
    assert.ok(a.transport.send(ca, ping(2), -1, -1));
    harness.until(() => closedCount(a, ca) === 1 && closedCount(b, cb) === 1);
    assert.equal(closeReason(b, cb), -74);
    assert.equal(b.handler.frames.length, 0);
    assert.deepEqual(a.handler.sentTokens, [1]);
    harness.close();
  }],
);

/** Makes a Deno test of each entry of `tests` for the transport called `name`. */
export function registerConformance(
  name: string,
  tests: readonly (readonly [string, ConformanceTest])[],
  make: HarnessMaker,
): void {
  for (const [what, test] of tests) Deno.test(`${name}: ${what}`, () => test(make));
}
