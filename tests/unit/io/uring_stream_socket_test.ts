import assert from "node:assert/strict";
import fc from "fast-check";
import { turnUntil } from "./turn_until.ts";
import { connectedSockets, fillPayload, FrameProtocol, HEADER_BYTES, streamPair } from "./stream_pair.ts";
import { Errno } from "../../../ffi/libc/errno.ts";
import { closeDescriptor } from "../../../ffi/libc/file.ts";
import { libc } from "../../../ffi/libc/library.ts";
import { setSocketOption, shutdownNow } from "../../../ffi/libc/socket.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { UringStreamSocket } from "../../../lib/io/uring_stream_socket.ts";

const MIB = 1 << 20;
// One pool for the file: mappings live for the process.
const pool = new SlabBufferPool({ totalBytes: 24 * MIB });

function withReactor(body: (reactor: UringReactor) => void): void {
  const reactor = UringReactor.create({ entries: 64, completionEntries: 256, pool });
  const usedBefore = pool.usedBytes;
  try {
    body(reactor);
    turnUntil(reactor, () => reactor.inFlightCount === 0, "nothing in flight");
  } finally {
    reactor.dispose();
    for (let slot = 0; pool.usedBytes > usedBefore; slot += 1) if (isUsed(slot)) pool.free(slot);
  }
}

function isUsed(slot: number): boolean {
  try {
    pool.capacity(slot);
    return true;
  } catch {
    return false;
  }
}

function closeBoth(reactor: UringReactor, a: FrameProtocol, b: FrameProtocol): void {
  a.stream.close();
  turnUntil(reactor, () => a.closedWith !== null && b.closedWith !== null, "both ends closed");
  assert.equal(a.closedWith, 0);
  assert.equal(b.closedWith, 0);
}

