/**
 * Runs in a guest: the list of conformance tests that every transport passes, on an RDMA device, and what only a device
 * can show. `deno test` with the guest's address in GUEST_ADDRESS.
 *
 * @module
 */

import assert from "node:assert/strict";
import { hasFastPointerCalls } from "../../../ffi/libffi/bound_call.ts";
import { rdmaCm } from "../../../ffi/rdmacm/library.ts";
import { rdmaDeviceNames } from "../../../ffi/verbs/device.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { CloseReason } from "../../../lib/transport/close_reason.ts";
import { RdmaTransport } from "../../../lib/transport/rdma/rdma_transport.ts";
import type { RdmaLink, RdmaNetwork } from "../../../lib/transport/rdma/link.ts";
import type { Offer } from "../../../lib/transport/rdma/packet.ts";
import { VerbsNetwork } from "../../../lib/transport/rdma/verbs_network.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { CONFORMANCE_TESTS, registerConformance } from "../../unit/transport/conformance.ts";
import {
  answerWrites,
  closedCount,
  closeReason,
  connect,
  pattern,
  sendWrite,
  tryConnect,
} from "../../unit/transport/conformance_steps.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides } from "../../unit/transport/harness.ts";
import { turnUntil } from "../../unit/transport/uring_harness.ts";

const LANDING_BYTES = 12 << 20;
/** Generous: a guest without hardware support is ten times slower. */
const address = Deno.env.get("GUEST_ADDRESS") ?? "10.77.0.1";

// Libraries are opened when first needed and stay open; here, so that no test is blamed for it.
rdmaDeviceNames();
rdmaCm();
hasFastPointerCalls();
const reactor = UringReactor.create({ entries: 256, completionEntries: 1024 });

interface RdmaHarness extends Harness {
  readonly transports: readonly RdmaTransport[];
}

function rdmaHarness(options: HarnessOptions, tap = (network: RdmaNetwork) => network): RdmaHarness {
  const transports: RdmaTransport[] = [];
  const networks: VerbsNetwork[] = [];
  const sides = makeSides((pool, handler) => {
    const lending = pool as SlabBufferPool;
    const network = new VerbsNetwork(reactor, lending, () => {});
    networks.push(network);
    const transport = new RdmaTransport(tap(network), lending, handler, reactor, {
      ...options,
      landingBytes: LANDING_BYTES,
      report: () => {},
    });
    transports.push(transport);
    return transport;
  }, () => new SlabBufferPool({ totalBytes: 32 << 20 }));

  const until = (condition: () => boolean) => turnUntil(reactor, sides, condition);
  return {
    sides,
    transports,
    anyAddress: `${address}:0`,
    deadAddress: `${address}:1`,
    until,
    damageNext: null,
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0));
      for (const network of networks) network.close();
      until(() => networks.every((network) => network.isClosed));
      checkClean(sides, LANDING_BYTES);
    },
  };
}

registerConformance("rdma", CONFORMANCE_TESTS, (options) => rdmaHarness(options));

/** Open descriptors, and what the kernel counts of RDMA objects: pd, cq, qp, cm_id, mr, ctx of each device. */
function held(): string {
  const run = (command: string, ...args: string[]) => {
    const { stdout, success } = new Deno.Command(command, { args }).outputSync();
    assert.ok(success, command);
    return new TextDecoder().decode(stdout).trim();
  };
  return `${run("ls", `/proc/${Deno.pid}/fd`).split("\n").length} ${run("rdma", "resource", "show")}`;
}

/** Memory in use, in bytes, once what nobody refers to is gone, where that can be asked for. */
interface UsedMemory {
  readonly heap: number;
  /** Of array buffers. */
  readonly buffers: number;
  /** Resident outside both: of the runtime, of libraries. */
  readonly other: number;
}

function usedMemory(): UsedMemory {
  // What one collection has found to be unused is only given back by the next one.
  for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.();
  const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
  return { heap: heapUsed, buffers: external, other: rss - heapTotal - external };
}

Deno.test("rdma: connections that come and go leave nothing behind", () => {
  const rounds = Number(Deno.env.get("ROUNDS") ?? "30");
  const harness = rdmaHarness({});
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  let before = "";
  let settled: UsedMemory = { heap: 0, buffers: 0, other: 0 };
  let failedCount = 0;
  for (let round = 0; round < rounds;) {
    const { ca, reason } = tryConnect(harness, boundAddress);
    if (reason !== null) {
      // On a busy machine an attempt may take longer than it is given.
      assert.equal(reason, CloseReason.TIMED_OUT);
      assert.ok(++failedCount <= 10 + rounds / 100, `${failedCount} of ${round} attempts timed out`);
      continue;
    }
    if (round === 0) assert.match(harness.transports[0].describe(ca)!.device, /\w/);
    a.transport.close(ca);
    harness.until(() => harness.transports.every((transport) => transport.connectionCount === 0));
    if (++round === 20) before = held();
    // Everything has been there at one time by then.
    if (round === Math.max(20, Math.floor(rounds / 5))) settled = usedMemory();
  }
  assert.equal(held(), before, "Descriptors and RDMA objects are given back");
  const used = usedMemory();
  const expectLessGrown = (what: keyof UsedMemory, limitBytes: number) => {
    const grownBytes = used[what] - settled[what];
    assert.ok(grownBytes < limitBytes, `${what}: ${grownBytes} bytes in ${rounds} connections`);
  };
  // What the test notes of each connection is in the heap.
  expectLessGrown("heap", (4 << 20) + 300 * rounds);
  // Without collections on demand there is garbage in these; see rdma_connects_test.ts.
  const isCollected = "gc" in globalThis;
  expectLessGrown("buffers", isCollected ? 256 << 10 : 32 << 20);
  expectLessGrown("other", isCollected ? 8 << 20 : 32 << 20);
  assert.equal(a.handler.closed.length, rounds + failedCount);
  assert.equal(b.handler.closed.length, b.handler.accepted.length);
  harness.close();
});

