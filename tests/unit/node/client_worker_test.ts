/**
 * The client's data plane between a scripted core and a scripted transport: when requests are completed, what is done with
 * payloads nobody waits for.
 */

import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import type { ClientPool } from "../../../lib/core/client_pool.ts";
import { type Output, OutputKind, OutputQueue } from "../../../lib/core/output.ts";
import { type Frontend, type FrontendHost, RequestKind } from "../../../lib/frontend/frontend.ts";
import { MemoryBufferPool } from "../../../lib/io/memory_buffer_pool.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";
import type { Transport } from "../../../lib/transport/transport.ts";
import { Message, MessageType } from "../../../lib/wire/message.ts";
import { ClientWorker } from "../../../lib/node/client_worker.ts";

const LEG = 0;

/** A core that does what the test says. */
class ScriptedCore {
  readonly outputs = new OutputQueue(64);
  nextDeadlineMs = Infinity;
  canSubmit = true;
  dataSlot = -1;
  submitted: { kind: number; slot: number; tag: number }[] = [];
  handled: { type: number; slot: number; key: number }[] = [];
  closed: number[] = [];
  /** What it was told of connections. */
  told: string[] = [];
  key = -1;

  poll(): Output | null {
    return this.outputs.poll();
  }
  submit(kind: number, _flags: number, _offset: number, _lengthBytes: number, slot: number, tag: number): void {
    this.submitted.push({ kind, slot, tag });
  }
  handleTick(): void {}
  handleConnected(_legIndex: number, key: number): void {
    this.key = key;
    this.told.push("connected");
  }
  handleConnectFailed(): void {
    this.told.push("failed");
  }
  handleMessage(key: number, message: Message, slot: number): void {
    this.handled.push({ type: message.type, slot, key });
  }
  handleConnectionClosed(key: number): void {
    this.closed.push(key);
    this.told.push("closed");
  }
  slotFor(): number {
    return this.dataSlot;
  }
  sendWrite(tag: number, slot: number, payloadLength: number, key = this.key): void {
    const output = this.outputs.push(OutputKind.SEND);
    output.connection = key;
    output.slot = slot;
    const message = output.message.reset(MessageType.WRITE);
    message.requestId = tag;
    message.payloadLength = payloadLength;
  }
  complete(tag: number, status: number): void {
    const output = this.outputs.push(OutputKind.COMPLETE);
    output.tag = tag;
    output.status = status;
  }
}

function setUp() {
  const pool = Object.assign(new MemoryBufferPool(1 << 20), { freedCount: 0, releasedCount: 0 });
  const core = new ScriptedCore();
  const sent: { connection: number; slot: number; token: number; crc: number }[] = [];
  const closed: number[] = [];
  let connections = 0;
  const transport = {
    connect: () => connections++,
    send(connection: number, message: Message, slot: number, token: number) {
      sent.push({ connection, slot, token, crc: message.payloadCrc });
      return true;
    },
    sumsPayloads: () => true,
    close: (connection: number) => closed.push(connection),
    flushSends() {},
    resume() {},
  } as unknown as Transport;
  const geometry = {
    name: "p",
    sizeBytes: 1 << 20,
    logicalBlockBytes: 512,
    readOnly: false,
    maxPayloadBytes: 1 << 20,
    maxRangeBytes: 1 << 20,
  };
  const reactor = { nowMs: 0 } as Reactor;
  const worker = new ClientWorker(reactor, pool, core as unknown as ClientPool, geometry, () => {});
  worker.transport = transport;
  const done: { tag: number; status: number }[] = [];
  let readyCount = 0;
  worker.frontends.push(
    {
      complete: (tag: number, status: number) => done.push({ tag, status }),
      onReady: () => readyCount++,
      flushSends() {},
    } as unknown as Frontend,
  );
  const host: FrontendHost = worker.hostFor(0);
  const connect = (legIndex = LEG): number => {
    core.outputs.push(OutputKind.CONNECT).legIndex = legIndex;
    worker.drain();
    worker.onConnected(connections - 1);
    return connections - 1;
  };
  return { pool, core, worker, host, sent, closed, done, connect, ready: () => readyCount };
}

Deno.test("a write is completed only when the last connection has let go of its payload", () => {
  const { pool, core, worker, host, sent, done, connect } = setUp();
  const first = connect();
  const firstKey = core.key;
  const second = connect();
  const slot = pool.allocate(4096);
  pool.bytes(slot).fill(7);
  host.submit(RequestKind.WRITE, 0, 0, 4096, slot, 42);
  const { tag } = core.submitted[0];
  core.sendWrite(tag, slot, 4096, firstKey);
  core.sendWrite(tag, slot, 4096);
  core.complete(tag, 0);
  worker.drain();
  assert.deepEqual(sent.map((each) => each.connection), [first, second]);
  const sum = crc32(pool.bytes(slot).subarray(0, 4096));
  assert.deepEqual(sent.map((each) => each.crc), [sum, sum], "the sum is made once and goes to every leg");
  assert.deepEqual(done, []);
  worker.onSent(first, sent[0].token);
  assert.deepEqual(done, []);
  worker.onSent(second, sent[1].token);
  assert.deepEqual(done, [{ tag: 42, status: 0 }]);
});

