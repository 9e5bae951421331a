/** An operator's session at a storage node: who is answered what and when, and when it ends. The legs are scripted. */

import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import type { LegServer } from "../../../lib/core/leg_server.ts";
import { OperatorSession } from "../../../lib/node/operator_session.ts";
import type { Claim, EpochChange } from "../../../lib/wire/bodies.ts";
import { parseBody } from "../../../lib/wire/body_codec.ts";
import { Message, MessageType, PROTOCOL_VERSION } from "../../../lib/wire/message.ts";
import { testRecord, testSnapshot, testUuid } from "../control/fake_node.ts";

interface Answer {
  readonly result: unknown;
  readonly error: string;
}

interface Asked {
  readonly connection: number;
  readonly type: number;
  readonly requestId: number;
  readonly length: number;
  readonly body: unknown;
}

/** A session over two legs that do what they are asked, unless `refuse` says why not. */
class Bench {
  nowMs = 1000;
  readonly answers = new Map<number, Answer>();
  readonly changes: EpochChange[] = [];
  refuse = "";
  /** Slots that the session holds. */
  readonly slots = new Set<number>();
  /** Frames of these types are not answered. */
  readonly ignored = new Set<number>();
  /** Messages that wait to be answered: legs answer when the session has ended its turn. */
  readonly #queue: Asked[] = [];
  readonly #connects: number[] = [];
  #session: OperatorSession | null = null;
  #record = testRecord(["10.0.0.1:7701", "10.0.0.2:7701"]);
  #closed: number[] = [];

  get session(): OperatorSession {
    this.#session ??= new OperatorSession({
      leg: { snapshot: () => testSnapshot(0, this.#record) } as unknown as LegServer,
      name: "the operator's session at alpha",
      connect: (legIndex) => this.#connects.push(legIndex),
      report: () => undefined,
      answer: (requestId, result, error) => {
        assert.ok(!this.answers.has(requestId), `request ${requestId} is answered once`);
        this.answers.set(requestId, { result, error: error?.message ?? "" });
      },
      // deno-lint-ignore no-explicit-any -- only what a session without repairs asks of its node
      host: this.#host() as any,
    });
    return this.#session;
  }

  /** Time passes in steps, and legs answer, until nothing is left to be answered. */
  run(ms: number): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs += 50) {
      this.session.tick(this.nowMs);
      this.settle();
    }
  }

  settle(): void {
    for (;;) {
      const legIndex = this.#connects.shift();
      if (legIndex !== undefined) {
        this.session.connected(legIndex, 10 + legIndex);
        continue;
      }
      const closed = this.#closed.shift();
      if (closed !== undefined) {
        this.session.connectionClosed(closed);
        continue;
      }
      const asked = this.#queue.shift();
      if (asked === undefined) return;
      this.#reply(asked);
    }
  }

  #reply(asked: Asked): void {
    if (this.ignored.has(asked.type)) return;
    const legIndex = asked.connection - 10;
    const record = { shared: this.#record, promisedGeneration: 1, promisedTo: "" };
    switch (asked.type) {
      case MessageType.HELLO: {
        const place = { legUuid: testUuid(100 + legIndex), creditRequests: 32, creditBytes: 1 << 20, whole: true };
        const welcome = { protocol: PROTOCOL_VERSION, features: 0, instance: testUuid(9), record, ...place };
        return this.#say(asked, MessageType.WELCOME, welcome);
      }
      case MessageType.CLAIM: {
        if (this.refuse !== "") return this.#say(asked, MessageType.REFUSE, { code: "held", message: this.refuse });
        const { generation } = asked.body as Claim;
        const grant = { generation, record, intents: [], intentsLost: false, unbroken: true };
        return this.#say(asked, MessageType.GRANT, grant);
      }
      case MessageType.EPOCH:
        this.changes.push(asked.body as EpochChange);
        return this.#say(asked, MessageType.EPOCH_DONE, null);
      case MessageType.HASH:
        // No two legs have the same.
        return this.#say(asked, MessageType.HASH_DATA, new Uint32Array(2 * asked.length / 4096).fill(legIndex));
      case MessageType.PING:
        return this.#say(asked, MessageType.PONG, null);
      default:
        return this.#say(asked, MessageType.ACK, null);
    }
  }

  #say(asked: { connection: number; requestId: number }, type: number, body: unknown): void {
    const message = new Message().reset(type);
    message.requestId = asked.requestId;
    this.session.message(asked.connection, message, new Uint8Array(0), body);
  }

  #host() {
    const sent = (connection: number, message: Message, bytes: Uint8Array | null) => {
      const parsed = bytes === null ? { ok: true as const, body: null } : parseBody(message.type, bytes);
      assert.ok(parsed.ok, "what a node sends keeps the rules");
      const { type, requestId, length } = message;
      this.#queue.push({ connection, type, requestId, length, body: parsed.body });
      return true;
    };
    const now = () => this.nowMs;
    return {
      get nowMs() {
        return now();
      },
      transport: { sendBytes: sent, send: (connection: number, message: Message) => sent(connection, message, null) },
      connectionOf: (key: number) => key,
      closeConnection: (key: number) => this.#closed.push(key),
      noteSent: () => undefined,
      allocateForRead: () => {
        this.slots.add(3);
        return 3;
      },
      freeSlot: (slot: number) => assert.ok(this.slots.delete(slot), "a slot is given back once"),
    };
  }
}