for (const kind of ["unix", "tcp"] as const) {
  Deno.test(`frames of every size arrive whole and in order (${kind})`, () => {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind });
      const lengths = [0, 1, 15, 4096, 8191, 8192, 8193, 24575, 24576, 131072, 200_000, MIB, 0, 512, MIB, MIB, 3];
      const slots = lengths.map((lengthBytes) => lengthBytes === 0 ? -1 : pool.allocate(lengthBytes));
      lengths.forEach((lengthBytes, number) => {
        if (lengthBytes > 0) fillPayload(pool.bytes(slots[number]), number, lengthBytes);
        assert.ok(a.sendFrame(number, lengthBytes, slots[number], number));
      });
      a.stream.flushSends();
      turnUntil(reactor, () => b.received.length === lengths.length, "all frames");
      assert.deepEqual(b.received, lengths.map((lengthBytes, number) => ({ number, lengthBytes })));
      turnUntil(reactor, () => a.stream.queuedBytes === 0, "all sent");
      const withPayload = lengths.flatMap((lengthBytes, number) => lengthBytes > 0 ? [number] : []);
      assert.deepEqual(a.sent.map((one) => one.token).sort((x, y) => x - y), withPayload);
      for (const one of a.sent) assert.equal(one.result, lengths[one.token]);
      closeBoth(reactor, a, b);
    });
  });

  Deno.test(`frames survive the smallest socket buffers and areas, both ways at once (${kind})`, () => {
    withReactor((reactor) => {
      const options = { kind, tiny: true, stagingBytes: 4096, sendAreaBytes: 8192, copyLimitBytes: 1024 };
      const [a, b] = streamPair(reactor, pool, options);
      const lengths = Array.from({ length: 120 }, (_, i) => (i * 977) % 5000 + (i % 40 === 0 ? 60_000 : 0));
      const slots = lengths.map((lengthBytes, number) => {
        const slot = pool.allocate(Math.max(lengthBytes, 1));
        fillPayload(pool.bytes(slot), number, lengthBytes);
        return slot;
      });
      const next = [0, 0];
      turnUntil(reactor, () => {
        [a, b].forEach((side, i) => {
          while (next[i] < lengths.length && side.sendFrame(next[i], lengths[next[i]], slots[next[i]], next[i])) {
            next[i]++;
          }
          side.stream.flushSends();
        });
        return a.received.length === lengths.length && b.received.length === lengths.length;
      }, "all frames both ways");
      const expected = lengths.map((lengthBytes, number) => ({ number, lengthBytes }));
      assert.deepEqual(a.received, expected);
      assert.deepEqual(b.received, expected);
      turnUntil(reactor, () => a.stream.queuedBytes + b.stream.queuedBytes === 0, "all sent");
      for (const side of [a, b]) {
        assert.equal(new Set(side.sent.map((one) => one.token)).size, side.sent.length, "a token comes back once");
        assert.equal(side.sent.length, lengths.filter((lengthBytes) => lengthBytes > 0).length);
      }
      closeBoth(reactor, a, b);
    });
  });

  Deno.test(`back-pressure: nothing is delivered while reading is stopped, all of it afterwards (${kind})`, () => {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind, stagingBytes: 4096 });
      const slot = pool.allocate(8192);
      b.budget = 5;
      for (let number = 0; number < 20; number++) {
        // The same payload for every frame needs the same number.
        fillPayload(pool.bytes(slot), 9, 700);
        assert.ok(a.sendFrame(9, 700, slot, -1));
      }
      a.stream.flushSends();
      turnUntil(reactor, () => b.stream.isPaused, "reading stopped");
      assert.equal(b.received.length, 5);
      for (let i = 0; i < 5; i++) reactor.turn(0);
      assert.equal(b.received.length, 5);
      b.budget = 3;
      b.stream.resumeReceiving();
      assert.equal(b.received.length, 5, "not from within the call");
      turnUntil(reactor, () => b.stream.isPaused && b.received.length === 8, "stopped again");
      b.budget = Infinity;
      b.stream.resumeReceiving();
      b.stream.resumeReceiving();
      turnUntil(reactor, () => b.received.length === 20, "the rest");
      closeBoth(reactor, a, b);
    });
  });

  Deno.test(`the send queue is bounded: canSend turns false and true again (${kind})`, () => {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind, tiny: true });
      b.budget = 0;
      const slot = pool.allocate(65536);
      fillPayload(pool.bytes(slot), 4, 65536);
      let sent = 0;
      while (a.sendFrame(4, 65536, slot, sent)) {
        sent++;
        assert.ok(sent < 2000, "the queue is bounded");
      }
      assert.ok(sent > 100);
      a.stream.flushSends();
      // Small frames with headers only fill the area, not the pieces.
      b.budget = Infinity;
      b.stream.resumeReceiving();
      turnUntil(reactor, () => a.stream.canSend, "room again");
      turnUntil(reactor, () => b.received.length === sent, "all frames");
      closeBoth(reactor, a, b);
    });
  });

  Deno.test(`every token comes back once when the peer dies in the middle (${kind})`, () => {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind, tiny: true });
      const slot = pool.allocate(MIB);
      fillPayload(pool.bytes(slot), 1, MIB);
      for (let token = 0; token < 20; token++) assert.ok(a.sendFrame(1, MIB, slot, token));
      a.stream.flushSends();
      turnUntil(reactor, () => b.received.length >= 2, "some frames");
      b.stream.close(-Errno.EPROTO);
      turnUntil(reactor, () => a.closedWith !== null && b.closedWith !== null, "both ends closed");
      assert.equal(b.closedWith, -Errno.EPROTO);
      assert.deepEqual(a.sent.map((one) => one.token), Array.from({ length: 20 }, (_, i) => i));
      assert.equal(a.sent.at(-1)!.result, -Errno.ECANCELED);
      assert.equal(a.stream.canSend, false);
      assert.equal(a.stream.reserve(16), -1);
      assert.equal(a.stream.queuePayload(pool.bytes(slot), pool.address(slot), 100, 1), false);
      assert.deepEqual([a.closedCount, b.closedCount], [1, 1]);
    });
  });

  Deno.test(`closeWhenSent() lets what is queued leave first (${kind})`, () => {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind, tiny: true });
      const slot = pool.allocate(MIB);
      fillPayload(pool.bytes(slot), 1, 300_000);
      for (let token = 0; token < 3; token++) assert.ok(a.sendFrame(1, 300_000, slot, token));
      a.stream.closeWhenSent();
      assert.equal(a.stream.canSend, false);
      turnUntil(reactor, () => a.closedWith !== null && b.closedWith !== null, "both ends closed");
      assert.equal(b.received.length, 3);
      assert.ok(a.sent.every((one) => one.result === 300_000));
    });
  });

  Deno.test(`a peer that vanishes inside a payload closes the stream, and onPayload is not called (${kind})`, () => {
    withReactor((reactor) => {
      const [mine, theirs] = connectedSockets(reactor, kind);
      const protocol = new FrameProtocol(pool);
      protocol.stream = new UringStreamSocket({ reactor, socket: mine, protocol });
      const bytes = new Uint8Array(HEADER_BYTES + 1000).fill(0xaa);
      new DataView(bytes.buffer).setUint32(4, 500_000, true);
      assert.equal(libc().write(theirs, Deno.UnsafePointer.of(bytes), BigInt(bytes.length)), BigInt(bytes.length));
      for (let i = 0; i < 3; i++) reactor.turn(reactor.clockMs() + 5);
      closeDescriptor(theirs);
      turnUntil(reactor, () => protocol.closedWith !== null, "closed");
      assert.equal(protocol.closedWith, 0);
      assert.equal(protocol.received.length, 0);
    });
  });
}

