/** The RDMA transport keeps the contract, over links in memory; tests/vm runs the same list on devices. */

import assert from "node:assert/strict";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { CloseReason } from "../../../lib/transport/close_reason.ts";
import { payloadCrc } from "../../../lib/transport/payload_crc.ts";
import { RdmaTransport } from "../../../lib/transport/rdma/rdma_transport.ts";
import { Message, MessageFlag, MessageType } from "../../../lib/wire/message.ts";
import { CONFORMANCE_TESTS, DAMAGE_TESTS, registerConformance } from "./conformance.ts";
import { answerWrites, connect, finish, join, pattern, ping, sendWrite, write } from "./conformance_steps.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides } from "./harness.ts";
import { MemoryFabric, type MemoryNetwork } from "./memory_links.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
new SlabBufferPool({ totalBytes: 1 << 20 });

const LANDING_BYTES = 12 << 20;

function rdmaHarness(
  options: HarnessOptions,
  takesLanded: boolean,
  clock = { nowMs: 1 },
  fabric = new MemoryFabric(),
  reports: string[] = [],
): Harness {
  const transports: RdmaTransport[] = [];
  const networks: MemoryNetwork[] = [];
  const sides = makeSides((pool, handler) => {
    const lending = pool as SlabBufferPool;
    handler.takesLanded = takesLanded;
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(
      Deno.UnsafePointer.create(BigInt(lending.baseAddress))!,
      lending.totalBytes,
    ));
    const network = fabric.network(lending, () => bytes);
    const transport = new RdmaTransport(network, lending, handler, clock, {
      ...options,
      landingBytes: LANDING_BYTES,
      report: (text) => reports.push(text),
    });
    transports.push(transport);
    networks.push(network);
    return transport;
  }, () => new SlabBufferPool({ totalBytes: 32 << 20 }));

  // A worker sleeps until it is woken: after what the test has done, a transport gets a turn only when its network was woken.
  function until(condition: () => boolean): void {
    for (const network of networks) network.isWoken = true;
    while (!condition()) {
      for (const [index, network] of networks.entries()) {
        if (!network.isWoken) continue;
        network.isWoken = false;
        sides[index].transport.flushSends();
      }
      if (condition()) return;
      const moved = fabric.step();
      assert.ok(moved || networks.some(({ isWoken }) => isWoken), "The condition holds before nothing moves any more");
    }
  }
  return {
    sides,
    anyAddress: "memory:0",
    deadAddress: "memory:1",
    until,
    damageNext(part): void {
      fabric.damage = (bytes) => {
        // A payload lands by itself; a header is a record in a packet.
        const isPayload = bytes.length === 4096;
        if (part === "payload" ? !isPayload : isPayload) return;
        bytes[part === "payload" ? 2048 : 36] ^= 0x20;
        fabric.damage = null;
      };
    },
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0) && fabric.hasReleasedAll);
      checkClean(sides, LANDING_BYTES);
    },
  };
}

registerConformance(
  "rdma in memory, payloads taken where they landed",
  CONFORMANCE_TESTS,
  (options) => rdmaHarness(options, true),
);
registerConformance("rdma in memory, payloads copied", CONFORMANCE_TESTS, (options) => rdmaHarness(options, false));
registerConformance("rdma in memory", DAMAGE_TESTS, (options) => rdmaHarness(options, true));

Deno.test("a close does not wait for a peer that has been silent, nor long for any other", () => {
  for (const [silentMs, waitsMs] of [[2000, 0], [0, 500]]) {
    const clock = { nowMs: 1 };
    const harness = rdmaHarness({}, true, clock);
    const { a, ca } = join(harness);
    const slot = a.pool.allocate(4096);
    assert.ok(a.transport.send(ca, write(1, 4096), slot, slot));
    a.transport.flushSends(); // from here on the fabric stands still, as when the peer is gone
    clock.nowMs += silentMs;
    a.transport.close(ca);
    a.transport.flushSends();
    assert.equal(a.handler.closed.length, waitsMs === 0 ? 1 : 0);
    clock.nowMs += waitsMs;
    a.transport.flushSends();
    assert.equal(a.handler.closed.length, 1);
    assert.equal(a.handler.sentCounts.get(slot), 1);
    a.pool.free(slot);
    harness.close();
  }
});