const DONE: Answer = { result: {}, error: "" };

Deno.test("operators share a session; each change is one record, and it ends with the last of them", () => {
  const bench = new Bench();
  bench.session.begin(1);
  bench.session.begin(2);
  assert.equal(bench.answers.size, 0, "answered when the pool is had");
  bench.run(200);
  assert.deepEqual([bench.answers.get(1)?.result, bench.answers.get(2)?.result], [{ holder: 1 }, { holder: 2 }]);
  bench.session.ask(3, 1, "client.changeLegs", { kind: "drain", legIndex: 1 });
  bench.session.ask(4, 2, "client.changeLegs", { kind: "drain", legIndex: 0 });
  assert.match(bench.answers.get(4)?.error ?? "", /Another change of the leg table is under way/);
  bench.run(200);
  assert.deepEqual(bench.answers.get(3), DONE);
  const { shared, droppedMask } = bench.changes.at(-1)!;
  assert.deepEqual([shared.inSyncMask, droppedMask, shared.legs[1]?.isDrained], [0b01, 0b10, true]);
  assert.equal(shared.clientGeneration, 1, "it supersedes no client");
  bench.session.ask(5, 1, "client.detach", {});
  assert.deepEqual(bench.answers.get(5), DONE, "another operator still needs it");
  assert.throws(() => bench.session.ask(6, 1, "client.status", {}), ControlError);
  bench.session.ask(7, 2, "client.detach", {});
  assert.ok(!bench.answers.has(7), "answered when the pool is let go of");
  bench.session.begin(8);
  bench.run(300);
  assert.deepEqual(bench.answers.get(7), DONE);
  assert.ok(bench.session.isOver);
  assert.deepEqual(bench.session.waiting, [8], "who came meanwhile has the next session");
});

Deno.test("a session ends when nobody has asked for anything for a minute", () => {
  const bench = new Bench();
  bench.session.begin(1);
  bench.run(50_000);
  bench.session.ask(2, 1, "client.status", {});
  bench.run(59_000);
  assert.equal(bench.session.core.state, "ready");
  bench.run(2_000);
  assert.ok(bench.session.isOver);
  assert.throws(() => bench.session.ask(3, 1, "client.status", {}), /session is over/);
});

Deno.test("a pool that a client has is not had: who began is told who has it", () => {
  const bench = new Bench();
  bench.refuse = "The pool is attached by host:42; detach it there, or attach with --takeover";
  bench.session.begin(1);
  bench.run(200);
  assert.match(bench.answers.get(1)?.error ?? "", /attached by host:42/);
  assert.ok(bench.session.isOver);
});

Deno.test("a leg that leaves service leaves no request of its session unanswered", () => {
  const bench = new Bench();
  bench.session.begin(1);
  bench.run(100);
  bench.session.ask(2, 1, "client.changeLegs", { kind: "drain", legIndex: 1 });
  bench.session.begin(3);
  bench.session.abandon();
  assert.match(bench.answers.get(2)?.error ?? "", /letting go of its leg/);
});

Deno.test("a leg that leaves service in the middle of a repair has the memory of its session back, and answers nobody twice", () => {
  const bench = new Bench();
  bench.session.begin(1);
  bench.run(200);
  bench.ignored.add(MessageType.READ);
  bench.session.ask(2, 1, "client.verify", { repair: true, rateBytesPerSecond: 0 });
  bench.run(200);
  assert.equal(bench.slots.size, 1, "what is right is being read");
  bench.ignored.add(MessageType.EPOCH);
  bench.session.ask(3, 1, "client.changeLegs", { kind: "drain", legIndex: 1 });
  bench.session.abandon();
  assert.match(bench.answers.get(3)?.error ?? "", /letting go of its leg/);
  for (const connection of [10, 11]) bench.session.connectionClosed(connection);
  assert.equal(bench.slots.size, 0);
});