Deno.test("a reset connection is closed with -ECONNRESET", () => {
  withReactor((reactor) => {
    const [mine, theirs] = connectedSockets(reactor, "tcp");
    const protocol = new FrameProtocol(pool);
    protocol.stream = new UringStreamSocket({ reactor, socket: mine, protocol });
    reactor.turn(0);
    // SO_LINGER with time 0: close() sends a reset.
    assert.equal(libc().setsockopt(theirs, 1, 13, new Int32Array([1, 0]), 8), 0);
    closeDescriptor(theirs);
    turnUntil(reactor, () => protocol.closedWith !== null, "closed");
    assert.equal(protocol.closedWith, -Errno.ECONNRESET);
  });
});

Deno.test("a socket that is shut down under the stream closes it; sends on it are no signal", () => {
  withReactor((reactor) => {
    const [mine, theirs] = connectedSockets(reactor, "unix");
    const protocol = new FrameProtocol(pool);
    protocol.stream = new UringStreamSocket({ reactor, socket: mine, protocol });
    closeDescriptor(theirs);
    const slot = pool.allocate(65536);
    assert.ok(protocol.sendFrame(1, 65536, slot, 5));
    protocol.stream.flushSends();
    turnUntil(reactor, () => protocol.closedWith !== null, "closed");
    assert.ok([0, -Errno.EPIPE, -Errno.ECONNRESET].includes(protocol.closedWith!), `${protocol.closedWith}`);
    assert.equal(protocol.sent.length, 1);
    assert.ok(protocol.sent[0].result < 0);
  });
});

Deno.test("a header larger than the staging area closes the stream with -EMSGSIZE", () => {
  withReactor((reactor) => {
    const [mine, theirs] = connectedSockets(reactor, "unix");
    let closedWith = 1;
    const stream = new UringStreamSocket({
      reactor,
      socket: mine,
      stagingBytes: 4096,
      protocol: {
        onBytes: () => 0,
        onPayload: () => assert.fail("no payload is expected"),
        onSent: () => assert.fail("nothing is sent"),
        onClosed: (reason) => closedWith = reason,
      },
    });
    const bytes = new Uint8Array(5000);
    libc().write(theirs, Deno.UnsafePointer.of(bytes), 5000n);
    turnUntil(reactor, () => closedWith <= 0, "closed");
    assert.equal(closedWith, -Errno.EMSGSIZE);
    assert.equal(stream.canSend, false);
    closeDescriptor(theirs);
  });
});

Deno.test("closing from within onBytes, onPayload and onSent is safe", () => {
  for (const where of ["onBytes", "onPayload", "onSent"] as const) {
    withReactor((reactor) => {
      const [a, b] = streamPair(reactor, pool, { kind: "unix" });
      const slot = pool.allocate(65536);
      fillPayload(pool.bytes(slot), 2, 65536);
      const victim = where === "onSent" ? a : b;
      const original = victim[where].bind(victim) as (...args: unknown[]) => unknown;
      let calls = 0;
      (victim as unknown as Record<string, unknown>)[where] = (...args: unknown[]) => {
        calls++;
        const result = original(...args);
        victim.stream.close(-Errno.EPROTO);
        victim.stream.close();
        return result;
      };
      for (let token = 0; token < 5; token++) assert.ok(a.sendFrame(2, 65536, slot, token));
      a.stream.flushSends();
      turnUntil(reactor, () => a.closedWith !== null && b.closedWith !== null, `both closed (${where})`);
      assert.equal(victim.closedWith, -Errno.EPROTO);
      if (where !== "onSent") assert.equal(calls, 1);
      assert.equal(a.sent.length, 5);
    });
  }
});