/** A link, and where it writes. */
interface TappedLink {
  readonly link: RdmaLink;
  /** What the link itself goes by: what is changed here, it believes. */
  readonly offer: { -readonly [name in keyof Offer]: Offer[name] };
}

/** `network`, with the links that it makes to others kept in `made`. */
function tapped(network: RdmaNetwork, made: TappedLink[]): RdmaNetwork {
  return {
    get onReadable() {
      return network.onReadable;
    },
    set onReadable(call) {
      network.onReadable = call;
    },
    listen: (address, accept) => network.listen(address, accept),
    turn: () => network.turn(),
    connect: (address, user) =>
      network.connect(address, {
        landing: user.landing,
        onEstablished(link, offer) {
          made.push({ link, offer });
          user.onEstablished(link, offer);
        },
        onFailed: (reason) => user.onFailed(reason),
        onDisconnected: (reason) => user.onDisconnected(reason),
      }),
  };
}

/** What a peer that goes its own way might write to. The payload of an ordinary frame goes to page 0. */
const WRITES: Record<string, { page(own: Offer): number; pageCount: number; isOther: boolean; hasEnded: boolean }> = {
  "its own landing, which is allowed": { page: () => 1, pageCount: 2, isOther: false, hasEnded: false },
  "what lies behind its landing": { page: (own) => own.landingPages, pageCount: 1, isOther: false, hasEnded: false },
  "what lies before its landing": { page: () => -1, pageCount: 1, isOther: false, hasEnded: false },
  "across the end of its landing": {
    page: (own) => own.landingPages - 1,
    pageCount: 2,
    isOther: false,
    hasEnded: false,
  },
  "another connection's landing": { page: () => 1, pageCount: 1, isOther: true, hasEnded: false },
  "the landing of a connection that has ended": { page: () => 1, pageCount: 1, isOther: true, hasEnded: true },
};

for (const [where, { page, pageCount, isOther, hasEnded }] of Object.entries(WRITES)) {
  const isAllowed = where.endsWith("allowed");
  Deno.test(`rdma: a write to ${where}${isAllowed ? "" : ", is refused by the device and ends the connection"}`, () => {
    const made: TappedLink[] = [];
    const harness = rdmaHarness({}, (network) => tapped(network, made));
    const [a, b] = harness.sides;
    const { boundAddress } = b.transport.listen(harness.anyAddress);
    const striker = connect(harness, boundAddress);
    const other = connect(harness, boundAddress);
    const [own, others] = made;
    if (hasEnded) {
      a.transport.close(other.ca);
      harness.until(() => harness.transports.every((transport) => transport.connectionCount === 1));
    }
    if (isOther) Object.assign(own.offer, others.offer);
    const target = own.offer.landingAddress + 4096 * page(own.offer);
    // The end of the landing is its owner's to write; what lies behind it is not.
    const skippedBytes = where.startsWith("across") ? 4096 : 0;
    const { baseAddress, totalBytes } = b.pool as SlabBufferPool;
    const memory = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(
      Deno.UnsafePointer.create(BigInt(baseAddress))!,
      totalBytes,
    )).subarray(target - baseAddress).subarray(skippedBytes, 4096 * pageCount);
    const before = pattern(1, memory.length);
    memory.set(before);

    const slot = a.pool.allocate(4096 * pageCount);
    const bytes = a.pool.bytes(slot);
    bytes.set(pattern(2, bytes.length));
    own.link.addWrite(a.pool.address(slot), 4096 * pageCount, page(own.offer));
    // A payload that nobody answers: its completion is waited for, and with it the end.
    const message = new Message().reset(MessageType.DATA);
    message.length = message.payloadLength = 4096;
    assert.ok(a.transport.send(striker.ca, message, slot, 7));
    harness.until(() => a.handler.sentCounts.get(7) === 1);
    if (isAllowed) {
      harness.until(() => b.handler.frames.length === 1);
      assert.deepEqual(memory, bytes.subarray(0, memory.length));
      assert.equal(a.handler.closed.length + b.handler.closed.length, 0);
    } else {
      harness.until(() => closedCount(a, striker.ca) === 1 && closedCount(b, striker.cb) === 1);
      assert.equal(closeReason(a, striker.ca), CloseReason.PROTOCOL);
      assert.deepEqual(memory, before);
      assert.equal(b.handler.frames.length, 0);
    }
    a.pool.free(slot);
    if (!hasEnded) {
      // Nobody else has noticed.
      answerWrites(b, other.cb);
      assert.ok(sendWrite(a, other.ca, 8, pattern(3, 20_000)) >= 0);
      const frameCount = isAllowed ? 2 : 1;
      // What is sent has not been seen by the other end yet, or the other way round.
      harness.until(() => a.handler.sentCounts.get(8) === 1 && b.handler.frames.length === frameCount);
      assert.deepEqual(b.handler.frames.at(-1)!.payload, pattern(3, 20_000));
    }
    harness.close();
  });
}
