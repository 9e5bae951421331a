/**
 * What the connection manager and devices tell reaches connections as it should, and listeners come back: `VerbsNetwork` under
 * the RDMA transport, over machines in memory. It passes the list of conformance tests there as well.
 */

import assert from "node:assert/strict";
import { errnoName } from "../../../ffi/libc/errno.ts";
import { CmEventType } from "../../../ffi/rdmacm/layout.ts";
import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { Prng } from "../../../lib/base/prng.ts";
import { CloseReason } from "../../../lib/transport/close_reason.ts";
import { RdmaTransport } from "../../../lib/transport/rdma/rdma_transport.ts";
import { VerbsNetwork } from "../../../lib/transport/rdma/verbs_network.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { CONFORMANCE_TESTS, registerConformance } from "./conformance.ts";
import { answerWrites, closedCount, connect, join, pattern, ping, sendWrite } from "./conformance_steps.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides } from "./harness.ts";
import { MemoryDevice, type MemoryId, MemoryWorld } from "./memory_stack.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
new SlabBufferPool({ totalBytes: 1 << 20 });

const LANDING_BYTES = 12 << 20;
/** Far more than anything takes. */
const STEP_LIMIT = 1_000_000;

interface VerbsHarness extends Harness {
  readonly world: MemoryWorld;
  /** What both networks have to say, as "a: text", in order; taken by whoever looks. */
  takeReports(): string[];
  /** Ids of machine b that are connections. */
  connectionsOfB(): MemoryId[];
  stopListening(side: number, listener: number): void;
}

function verbsHarness(options: HarnessOptions): VerbsHarness {
  const world = new MemoryWorld();
  const transports: RdmaTransport[] = [];
  const networks: VerbsNetwork[] = [];
  const reports: string[] = [];
  const sides = makeSides((pool, handler) => {
    const lending = pool as SlabBufferPool;
    const machine = world.machine();
    const name = "ab"[world.machines.length - 1];
    const network = new VerbsNetwork(machine.reactor, lending, (text) => reports.push(`${name}: ${text}`), machine);
    const transport = new RdmaTransport(network, lending, handler, world.clock, {
      ...options,
      landingBytes: LANDING_BYTES,
      report: () => {},
    });
    machine.afterTurn = () => transport.flushSends();
    networks.push(network);
    transports.push(transport);
    return transport;
  }, () => new SlabBufferPool({ totalBytes: 32 << 20 }));

  function until(condition: () => boolean): void {
    // What the test has done may be waiting to leave. From then on a worker turns only when its reactor is woken.
    for (const { transport } of sides) transport.flushSends();
    for (let count = 0; !condition(); count++) {
      assert.ok(count < STEP_LIMIT && world.step(), "The condition holds before nothing moves any more");
    }
  }
  return {
    sides,
    world,
    anyAddress: "10.0.0.2:0",
    deadAddress: "10.0.0.2:1",
    until,
    damageNext: null,
    takeReports: () => reports.splice(0),
    connectionsOfB: () => [...world.machines[1].ids.values()].filter(({ isListening }) => !isListening),
    stopListening: (side, listener) => transports[side].stopListening(listener),
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0));
      for (const network of networks) network.close();
      until(() => networks.every((network) => network.isClosed));
      for (const { ids, reactor, device } of world.machines) {
        assert.deepEqual([ids.size, reactor.inFlightCount], [0, 0], "Every id is closed, and nothing is waited for");
        assert.equal(device?.openChannelCount ?? 0, 0, "The channels of a device that is there are closed");
      }
      checkClean(sides, LANDING_BYTES);
    },
  };
}

registerConformance("rdma, its network over machines in memory", CONFORMANCE_TESTS, verbsHarness);

/** Two connections from a to where b listens, on which both ends have payloads under way. */
function underLoad() {
  const harness = verbsHarness({});
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  const pairs = [connect(harness, boundAddress), connect(harness, boundAddress)];
  for (const [i, { ca, cb }] of pairs.entries()) {
    for (let k = 0; k < 3; k++) {
      assert.ok(sendWrite(a, ca, 100 + 10 * i + k, pattern(k, 20_000)) >= 0);
      assert.ok(sendWrite(b, cb, 200 + 10 * i + k, pattern(k, 20_000)) >= 0);
    }
  }
  for (const { transport } of [a, b]) transport.flushSends();
  const tokens = [0, 1, 2, 10, 11, 12];
  return { harness, a, b, boundAddress, pairs, tokens };
}

