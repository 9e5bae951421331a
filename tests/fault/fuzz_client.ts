/**
 * Fuzzing a client's core from the network side: a `ClientPool` whose three legs answer what they like, when they like, or cut the
 * connection, while an application reads and writes.
 *
 * Frames take the way of a real one: bytes, header check, rules of frames, `parseBody`, core. What must hold whatever comes:
 * nothing is thrown, the core's own invariants stand, every request completes exactly once, and a payload lands in no slot but
 * that of a read in flight which is long enough.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Prng } from "../../lib/base/prng.ts";
import { ClientPool } from "../../lib/core/client_pool.ts";
import { type Output, OutputKind } from "../../lib/core/output.ts";
import { RequestKind } from "../../lib/core/request_kind.ts";
import type { EpochChange } from "../../lib/wire/bodies.ts";
import { bodyKind, encodeBody } from "../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { frameOf, openFrame, soundFrame, spoilHeader } from "./fuzz_frames.ts";
import { FuzzSlots } from "./fuzz_slots.ts";

const SIZE_BYTES = 64 << 20;
const LEG_COUNT = 3;
const POOL_UUID = "20000000-0000-4000-8000-000000000000";
const LEG_UUIDS = [0, 1, 2].map((leg) => `0000000${leg}-0000-4000-8000-000000000000`);
const CLIENT_UUID = "10000007-0000-4000-8000-000000000000";
/** Cases that one client lives through. */
const LIFE_CASES = 3000;
const IO_TIMEOUT_MS = 5000;
const ANSWERED = 64;

/** What a leg answers to what. */
const ANSWERS = new Map<number, number>([
  [MessageType.HELLO, MessageType.WELCOME],
  [MessageType.CLAIM, MessageType.GRANT],
  [MessageType.EPOCH, MessageType.EPOCH_DONE],
  [MessageType.READ, MessageType.DATA],
  [MessageType.PING, MessageType.PONG],
]);
const LEG_TYPES = [...new Set(ANSWERS.values()), MessageType.ACK, MessageType.REFUSE, MessageType.WANT_FLUSH];

type SharedRecord = EpochChange["shared"];

interface Asked {
  readonly message: Message;
  readonly body:
    | { readonly generation?: number; readonly shared?: SharedRecord; readonly resyncSession?: number }
    | null;
}

interface Link {
  readonly legIndex: number;
  readonly asked: Asked[];
}

interface Request {
  readonly kind: number;
  readonly slot: number;
  readonly lengthBytes: number;
}

function firstRecord(): SharedRecord {
  return {
    historyId: POOL_UUID,
    historyNumber: 0,
    generation: 1,
    clientGeneration: 1,
    epoch: 1,
    inSyncMask: 7,
    minInSync: 1,
    ioTimeoutMs: IO_TIMEOUT_MS,
    legs: LEG_UUIDS.map((uuid, leg) => ({
      uuid,
      address: `10.0.0.${leg}:7701`,
      mapIncarnation: 1,
      mapDefaultDirty: false,
      outSinceMs: 0,
      isDrained: false,
    })),
  };
}

/** One client with legs and an application that do as the generator says. */
class ClientStage {
  readonly #random: Prng;
  readonly #core: ClientPool;
  readonly #slots = new FuzzSlots();
  readonly #links = new Map<number, Link>();
  readonly #requests = new Map<number, Request>();
  readonly #connecting: number[] = [];
  readonly #closing: number[] = [];
  readonly #records: SharedRecord[] = LEG_UUIDS.map(firstRecord);
  #resyncSession = 0;
  #nextConnection = 1;
  #nextTag = 1;
  #nowMs = 1000;