Deno.test("answers sent from within onBytes leave, and frames echo thousands of times", () => {
  withReactor((reactor) => {
    const [a, b] = streamPair(reactor, pool, { kind: "unix" });
    const rounds = 2000;
    b.onFrame = () => assert.ok(b.sendFrame(b.received.length, 0, -1, -1));
    let next = 0;
    turnUntil(reactor, () => {
      while (next < rounds && next - a.received.length < 32) assert.ok(a.sendFrame(next++, 0, -1, -1));
      a.stream.flushSends();
      b.stream.flushSends();
      return a.received.length === rounds;
    }, "all echoes");
    assert.deepEqual(a.received.map((one) => one.number), Array.from({ length: rounds }, (_, i) => i + 1));
    closeBoth(reactor, a, b);
  });
});

Deno.test("a half-closed peer ends the stream in order", () => {
  withReactor((reactor) => {
    const [mine, theirs] = connectedSockets(reactor, "tcp");
    const protocol = new FrameProtocol(pool);
    protocol.stream = new UringStreamSocket({ reactor, socket: mine, protocol });
    shutdownNow(theirs);
    turnUntil(reactor, () => protocol.closedWith !== null, "closed");
    assert.equal(protocol.closedWith, 0);
    closeDescriptor(theirs);
  });
});

Deno.test("any mix of frame sizes, areas and pauses delivers every frame once, whole and in order", () => {
  const size = fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 0, max: 300 }) },
    { weight: 3, arbitrary: fc.integer({ min: 300, max: 20_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 200_000 }) },
  );
  fc.assert(
    fc.property(
      fc.record({
        kind: fc.constantFrom("unix" as const, "tcp" as const),
        tiny: fc.boolean(),
        stagingBytes: fc.constantFrom(4096, 16384, 131072),
        sendAreaBytes: fc.constantFrom(8192, 65536),
        copyLimitBytes: fc.constantFrom(0, 64, 2048),
        lengths: fc.array(size, { minLength: 1, maxLength: 30 }),
        pauseEvery: fc.integer({ min: 1, max: 20 }),
        flushEvery: fc.integer({ min: 1, max: 5 }),
      }),
      ({ lengths, pauseEvery, flushEvery, ...options }) => {
        withReactor((reactor) => {
          const [a, b] = streamPair(reactor, pool, options);
          b.budget = pauseEvery;
          let next = 0;
          let freed = 0;
          const slots: number[] = [];
          turnUntil(reactor, () => {
            for (let i = 0; i < flushEvery && next < lengths.length; i++) {
              const slot = slots[next] ??= pool.allocate(Math.max(1, lengths[next]));
              if (slot < 0) break;
              fillPayload(pool.bytes(slot), next, lengths[next]);
              if (!a.sendFrame(next, lengths[next], slot, next)) break;
              next++;
            }
            a.stream.flushSends();
            while (freed < a.sent.length) pool.bytes(slots[a.sent[freed++].token]).fill(0xdd);
            if (b.stream.isPaused) {
              b.budget = pauseEvery;
              b.stream.resumeReceiving();
            }
            return b.received.length === lengths.length;
          }, "all frames");
          assert.deepEqual(b.received, lengths.map((lengthBytes, number) => ({ number, lengthBytes })));
          closeBoth(reactor, a, b);
        });
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("areas that cannot work are refused at once", () => {
  withReactor((reactor) => {
    const [mine, theirs] = connectedSockets(reactor, "unix");
    const protocol = new FrameProtocol(pool);
    assert.throws(
      () => new UringStreamSocket({ reactor, socket: mine, protocol, stagingBytes: 1000 }),
      /give multiples of 4096/,
    );
    assert.throws(
      () => new UringStreamSocket({ reactor, socket: mine, protocol, sendAreaBytes: 4096, copyLimitBytes: 4096 }),
      /a frame fits half of the send area/,
    );
    // An option of the wrong kind on a socket is told, too.
    assert.equal(setSocketOption(-1, { level: 1, name: 7 }, 1), -Errno.EBADF);
    closeDescriptor(mine);
    closeDescriptor(theirs);
  });
});