/** A write crosses from a to b. */
function crosses(harness: Harness, address: string): void {
  const [a, b] = harness.sides;
  const { ca, cb } = connect(harness, address);
  answerWrites(b, cb);
  const { length } = b.handler.frames;
  assert.ok(sendWrite(a, ca, 999, pattern(9, 20_000)) >= 0);
  harness.until(() => a.handler.sentCounts.has(999));
  assert.deepEqual(b.handler.frames[length].payload, pattern(9, 20_000));
  a.handler.sentCounts.delete(999);
}

/** How a device may be lost: what is told first, and what when it is at last removed. */
const LOSSES: Record<string, { begin(device: MemoryDevice): void; end(device: MemoryDevice): void }> = {
  "the connection manager tells of its removal": {
    begin: (device) => device.remove(),
    end: () => {},
  },
  "it tells that it has failed": {
    begin: (device) => device.fail(),
    end: (device) => device.remove(),
  },
  "its descriptors break": {
    begin: (device) => device.isShut = true,
    end: (device) => device.remove(),
  },
};

for (const [how, loss] of Object.entries(LOSSES)) {
  Deno.test(`a device is lost: ${how}. Its connections end, and it is listened on again when it is back, by a node that is idle`, () => {
    for (const leavesAddress of [false, true]) {
      const { harness, a, b, boundAddress, pairs, tokens } = underLoad();
      const machine = harness.world.machines[1];
      const device = machine.device!;
      loss.begin(device);
      harness.until(() => b.handler.closed.length === 2);
      assert.deepEqual(b.handler.closed, pairs.map(({ cb }) => ({ connection: cb, reason: CloseReason.NO_DEVICE })));
      assert.deepEqual(b.handler.sentTokens, tokens.map((token) => 200 + token));
      loss.end(device);
      harness.until(() => a.handler.closed.length === 2 && machine.ids.size === 0);
      assert.deepEqual(a.handler.sentTokens, tokens.map((token) => 100 + token));
      assert.deepEqual(harness.takeReports(), [
        `b: RDMA device ${device.name} has failed or was removed; its connections end`,
        `b: The RDMA device of ${boundAddress} is gone; it is listened on again when there is one`,
      ]);

      machine.device = new MemoryDevice(machine, leavesAddress ? device.address : undefined);
      harness.until(() => machine.ids.size === 1);
      assert.deepEqual(harness.takeReports(), [`b: RDMA is listened for on ${boundAddress} again`]);
      crosses(harness, boundAddress);
      harness.close();
    }
  });
}

Deno.test("a device that nobody is connected over is lost: its address may be another's, and is listened on again", () => {
  const harness = verbsHarness({});
  const [a, b] = harness.sides;
  const { boundAddress } = b.transport.listen(harness.anyAddress);
  const machine = harness.world.machines[1];
  const { ca } = connect(harness, boundAddress);
  a.transport.close(ca);
  harness.until(() => b.handler.closed.length === 1 && machine.ids.size === 1);
  const device = machine.device!;
  device.remove();
  harness.until(() => machine.ids.size === 0);
  machine.device = new MemoryDevice(machine, device.address);
  harness.until(() => machine.ids.size === 1);
  crosses(harness, boundAddress);
  harness.close();
});

Deno.test("a network is closed, and so is a listener, while the device is not back", () => {
  for (const stopsListening of [false, true]) {
    const harness = verbsHarness({});
    const b = harness.sides[1];
    const machine = harness.world.machines[1];
    const listeners = [b.transport.listen(harness.anyAddress), b.transport.listen(harness.anyAddress)];
    machine.device!.remove();
    harness.until(() => machine.ids.size === 0);
    if (stopsListening) {
      harness.stopListening(1, listeners[0].listener);
      machine.device = new MemoryDevice(machine);
      harness.until(() => machine.ids.size === 1);
      assert.deepEqual(harness.takeReports().slice(2), [
        `b: RDMA is listened for on ${listeners[1].boundAddress} again`,
      ]);
    }
    const { nowMs } = harness.world.clock;
    harness.close();
    assert.equal(harness.world.clock.nowMs, nowMs, "Nothing waits for the device any more");
  }
});