Deno.test("a device that does not let go of a link to a peer that is gone holds up nobody, and keeps the landing", () => {
  const clock = { nowMs: 1 };
  const fabric = new MemoryFabric();
  const harness = rdmaHarness({}, true, clock, fabric);
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  const { ca } = connect(harness, boundAddress);
  fabric.isHeldUp = true;
  const slot = a.pool.allocate(4096);
  assert.ok(a.transport.send(ca, write(1, 4096), slot, slot));
  a.transport.flushSends(); // from here on the fabric stands still, as when the peer is gone
  clock.nowMs += 3000;
  a.transport.close(ca);
  a.transport.flushSends();
  assert.deepEqual(a.handler.closed.map(({ connection }) => connection), [ca], "It is told at once");
  assert.equal(a.handler.sentCounts.get(slot), 1, "The payload is not read any more");
  a.pool.free(slot);
  // Others go on, in memory of their own: when all other is taken, one more is refused rather than given this.
  const tryAgain = (): boolean => {
    const count = a.handler.closed.length;
    const next = a.transport.connect(boundAddress);
    harness.until(() => a.handler.connected.at(-1) === next || a.handler.closed.length > count);
    return a.handler.closed.length === count;
  };
  let standing = 0;
  while (tryAgain()) standing++;
  assert.equal(standing, 3);
  fabric.isHeldUp = false;
  harness.until(() => fabric.hasReleasedAll);
  assert.ok(tryAgain(), "Let go of, the memory serves again");
  harness.close();
});

Deno.test("a write's payload comes back with the answer, without a wake-up of its own, also when its completion comes later", () => {
  for (const acknowledgesLate of [false, true]) {
    const fabric = new MemoryFabric();
    const joined = join(rdmaHarness({}, true, { nowMs: 1 }, fabric));
    const { harness, a, b, ca, cb } = joined;
    fabric.acknowledgesLate = acknowledgesLate;
    assert.ok(sendWrite(a, ca, 1, pattern(1, 20_000)) >= 0);
    harness.until(() => b.handler.frames.length === 1);
    // Late, its completion would come now, where nothing else is under way.
    while (!acknowledgesLate && fabric.step());
    assert.equal(a.handler.sentCounts.size, 0, "The leg has not answered: nobody is woken");
    assert.ok(b.transport.send(cb, ping(1), -1, -1));
    harness.until(() => a.handler.sentCounts.size === 1 && a.handler.frames.length === 1);
    finish(joined);
  }
});

Deno.test("a payload that nobody answers, as that of a read, comes back as soon as it has left", () => {
  for (const acknowledgesLate of [false, true]) {
    const fabric = new MemoryFabric();
    const { harness, a, b, ca } = join(rdmaHarness({}, true, { nowMs: 1 }, fabric));
    fabric.acknowledgesLate = acknowledgesLate;
    const slot = a.pool.allocate(20_000);
    const message = new Message().reset(MessageType.DATA);
    message.length = message.payloadLength = 20_000;
    assert.ok(a.transport.send(ca, message, slot, 7));
    harness.until(() => a.handler.sentCounts.get(7) === 1);
    assert.equal(b.handler.frames.length, 1);
    a.pool.free(slot);
    harness.close();
  }
});

