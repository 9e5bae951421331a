/** The storage node's data plane at its network side: who may say what, and who gets memory when it is short. */

import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import type { LegServer } from "../../../lib/core/leg_server.ts";
import { OutputKind, OutputQueue } from "../../../lib/core/output.ts";
import type { Superblock } from "../../../lib/disk_format/records.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import type { Reactor } from "../../../lib/io/reactor.ts";
import { LegDriver } from "../../../lib/node/leg_driver.ts";
import type { OperatorSession } from "../../../lib/node/operator_session.ts";
import { StorageWorker } from "../../../lib/node/storage_worker.ts";
import type { WorkerReport } from "../../../lib/node/worker_messages.ts";
import type { LegStore } from "../../../lib/store/leg_store.ts";
import type { Transport } from "../../../lib/transport/transport.ts";
import type { Hello } from "../../../lib/wire/bodies.ts";
import { encodeBody, parseBody } from "../../../lib/wire/body_codec.ts";
import { Message, MessageType, PROTOCOL_VERSION } from "../../../lib/wire/message.ts";

const POOL_UUID = "11111111-1111-4111-8111-111111111111";
const LEG_UUID = "22222222-2222-4222-8222-222222222222";
const POOL_BYTES = 8 << 20;

class ScriptedLeg {
  readonly outputs = new OutputQueue(64);
  nextDeadlineMs = Infinity;
  hellos: { key: number; hello: Hello }[] = [];
  messages: { key: number; type: number; slot: number }[] = [];
  closed: number[] = [];
  poll() {
    return this.outputs.poll();
  }
  handleHello(key: number, _requestId: number, hello: Hello) {
    this.hellos.push({ key, hello });
  }
  handleMessage(key: number, message: Message, slot: number) {
    this.messages.push({ key, type: message.type, slot });
  }
  handleConnectionClosed(key: number) {
    this.closed.push(key);
  }
  handleTick() {}
  handleDiskDone() {}
}

function setUp() {
  const pool = new SlabBufferPool({ totalBytes: POOL_BYTES });
  const reports: WorkerReport[] = [];
  const reactor = { nowMs: 1000 };
  const worker = new StorageWorker(reactor as Reactor, pool, LEG_UUID, (report) => reports.push(report));
  const sent: { connection: number; type: number; body: unknown; slot: number }[] = [];
  const closed: number[] = [];
  let resumeCount = 0;
  worker.transport = {
    sendBytes(connection: number, message: Message, payload: Uint8Array | null) {
      const parsed = parseBody(message.type, payload ?? new Uint8Array(0));
      assert.ok(parsed.ok, "what a node sends keeps the rules");
      sent.push({ connection, type: message.type, body: parsed.body, slot: -1 });
      return true;
    },
    send(connection: number, message: Message, slot: number) {
      sent.push({ connection, type: message.type, body: null, slot });
      return true;
    },
    close: (connection: number) => closed.push(connection),
    flushSends() {},
    resume: () => resumeCount++,
    lastReceivedMs: () => 0,
  } as unknown as Transport;
  const leg = new ScriptedLeg();
  const superblock = {
    poolUuid: POOL_UUID,
    poolName: "p",
    legUuid: LEG_UUID,
    legIndex: 0,
    dataOffset: 1 << 20,
    chunkBytes: 4096,
  } as Superblock;
  const driver = new LegDriver(worker, superblock, "/leg", leg as unknown as LegServer);
  const reads: { operation: number; slot: number; offset: number }[] = [];
  driver.attach({
    blocks: {
      read: (operation: number, slot: number, _lengthBytes: number, offset: number) =>
        reads.push({ operation, slot, offset }),
    },
    metadata: {},
    close() {},
  } as unknown as LegStore);
  worker.addLeg(driver);

  /** A frame with `body`, as the transport hands it over. */
  const deliver = (connection: number, type: number, body: unknown) => {
    const bytes = encodeBody(type, body);
    const message = new Message().reset(type);
    message.payloadLength = bytes.length;
    const slot = worker.placePayload(connection, message);
    if (slot < 0) return slot;
    pool.bytes(slot).set(bytes);
    worker.onMessage(connection, message, slot);
    return 0;
  };
  const greet = (connection: number, hello: Partial<Hello>) => {
    worker.onAccepted(connection, 0, "peer");
    return deliver(connection, MessageType.HELLO, { protocol: PROTOCOL_VERSION, features: 0, ...hello });
  };
  const asClient: Partial<Hello> = { role: "client", poolUuid: POOL_UUID, legIndex: 0, senderUuid: LEG_UUID };
  const refusalCode = () => (sent.at(-1)?.body as { code: string }).code;
  return {
    pool,
    reactor,
    worker,
    leg,
    driver,
    reads,
    reports,
    sent,
    closed,
    deliver,
    greet,
    asClient,
    refusalCode,
    resumes: () => resumeCount,
  };
}