Deno.test("a device is lost at any moment of an attempt to connect: it ends once, and leaves nothing behind", () => {
  const ends = new Set<string>();
  for (const side of [0, 1]) {
    for (let steps = 0, stood = false; !stood; steps++) {
      const harness = verbsHarness({});
      const [a, b] = harness.sides;
      const { machines, clock } = harness.world;
      const { boundAddress } = b.transport.listen(harness.anyAddress);
      const ca = a.transport.connect(boundAddress);
      for (const { transport } of harness.sides) transport.flushSends();
      for (let i = 0; i < steps; i++) harness.world.step();
      stood = a.handler.connected.length + b.handler.accepted.length === 2;
      machines[side].device!.remove();
      // What nobody tells of shows by its silence, as soon as a worker looks.
      harness.until(() => machines[side].ids.size === 0);
      if (a.handler.connected.length > 0) assert.ok(a.transport.send(ca, ping(1), -1, -1) || closedCount(a, ca) === 1);
      clock.nowMs += 3000;
      harness.until(() => closedCount(a, ca) === 1);
      const [{ reason }] = a.handler.closed;
      ends.add(`${"ab"[side]}: connected ${a.handler.connected.length} times, then ${errnoName(reason)}`);
      assert.equal(a.handler.closed.length, 1);
      for (const { connection } of b.handler.accepted) b.transport.close(connection);
      harness.until(() => b.handler.closed.length === b.handler.accepted.length);

      machines[side].device = new MemoryDevice(machines[side]);
      if (side === 1) harness.until(() => machines[1].ids.size === 1);
      crosses(harness, boundAddress);
      harness.close();
    }
  }
  assert.deepEqual([...ends].sort(), [
    "a: connected 0 times, then ENODEV (no such device)",
    "a: connected 1 times, then ENODEV (no such device)",
    "b: connected 0 times, then ECONNREFUSED (connection refused)",
    "b: connected 1 times, then ETIMEDOUT (timed out)",
  ]);
});

Deno.test("an address that moves to another device ends what was connected by it, and a new connection finds the way", () => {
  const { harness, a, b, boundAddress, pairs, tokens } = underLoad();
  for (const id of harness.connectionsOfB()) id.machine.tell(id, CmEventType.ADDR_CHANGE);
  harness.until(() => a.handler.closed.length === 2 && b.handler.closed.length === 2);
  assert.deepEqual(b.handler.closed, pairs.map(({ cb }) => ({ connection: cb, reason: CloseReason.RESET })));
  assert.deepEqual(b.handler.sentTokens, tokens.map((token) => 200 + token));
  assert.deepEqual(a.handler.sentTokens, tokens.map((token) => 100 + token));
  crosses(harness, boundAddress);
  harness.close();
});

Deno.test("a peer that disconnects ends the connection in order, but for a payload that was cut short, and for one that never stood", () => {
  for (const [bytes, reason] of [[64, CloseReason.ORDERLY], [20_000, CloseReason.RESET]]) {
    const harness = verbsHarness({});
    const { a, b, ca, cb } = join(harness);
    const message = new Message().reset(MessageType.MAP_PART);
    assert.ok(a.transport.sendBytes(ca, message, pattern(1, bytes)));
    harness.until(() => b.handler.placementCount === 1);
    const [id] = harness.connectionsOfB();
    id.machine.tell(id, CmEventType.DISCONNECTED);
    harness.until(() => closedCount(b, cb) === 1);
    assert.deepEqual(b.handler.closed, [{ connection: cb, reason }]);
    assert.equal(b.handler.frames.length, reason === CloseReason.ORDERLY ? 1 : 0);
    harness.close();
  }
  const harness = verbsHarness({});
  const [a, b] = harness.sides;
  const ca = a.transport.connect(b.transport.listen(harness.anyAddress).boundAddress);
  const [machine] = harness.world.machines;
  for (const id of machine.ids.values()) machine.tell(id, CmEventType.DISCONNECTED);
  harness.until(() => a.handler.closed.length === 1);
  assert.deepEqual(a.handler.closed, [{ connection: ca, reason: CloseReason.REFUSED }]);
  harness.close();
});