Deno.test("where devices sum payloads we do not; what is no payload in a slot, and sums that come, are checked all the same", () => {
  const harness = rdmaHarness({ checksums: false }, true);
  const { a, b, ca, cb } = join(harness);
  assert.equal(a.transport.sumsPayloads!(ca), false);
  answerWrites(b, cb);
  const bytes = pattern(1, 4096);
  const slot = a.pool.allocate(4096);
  a.pool.bytes(slot).set(bytes);
  // A caller that has summed for another leg, which is on TCP, need not take it back.
  const summed = write(1, 4096);
  summed.payloadCrc = payloadCrc(bytes, 4096);
  assert.ok(a.transport.send(ca, summed, slot, slot));
  harness.until(() => b.handler.frames.length === 1 && a.handler.sentCounts.size === 1);
  const { message, payload } = b.handler.frames[0];
  assert.deepEqual([message.flags & MessageFlag.NO_PAYLOAD_CRC, message.payloadCrc], [MessageFlag.NO_PAYLOAD_CRC, 0]);
  assert.deepEqual(payload, bytes);
  a.pool.free(slot);

  const body = () => new Message().reset(MessageType.MAP_PART);
  assert.ok(a.transport.sendBytes(ca, body(), bytes));
  harness.until(() => b.handler.frames.length === 2);
  assert.equal(b.handler.frames[1].message.payloadCrc, payloadCrc(bytes, 4096));
  const wrong = body();
  wrong.payloadCrc = payloadCrc(bytes, 4096) ^ 1;
  assert.ok(a.transport.sendBytes(ca, wrong, bytes));
  harness.until(() => b.handler.closed.length === 1 && a.handler.closed.length === 1);
  assert.equal(b.handler.closed[0].connection, cb);
  assert.equal(b.handler.closed[0].reason, CloseReason.BAD_MESSAGE);
  assert.equal(b.handler.frames.length, 2);
  harness.close();
});

Deno.test("a request that the device gives up, whichever, ends the connection with the reason, and every token comes back once", () => {
  const cases = [
    {
      status: 12,
      reason: CloseReason.TIMED_OUT,
      said: /is closed: the peer's device does not acknowledge what is sent/,
    },
    { status: 13, reason: CloseReason.QUEUE_FULL, said: /is closed: the peer has no room for a packet/ },
    { status: 10, reason: CloseReason.PROTOCOL, said: /is closed: the peer's device refuses a request \(10\)/ },
    { status: 4, reason: CloseReason.IO_ERROR, said: /is closed: a request failed \(4\)/ },
  ];
  for (const { status, reason, said } of cases) {
    let failedCount = 0;
    for (let before = 0, hasFailed = true; hasFailed; before++) {
      const fabric = new MemoryFabric();
      const reports: string[] = [];
      const { harness, a, b, ca, cb } = join(rdmaHarness({}, true, { nowMs: 1 }, fabric, reports));
      const [link] = fabric.links;
      const tokens: number[] = [];
      for (let i = 0; i < 3; i++) {
        assert.ok(sendWrite(a, ca, 2 * i, pattern(i, 20_000)) >= 0);
        assert.ok(a.transport.send(ca, ping(i), -1, 2 * i + 1));
        a.transport.flushSends();
        tokens.push(2 * i, 2 * i + 1);
      }
      for (let i = 0; i < before && link.sendingCount > 0; i++) link.step();
      hasFailed = link.sendingCount > 0;
      if (hasFailed) {
        failedCount++;
        link.fail(status);
        harness.until(() => a.handler.closed.length === 1 && b.handler.closed.length === 1);
        assert.deepEqual(a.handler.closed, [{ connection: ca, reason }]);
        assert.deepEqual(b.handler.closed, [{ connection: cb, reason: CloseReason.ORDERLY }]);
        assert.deepEqual(a.handler.sentTokens, tokens);
        assert.equal(reports.length, 1);
        assert.match(reports[0], said);
      } else {
        answerWrites(b, cb);
        harness.until(() => a.handler.sentCounts.size === tokens.length);
      }
      harness.close();
    }
    assert.equal(failedCount, 6, "Three packets, with a payload each before them");
  }
});