Deno.test("a read is completed only when nothing is received into its slot any more", () => {
  const { pool, core, worker, host, done, connect } = setUp();
  const connection = connect();
  const slot = pool.allocate(4096);
  host.submit(RequestKind.READ, 0, 0, 4096, slot, 1);
  const { tag } = core.submitted[0];
  core.dataSlot = slot;
  const data = new Message().reset(MessageType.DATA);
  data.payloadLength = 4096;
  assert.equal(worker.placePayload(connection, data), slot);
  core.complete(tag, -5); // the core gave up on the answer while it arrives
  worker.drain();
  assert.deepEqual(done, []);
  worker.onClosed(connection, -104);
  assert.deepEqual(done, [{ tag: 1, status: -5 }]);
});

Deno.test("an answer nobody waits for goes to a slot of its own, which is given back", () => {
  const { pool, core, worker, connect } = setUp();
  const connection = connect();
  const used = pool.usedBytes;
  const data = new Message().reset(MessageType.DATA);
  data.payloadLength = 4096;
  const slot = worker.placePayload(connection, data);
  assert.ok(slot >= 0);
  worker.onMessage(connection, data, slot);
  assert.equal(pool.usedBytes, used);
  assert.equal(core.handled[0].slot, -1, "the core does not get it");
});

Deno.test("a payload that never arrives whole is given back when its connection ends", () => {
  const { pool, worker, connect } = setUp();
  const connection = connect();
  const used = pool.usedBytes;
  const welcome = new Message().reset(MessageType.WELCOME);
  welcome.payloadLength = 100;
  assert.ok(worker.placePayload(connection, welcome) >= 0);
  worker.onClosed(connection, -104);
  assert.equal(pool.usedBytes, used);
});

Deno.test("what the core sends to a connection that is gone does not reach its successor", () => {
  const { pool, core, worker, host, sent, done, connect } = setUp();
  const connection = connect();
  const oldKey = core.key;
  worker.onClosed(connection, -104);
  assert.deepEqual(core.closed, [oldKey]);
  const slot = pool.allocate(4096);
  host.submit(RequestKind.WRITE, 0, 0, 4096, slot, 9);
  core.sendWrite(core.submitted[0].tag, slot, 4096, oldKey);
  core.complete(core.submitted[0].tag, 0);
  worker.drain();
  assert.deepEqual(sent, []);
  assert.deepEqual(done, [{ tag: 9, status: 0 }], "and its slot is not taken for used");
});

Deno.test("a body that breaks the rules closes the connection and gives its slot back", () => {
  const { pool, core, worker, connect } = setUp();
  const connection = connect();
  const used = pool.usedBytes;
  const grant = new Message().reset(MessageType.GRANT);
  grant.payloadLength = 64;
  const slot = worker.placePayload(connection, grant);
  pool.bytes(slot).fill(0x7b);
  worker.onMessage(connection, grant, slot);
  assert.equal(pool.usedBytes, used);
  assert.deepEqual(core.handled, []);
});

Deno.test("a frontend that was told to wait is told to go on, before the loop waits", () => {
  const { core, worker, host, ready } = setUp();
  core.canSubmit = false;
  assert.equal(host.canSubmit, false);
  worker.afterTurn();
  assert.equal(ready(), 0);
  core.canSubmit = true;
  worker.afterTurn();
  assert.equal(ready(), 1);
  worker.afterTurn();
  assert.equal(ready(), 1);
});

Deno.test("many requests at once keep their tags apart", () => {
  const { core, worker, host, done } = setUp();
  for (let i = 0; i < 1000; i++) host.submit(RequestKind.FLUSH, 0, 0, 0, -1, 5000 + i);
  for (let i = 999; i >= 0; i--) {
    core.complete(core.submitted[i].tag, -i);
    worker.drain();
  }
  assert.equal(done.length, 1000);
  assert.deepEqual(done[0], { tag: 5999, status: -999 });
  assert.equal(new Set(done.map((each) => each.tag)).size, 1000);
});

Deno.test("a try of an address tells its outcome once, and the core nothing", () => {
  const { core, worker, closed } = setUp();
  const outcomes: boolean[] = [];
  worker.probe("10.0.0.1:1", (isThere) => outcomes.push(isThere));
  worker.onConnected(0);
  assert.deepEqual(closed, [0], "nothing is said there");
  worker.onClosed(0, 0);
  assert.deepEqual(outcomes, [true]);
  worker.probe("10.0.0.1:2", (isThere) => outcomes.push(isThere));
  worker.onClosed(1, -111);
  assert.deepEqual(outcomes, [true, false]);
  assert.deepEqual(core.told, []);
  assert.deepEqual(worker.paths(), []);
});

Deno.test("to leave a leg closes the connection to it, and no other", () => {
  const { core, worker, closed, connect } = setUp();
  const first = connect();
  const other = connect(LEG + 1);
  worker.probe("10.0.0.1:1", () => undefined);
  worker.leave(LEG);
  assert.deepEqual(closed, [first]);
  worker.onClosed(first, 0);
  assert.deepEqual(core.told, ["connected", "connected", "closed"]);
  worker.leave(LEG + 1);
  assert.deepEqual(closed, [first, other]);
});

Deno.test("a request that the core completes twice is a bug, and nobody else's completion", () => {
  const { core, worker, host } = setUp();
  host.submit(RequestKind.FLUSH, 0, 0, 0, -1, 1);
  core.complete(core.submitted[0].tag, 0);
  worker.drain();
  core.complete(core.submitted[0].tag, 0);
  assert.throws(() => worker.drain(), /given back once/);
});