  constructor(random: Prng) {
    this.#random = random;
    this.#core = new ClientPool({
      poolUuid: POOL_UUID,
      poolName: "fuzz",
      sizeBytes: SIZE_BYTES,
      logicalBlockBytes: 512,
      extentBytes: 65536,
      hotExtentCount: 128,
      clientUuid: CLIENT_UUID,
      clientName: "fuzz",
      legs: LEG_UUIDS.map((_, legIndex) => ({ legIndex, address: `10.0.0.${legIndex}:7701` })),
      nowMs: this.#nowMs,
      nextRandom: () => random.fraction(),
      maxRequests: 64,
      ioTimeoutMs: IO_TIMEOUT_MS,
    });
    this.#core.start({ takeover: random.below(2) === 0 });
    this.#drain();
  }

  /** Whether the client has let go of the pool, or been refused. */
  get isOver(): boolean {
    return this.#core.state === "refused" || this.#core.state === "detached";
  }

  /** One thing happens. */
  step(): void {
    const random = this.#random;
    switch (random.below(16)) {
      case 0:
        this.#nowMs += random.below(40) === 0 ? 4000 : random.below(150);
        this.#core.handleTick(this.#nowMs);
        break;
      case 1:
        if (random.below(60) === 0) this.#dropOne();
        else if (random.below(400) === 0) this.#core.detach();
        break;
      case 2:
      case 3:
      case 4:
      case 5:
        this.#submit();
        break;
      default:
        if (this.#connecting.length > 0) this.#answerConnect(random.below(6) > 0);
        else if (this.#closing.length > 0) this.#endClosing();
        else if (this.#links.size > 0) this.#frame();
    }
    this.#drain();
    this.#core.checkInvariants();
    this.#core.snapshot();
  }

  /** All legs go for good: every request must come to its end. */
  end(): void {
    for (let i = 0; i < 1000 && (this.#requests.size > 0 || this.#links.size > 0 || i < 10); i++) {
      while (this.#links.size > 0) this.#dropOne();
      while (this.#closing.length > 0) this.#endClosing();
      while (this.#connecting.length > 0) this.#answerConnect(false);
      this.#nowMs += 100;
      this.#core.handleTick(this.#nowMs);
      this.#drain();
      this.#core.checkInvariants();
    }
    assert.equal(this.#requests.size, 0, `Requests without an end in state ${this.#core.state}`);
    this.#slots.checkEmpty();
  }

  #answerConnect(isUp: boolean): void {
    const legIndex = this.#connecting.shift()!;
    if (isUp) {
      const connection = this.#nextConnection++;
      this.#links.set(connection, { legIndex, asked: [] });
      this.#core.handleConnected(legIndex, connection);
    } else this.#core.handleConnectFailed(legIndex);
    this.#drain();
  }

  #endClosing(): void {
    const connection = this.#closing.shift()!;
    if (this.#links.delete(connection)) this.#core.handleConnectionClosed(connection);
    this.#drain();
  }

  #dropOne(): void {
    if (this.#links.size === 0) return;
    const connection = this.#random.pick([...this.#links.keys()]);
    this.#links.delete(connection);
    this.#core.handleConnectionClosed(connection);
    this.#drain();
  }

  #submit(): void {
    const random = this.#random;
    if (!this.#core.canSubmit) return;
    const kind = random.pick([0, 0, 1, 1, 1, 2, 3, 4]);
    const lengthBytes = kind === RequestKind.FLUSH
      ? 0
      : random.pick([512, 4096, 4096, 65536, 512 * (1 + random.below(200))]);
    const offset = 512 * random.below((random.below(3) === 0 ? SIZE_BYTES : 1 << 20) / 512);
    const hasSlot = kind === RequestKind.READ || kind === RequestKind.WRITE;
    const slot = hasSlot ? this.#slots.allocate(lengthBytes) : -1;
    if (hasSlot && slot < 0) return;
    const tag = this.#nextTag++;
    this.#requests.set(tag, { kind, slot, lengthBytes });
    this.#core.submit(kind, random.pick([0, 0, 1, 4]), offset, lengthBytes, slot, tag);
  }

  #frame(): void {
    const random = this.#random;
    const connection = random.pick([...this.#links.keys()]);
    const link = this.#links.get(connection)!;
    let frame: Uint8Array;
    if (random.below(150) === 0) frame = soundFrame(random, 20_000);
    else if (link.asked.length > 0 && random.below(20) > 0) {
      const [asked] = link.asked.splice(random.below(link.asked.length), 1);
      frame = this.#answer(ANSWERS.get(asked.message.type) ?? MessageType.ACK, asked, link);
    } else if (this.#resyncSession > 0 && random.below(2) === 0) {
      frame = this.#answer(MessageType.RESYNC_REPORT, null, link);
    } else frame = this.#answer(random.pick(LEG_TYPES), link.asked.at(-1) ?? null, link);
    if (random.below(30) === 0) spoilHeader(random, frame);
    this.#deliver(connection, frame);
  }

  /** The way of a frame from bytes to the core. */
  #deliver(connection: number, frame: Uint8Array): void {
    const opened = openFrame(frame);
    if (opened === null || !opened.parsed.ok) {
      this.#closing.push(connection); // the transport closes on the one, the driver on the other
      return;
    }
    const { message, payload } = opened;
    const isData = bodyKind(message.type) === "data";
    let slot = -1;
    if (isData && payload.length > 0) {
      slot = this.#core.slotFor(connection, message);
      if (slot >= 0) {
        const isRead = [...this.#requests.values()].some((request) =>
          request.slot === slot && request.kind === RequestKind.READ && request.lengthBytes >= payload.length
        );
        assert.ok(isRead, "Payload goes to the slot of a read that is long enough");
        this.#slots.fill(slot, payload);
      }
    }
    this.#core.handleMessage(connection, message, slot, isData ? null : opened.parsed.body);
  }

  /** What a leg may say to `asked`. */
  #answer(type: number, asked: Asked | null, link: Link): Uint8Array {
    const random = this.#random;
    const message = new Message().reset(type);
    if (asked !== null) {
      message.requestId = asked.message.requestId;
      message.sequence = asked.message.sequence;
      message.offset = asked.message.offset;
      message.length = asked.message.length;
      message.resyncSession = asked.message.resyncSession;
    }
    if (random.below(60) === 0) message.status = random.pick([-5, -11, -28, -116, 1]);
    switch (type) {
      case MessageType.DATA: {
        const hasData = message.status === 0 && message.length > 0 && message.length <= MAX_PAYLOAD_BYTES;
        if (random.below(40) === 0 && hasData) message.length = 512;
        return frameOf(message, hasData ? new Uint8Array(message.length) : null);
      }
      case MessageType.EPOCH_DONE:
        if (asked?.body?.shared !== undefined) this.#records[link.legIndex] = asked.body.shared;
        return frameOf(message, null);
      default:
        return frameOf(message, bodyKind(type) === "json" ? encodeBody(type, this.#body(type, asked, link)) : null);
    }
  }

  #body(type: number, asked: Asked | null, link: Link): object {
    const random = this.#random;
    const record = { shared: this.#record(link.legIndex), promisedGeneration: 5, promisedTo: CLIENT_UUID };
    switch (type) {
      case MessageType.WELCOME:
        return {
          protocol: 1,
          features: 0,
          instance: POOL_UUID,
          legUuid: random.below(60) === 0 ? undefined : LEG_UUIDS[link.legIndex],
          record: random.below(60) === 0 ? undefined : record,
          creditRequests: random.pick([512, 64, 16, 0]),
          creditBytes: random.pick([64 << 20, 1 << 20, 0]),
          heldBy: random.below(20) === 0 ? "someone" : undefined,
        };
      case MessageType.GRANT:
        return {
          generation: random.below(60) === 0 ? random.below(9) : asked?.body?.generation ?? 1,
          record,
          intents: Array.from({ length: random.below(6) === 0 ? random.below(5) : 0 }, () => random.below(1100)),
          intentsLost: random.below(20) === 0,
          unbroken: random.below(2) === 0,
        };
      case MessageType.RESYNC_REPORT:
        return {
          resyncSession: this.#resyncSession - random.below(2),
          epoch: random.below(3) === 0 ? random.below(9) : this.#records[link.legIndex].epoch,
          state: random.pick(["running", "paused", "done", "done", "failed"]),
          missingBytes: random.below(1 << 20),
          copiedBytes: random.next53(),
          rateBytesPerSecond: 0,
          message: random.below(3) === 0 ? "as it goes" : undefined,
        };
      default:
        return {
          code: random.pick([
            "stale-generation",
            "held",
            "not-in-sync",
            "busy",
            "io-error",
            "bad-request",
            "unknown-leg",
          ]),
          message: "No",
          generation: random.below(2) === 0 ? random.below(50) : undefined,
        };
    }
  }

  /** What leg `legIndex` says its record is: mostly the truth. */
  #record(legIndex: number): SharedRecord {
    const random = this.#random;
    const record = this.#records[legIndex];
    if (random.below(25) > 0) return record;
    return {
      ...record,
      generation: record.generation + random.below(3),
      epoch: Math.max(0, record.epoch + random.below(3) - 1),
      inSyncMask: random.pick([0, 1, 3, 7, 255]),
      minInSync: random.below(4),
      legs: random.pick([record.legs, [], record.legs.slice(0, 2), record.legs.map(() => null)]),
    };
  }

  #drain(): void {
    for (let output = this.#core.poll(); output !== null; output = this.#core.poll()) this.#carryOut(output);
  }

  #carryOut(output: Output): void {
    switch (output.kind) {
      case OutputKind.SEND:
        this.#slots.checkSent(output);
        this.#noteAsked(output);
        return;
      case OutputKind.CONNECT:
        assert.ok(output.legIndex >= 0 && output.legIndex < LEG_COUNT);
        this.#connecting.push(output.legIndex);
        return;
      case OutputKind.CLOSE:
        this.#closing.push(output.connection);
        return;
      case OutputKind.COMPLETE: {
        const request = this.#requests.get(output.tag);
        assert.ok(request !== undefined, `Request ${output.tag} completes once`);
        assert.ok(output.status <= 0);
        this.#requests.delete(output.tag);
        if (request.slot >= 0) this.#slots.free(request.slot);
        return;
      }
      case OutputKind.FREE_SLOT:
        assert.fail("A client's slots are the application's");
        return;
      case OutputKind.EVENT:
        return;
      default:
        assert.fail(`A client wants output kind ${output.kind}`);
    }
  }

  #noteAsked(output: Output): void {
    const link = this.#links.get(output.connection);
    if (link === undefined) return;
    if (output.message.type === MessageType.RESYNC) this.#resyncSession = output.body.resyncSession;
    link.asked.push({ message: new Message().copyFrom(output.message), body: output.body });
    if (link.asked.length > ANSWERED) link.asked.shift();
  }
}

/** Returns a function that plays one case: one step in the life of a client. */
export function clientTarget(): (random: Prng) => void {
  let stage: ClientStage | null = null;
  let age = 0;
  return (random) => {
    stage ??= new ClientStage(random);
    stage.step();
    age++;
    if (age < LIFE_CASES && !(stage.isOver && random.below(20) === 0)) return;
    stage.end();
    stage = null;
    age = 0;
  };
}