function frame(type: number, payloadLength: number): Message {
  const message = new Message().reset(type);
  message.payloadLength = payloadLength;
  return message;
}

Deno.test("a client is handed to the leg its HELLO names, by a key of its own", () => {
  const { leg, worker, greet, asClient, pool } = setUp();
  greet(0, asClient);
  assert.equal(leg.hellos[0].hello.role, "client");
  assert.equal(pool.usedBytes, 0);
  worker.onMessage(0, frame(MessageType.FLUSH, 0), -1);
  assert.equal(leg.messages[0].key, leg.hellos[0].key);
  worker.onClosed(0, -104);
  assert.deepEqual(leg.closed, [leg.hellos[0].key]);
  greet(0, asClient);
  assert.notEqual(leg.hellos[1].key, leg.hellos[0].key);
});

Deno.test("what is asked wrongly is refused with a code, and no leg hears of it", () => {
  const { leg, greet, deliver, asClient, refusalCode, sent } = setUp();
  greet(0, { ...asClient, poolUuid: LEG_UUID });
  assert.equal(refusalCode(), "unknown-pool");
  greet(1, { ...asClient, legIndex: 3 });
  assert.equal(refusalCode(), "unknown-leg");
  greet(2, { ...asClient, protocol: 0 });
  assert.equal(refusalCode(), "protocol-version");
  greet(3, asClient);
  const before = sent.length;
  assert.equal(deliver(3, MessageType.CONTROL_REQUEST, { op: "node.info" }), 0);
  assert.equal(leg.hellos.length, 1);
  assert.equal(sent.length, before, "the leg decides what its client may send");
});

Deno.test("a stranger may send a short HELLO and nothing else", () => {
  const { worker } = setUp();
  worker.onAccepted(0, 0, "peer");
  assert.equal(worker.placePayload(0, frame(MessageType.WRITE, 4096)), -2);
  assert.equal(worker.placePayload(0, frame(MessageType.CONTROL_REQUEST, 100)), -2);
  assert.equal(worker.placePayload(0, frame(MessageType.HELLO, 1 << 20)), -2);
  worker.onMessage(0, frame(MessageType.PING, 0), -1);
});

Deno.test("a stranger that stays one, and an operator that falls silent, are hung up on", () => {
  const { worker, reactor, greet, closed } = setUp();
  worker.onAccepted(0, 0, "peer");
  greet(1, { role: "control" });
  reactor.nowMs += 20_000;
  worker.afterTurn();
  assert.deepEqual(closed, [0]);
  reactor.nowMs += 600_000;
  worker.afterTurn();
  assert.ok(closed.includes(1));
});