Deno.test("a port that goes down and comes back is told, and ends nothing", () => {
  const harness = verbsHarness({});
  const { b } = join(harness);
  const device = harness.world.machines[1].device!;
  device.tell(VERBS_LAYOUT.IBV_EVENT_PORT_ERR);
  device.tell(VERBS_LAYOUT.IBV_EVENT_PORT_ACTIVE);
  const reports: string[] = [];
  harness.until(() => reports.push(...harness.takeReports()) === 2);
  assert.deepEqual(reports, [
    `b: RDMA device ${device.name}: its port went down`,
    `b: RDMA device ${device.name}: its port is up`,
  ]);
  assert.deepEqual(b.handler.closed, []);
  harness.close();
});

/** Something of what can happen to machine `side`. */
function strike(harness: VerbsHarness, prng: Prng, side: number): void {
  const { machines, fabric, clock } = harness.world;
  const machine = machines[side];
  const { device } = machine;
  const ids = [...machine.ids.values()].filter(({ isListening }) => !isListening);
  const links = fabric.links.filter(({ sendingCount, isClosed, isDead }) => sendingCount > 0 && !isClosed && !isDead);
  if (device === null) {
    machine.device = new MemoryDevice(machine);
    return;
  }
  switch (prng.below(7)) {
    case 0:
      device.fail();
      return device.remove();
    case 1:
      return device.fail();
    case 2:
      device.isShut = true;
      return;
    case 3:
      clock.nowMs += prng.below(20_000);
      return;
    case 4:
      // The kernel takes a rejection for one that is connected already, of a peer that has not heard so, or that wants to harm.
      if (ids.length > 0) {
        const { ADDR_CHANGE, REJECTED, UNREACHABLE } = CmEventType;
        machine.tell(ids[prng.below(ids.length)], [ADDR_CHANGE, REJECTED, UNREACHABLE][prng.below(3)], { status: 28 });
      }
      return;
    case 5:
      if (links.length > 0) links[prng.below(links.length)].fail(12 + prng.below(2));
      return;
    default:
      fabric.isHeldUp = prng.below(2) === 0;
  }
}

Deno.test("whatever happens, in any order: ends and tokens are told once, everything is given back, and it goes on afterwards", () => {
  for (let seed = 1; seed <= 30; seed++) {
    const prng = new Prng(seed);
    const harness = verbsHarness({});
    const { sides: [a, b], world } = harness;
    const { boundAddress } = b.transport.listen(harness.anyAddress);
    const standing = harness.sides.map(() => new Set<number>());
    harness.sides.forEach(({ handler }, side) => {
      handler.onConnect = (connection) => standing[side].add(connection);
      handler.onEnd = (connection) => standing[side].delete(connection);
    });
    let token = 0;
    let connectCount = 0;
    for (let i = 0; i < 200; i++) {
      const side = prng.below(2);
      const connections = [...standing[side]];
      const connection = connections[prng.below(Math.max(1, connections.length))];
      const what = prng.below(12);
      if (what < (standing[0].size === 0 ? 2 : 1)) {
        connectCount++;
        a.transport.connect(boundAddress);
      } else if (what < 5) {
        if (connection !== undefined) sendWrite(harness.sides[side], connection, token++, pattern(i, 20_000));
      } else if (what < 6) {
        if (connection !== undefined && prng.below(4) === 0) harness.sides[side].transport.close(connection);
      } else if (what < 7) strike(harness, prng, side);
      else for (let k = prng.below(20); k > 0; k--) world.step();
      if (prng.below(2) === 0) harness.sides[side].transport.flushSends();
    }
    world.fabric.isHeldUp = false;
    for (const machine of world.machines) {
      machine.device?.fail();
      machine.device?.remove();
      // Nobody tells of what time alone ends: a worker that has connections looks for itself, now and then.
      for (let count = 0; machine.ids.size > 0; count++) {
        assert.ok(count < 1000, `seed ${seed}: what is left of a device that is gone ends`);
        if (!world.step()) world.clock.nowMs += 100;
        for (const { transport } of harness.sides) transport.flushSends();
      }
      machine.device = new MemoryDevice(machine);
    }
    harness.until(() => [...world.machines[1].ids.values()].some(({ isListening }) => isListening));
    // What may still be reached by a device that is gone is free after a while.
    world.clock.nowMs += 20_000;
    crosses(harness, boundAddress);
    assert.equal(a.handler.closed.length, connectCount, `seed ${seed}: every attempt has ended once`);
    harness.close();
    const tokens = [...a.handler.sentTokens, ...b.handler.sentTokens];
    assert.equal(new Set(tokens).size, tokens.length);
  }
});