Deno.test("clients' writes and reads wait when memory is short; pulled data and control still find some", () => {
  const { pool, worker, leg, driver, reads, greet, asClient, resumes } = setUp();
  greet(0, asClient);
  const held: number[] = [];
  for (;;) {
    const slot = worker.placePayload(0, frame(MessageType.WRITE, 1 << 20));
    if (slot < 0) {
      assert.equal(slot, -1);
      break;
    }
    worker.onMessage(0, frame(MessageType.WRITE, 1 << 20), slot);
    held.push(slot);
  }
  assert.equal(held.length, 7, "one eighth is kept");
  const read = leg.outputs.push(OutputKind.DISK_READ);
  read.token = 5;
  read.offset = 8192;
  read.lengthBytes = 1 << 20;
  driver.drain();
  assert.equal(reads.length, 0);
  assert.ok(driver.isStarved && !driver.isQuiet);
  const pulled = worker.placePayload(0, frame(MessageType.PULL_DATA, 1 << 20));
  assert.ok(pulled >= 0);
  worker.onMessage(0, frame(MessageType.PULL_DATA, 1 << 20), pulled);
  worker.freeSlot(pulled);
  worker.freeSlot(held.pop()!);
  worker.afterTurn();
  assert.equal(reads.length, 1, "the read that waited has begun");
  assert.equal(reads[0].offset, (1 << 20) + 8192, "offsets of the pool begin at the data area");
  assert.equal(resumes(), 1);
  assert.equal(pool.usedBytes, 7 << 20);
});

Deno.test("a payload that never arrives whole is given back when its connection ends", () => {
  const { pool, worker, greet, asClient } = setUp();
  greet(0, asClient);
  assert.ok(worker.placePayload(0, frame(MessageType.WRITE, 65536)) >= 0);
  worker.onClosed(0, -104);
  assert.equal(pool.usedBytes, 0);
});

Deno.test("answers of the leg to a client that is gone are dropped, and their memory is given back", () => {
  const { pool, worker, leg, driver, sent, greet, asClient } = setUp();
  greet(0, asClient);
  const key = leg.hellos[0].key;
  worker.onClosed(0, -104);
  greet(0, asClient); // the next client has the same number
  const slot = pool.allocate(4096);
  const answer = leg.outputs.push(OutputKind.SEND);
  answer.connection = key;
  answer.slot = slot;
  answer.freeAfterSend = true;
  answer.message.reset(MessageType.DATA).payloadLength = 4096;
  driver.drain();
  assert.deepEqual(sent.filter((each) => each.type === MessageType.DATA), []);
  assert.equal(pool.usedBytes, 0);
});

Deno.test("operators' requests go to the main isolate and come back to the one who asked, at most 16 at a time", () => {
  const { worker, reports, greet, deliver, sent, refusalCode } = setUp();
  greet(4, { role: "control" });
  for (let i = 0; i < 16; i++) deliver(4, MessageType.CONTROL_REQUEST, { op: "node.info" });
  const asked = reports.filter((report) => report.kind === "control");
  assert.equal(asked.length, 16);
  assert.equal(asked[0].text, '{"op":"node.info"}');
  deliver(4, MessageType.CONTROL_REQUEST, { op: "node.info" });
  assert.equal(refusalCode(), "busy");
  const reply = { kind: "control-reply", requestId: 0, reply: { ok: true, result: {} } } as const;
  worker.sendControlReply({ ...reply, key: asked[0].key });
  assert.equal(sent.at(-1)?.type, MessageType.CONTROL_REPLY);
  deliver(4, MessageType.CONTROL_REQUEST, { op: "node.info" });
  assert.equal(reports.filter((report) => report.kind === "control").length, 17);
  const count = sent.length;
  worker.onClosed(4, 0);
  worker.sendControlReply({ ...reply, key: asked[1].key });
  assert.equal(sent.length, count, "nobody is there to be answered");
});

Deno.test("an operator's session hears of the end of its connections though its leg has left service, and opens no more", () => {
  const { worker, driver, closed } = setUp();
  const heard: string[] = [];
  const session = {
    abandon: () => heard.push("abandon"),
    connected: () => heard.push("connected"),
    connectionClosed: () => heard.push("closed"),
  };
  driver.operator = session as unknown as OperatorSession;
  let connectCount = 0;
  worker.transport.connect = () => 5 + connectCount++;
  worker.connectOperator(driver, 1, "10.0.0.2:7701");
  worker.onConnected(5);
  worker.removeLeg(driver);
  worker.connectOperator(driver, 1, "10.0.0.2:7701");
  assert.equal(connectCount, 1);
  assert.deepEqual(closed, [5]);
  assert.ok(worker.hasConnections(driver));
  worker.onClosed(5, 0);
  assert.ok(!worker.hasConnections(driver));
  assert.deepEqual(heard, ["connected", "abandon", "closed"]);
});
