/**
 * Fuzzing a leg's core from the network side: a `LegServer` that gets frames of every type on connections of clients, of peers and
 * of its own making, plausible ones and spoiled ones, while its disk answers late and sometimes with an error.
 *
 * Frames take the way of a real one: bytes, header check, rules of frames, `parseBody`, core. What must hold whatever comes:
 * nothing is thrown; all the core asks of disk and network lies within the pool's bounds; no slot is lost or freed twice.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Prng } from "../../lib/base/prng.ts";
import { LegServer } from "../../lib/core/leg_server.ts";
import { type Output, OutputKind } from "../../lib/core/output.ts";
import { computeLayout, type Layout, SUPERBLOCK_OFFSET } from "../../lib/disk_format/layout.ts";
import { BLOCK_BYTES, type Superblock } from "../../lib/disk_format/records.ts";
import type { EpochChange, Hello, ResyncOrder } from "../../lib/wire/bodies.ts";
import { bodyKind, encodeBody } from "../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { anyWords, frameOf, openFrame, soundFrame, spoilHeader } from "./fuzz_frames.ts";
import { FuzzSlots } from "./fuzz_slots.ts";

const SIZE_BYTES = 64 << 20;
const SHAPE = { sizeBytes: SIZE_BYTES, chunkBytes: 4096, extentBytes: 65536, hotExtentCount: 128 };
const LAYOUT: Layout = computeLayout(SHAPE);
const LEG_UUIDS = [0, 1, 2].map((leg) => `0000000${leg}-0000-4000-8000-000000000000`);
const CLIENT_UUIDS = [7, 8].map((client) => `1000000${client}-0000-4000-8000-000000000000`);
const POOL_UUID = "20000000-0000-4000-8000-000000000000";
const INSTANCE = "30000000-0000-4000-8000-000000000000";
/** Cases that one leg lives through. */
const LIFE_CASES = 3000;
const MOST_CONNECTIONS = 6;

const CLIENT_TYPES = [
  MessageType.WRITE,
  MessageType.WRITE,
  MessageType.WRITE,
  MessageType.WRITE_ZEROES,
  MessageType.DISCARD,
  MessageType.READ,
  MessageType.READ,
  MessageType.FLUSH,
  MessageType.PING,
  MessageType.EPOCH,
  MessageType.JOIN,
  MessageType.JOIN,
  MessageType.RESYNC,
  MessageType.CLAIM,
  MessageType.DETACH,
];
const PEER_TYPES = [MessageType.MAP_FETCH, MessageType.PULL, MessageType.CLEAR, MessageType.HASH, MessageType.PING];
const SOURCE_TYPES = [
  MessageType.WELCOME,
  MessageType.WELCOME,
  MessageType.MAP_PART,
  MessageType.MAP_PART,
  MessageType.PULL_DATA,
  MessageType.PULL_DATA,
  MessageType.HASH_DATA,
  MessageType.ACK,
  MessageType.REFUSE,
];
/** What a source answers. */
const ANSWERS = new Map<number, number>([
  [MessageType.HELLO, MessageType.WELCOME],
  [MessageType.MAP_FETCH, MessageType.MAP_PART],
  [MessageType.PULL, MessageType.PULL_DATA],
  [MessageType.HASH, MessageType.HASH_DATA],
]);

function superblock(): Superblock {
  return {
    ...SHAPE,
    poolUuid: POOL_UUID,
    poolName: "fuzz",
    legUuid: LEG_UUIDS[0],
    legIndex: 0,
    logicalBlockBytes: 512,
    epochOffset: LAYOUT.epochOffset,
    intentOffset: LAYOUT.intentOffset,
    mapOffset: LAYOUT.mapOffset,
    dataOffset: LAYOUT.dataOffset,
    createdMs: 0,
  };
}

function firstRecord(inSyncMask: number): EpochChange["shared"] {
  return {
    historyId: POOL_UUID,
    generation: 1,
    epoch: 1,
    inSyncMask,
    minInSync: 1,
    ioTimeoutMs: 1000,
    legs: LEG_UUIDS.map((uuid, leg) => ({
      uuid,
      address: `10.0.0.${leg}:7701`,
      mapIncarnation: 1,
      mapDefaultDirty: false,
      outSinceMs: 0,
    })),
  };
}

/** What the network knows of a connection. */
interface Link {
  readonly kind: "client" | "peer" | "source";
  /** The last frames the core sent on it, to be answered. */
  readonly asked: Message[];
}

interface DiskTask {
  readonly token: number;
  readonly slot: number;
  readonly isRead: boolean;
}

/** One leg with a network and a disk that do as the generator says. */
class LegStage {
  readonly #random: Prng;
  readonly #core: LegServer;
  readonly #slots = new FuzzSlots();
  readonly #links = new Map<number, Link>();
  readonly #disk: DiskTask[] = [];
  readonly #metadata: number[] = [];
  readonly #waitingReads: { token: number; lengthBytes: number }[] = [];
  readonly #connecting: number[] = [];
  readonly #closing: number[] = [];
  #nextConnection = 1;
  #nowMs = 1000;
  #sequence = 1;
  #generation = 1;

  constructor(random: Prng) {
    this.#random = random;
    this.#core = new LegServer({
      superblock: superblock(),
      record: {
        shared: firstRecord(random.pick([7, 3, 6])),
        promisedGeneration: 1,
        promisedTo: CLIENT_UUIDS[0],
        isStable: true,
        bootId: "",
      },
      intentSlots: new Uint32Array(SHAPE.hotExtentCount).fill(0xffffffff),
      intentsDamaged: random.below(8) === 0,
      mapPages: [],
      metadataSequence: 1,
      instance: INSTANCE,
      bootId: "",
      nowMs: this.#nowMs,
      creditRequests: 32,
    });
  }

  /** One thing happens. */
  step(): void {
    const random = this.#random;
    switch (random.below(12)) {
      case 0:
      case 1:
        this.#finishOne();
        break;
      case 2:
        this.#nowMs += random.below(50) === 0 ? 5000 : random.below(200);
        this.#core.handleTick(this.#nowMs);
        break;
      case 3:
        if (random.below(4) === 0) this.#dropOne();
        else this.#finishOne();
        break;
      default:
        if (this.#links.size < MOST_CONNECTIONS) this.#open();
        else this.#frame();
    }
    this.#drain();
    this.#core.snapshot();
  }

  /** Everything that is under way ends, every connection goes: no slot may be left in anyone's hands. */
  end(): void {
    while (this.#links.size > 0) this.#dropOne();
    for (let i = 0; i < 1000 && !this.#isQuiet; i++) {
      while (!this.#isQuiet) this.#finishOne();
      this.#nowMs += 1000;
      this.#core.handleTick(this.#nowMs);
      this.#drain();
    }
    assert.ok(this.#isQuiet, "A leg that nobody speaks to comes to rest");
    this.#slots.checkEmpty();
  }

  get #isQuiet(): boolean {
    return this.#disk.length + this.#metadata.length + this.#waitingReads.length + this.#connecting.length +
        this.#closing.length === 0;
  }

  #finishOne(): void {
    const random = this.#random;
    const closing = this.#closing.shift();
    if (closing !== undefined) {
      if (this.#links.delete(closing)) this.#core.handleConnectionClosed(closing);
    } else if (this.#connecting.length > 0) this.#answerConnect(this.#connecting.shift()!);
    else if (this.#metadata.length > 0 && random.below(2) === 0) {
      this.#core.handleMetadataDone(this.#metadata.shift()!, this.#anyResult());
    } else if (this.#disk.length > 0) {
      const [task] = this.#disk.splice(random.below(this.#disk.length), 1);
      this.#core.handleDiskDone(task.token, this.#anyResult(), task.slot);
      // The core owns the slot of a read again, of a write it never lost it.
    } else if (this.#metadata.length > 0) this.#core.handleMetadataDone(this.#metadata.shift()!, this.#anyResult());
    this.#drain();
    this.#startReads();
  }

  #anyResult(): number {
    return this.#random.below(30) === 0 ? -5 : 0;
  }

  #answerConnect(legIndex: number): void {
    if (this.#random.below(4) === 0) this.#core.handleConnectFailed(legIndex);
    else {
      const connection = this.#nextConnection++;
      this.#links.set(connection, { kind: "source", asked: [] });
      this.#core.handleConnected(legIndex, connection);
    }
  }

  #dropOne(): void {
    const connections = [...this.#links.keys()];
    if (connections.length === 0) return;
    const connection = this.#random.pick(connections);
    this.#links.delete(connection);
    this.#core.handleConnectionClosed(connection);
    this.#drain();
  }

  #open(): void {
    const random = this.#random;
    const connection = this.#nextConnection++;
    const kind = random.below(2) === 0 ? "client" : "peer";
    this.#links.set(connection, { kind, asked: [] });
    const senderLegIndex = random.below(4);
    const hello: Hello = kind === "client"
      ? { protocol: 1, features: random.next(), role: "client", poolUuid: POOL_UUID, legIndex: 0 }
      : {
        protocol: 1,
        features: 0,
        role: "peer",
        poolUuid: POOL_UUID,
        legIndex: 0,
        senderUuid: random.pick(LEG_UUIDS),
        senderLegIndex,
      };
    this.#core.handleHello(connection, 1, hello);
    if (kind === "client" && random.below(3) > 0) this.#deliver(connection, this.#plausible(MessageType.CLAIM, null));
  }

  #frame(): void {
    const random = this.#random;
    const connection = random.pick([...this.#links.keys()]);
    const link = this.#links.get(connection)!;
    let frame: Uint8Array;
    if (random.below(12) === 0) frame = soundFrame(random, 20_000);
    else if (link.asked.length > 0 && random.below(4) > 0) {
      const [asked] = link.asked.splice(random.below(link.asked.length), 1);
      frame = this.#plausible(ANSWERS.get(asked.type) ?? MessageType.ACK, asked);
    } else {
      const types = link.kind === "client" ? CLIENT_TYPES : link.kind === "peer" ? PEER_TYPES : SOURCE_TYPES;
      frame = this.#plausible(random.pick(types), null);
    }
    if (random.below(link.kind === "source" ? 12 : 4) === 0) spoilHeader(random, frame);
    this.#deliver(connection, frame);
  }

  /** The way of a frame from bytes to the core. */
  #deliver(connection: number, frame: Uint8Array): void {
    const opened = openFrame(frame);
    // The driver of a leg refuses a payload of DATA and closes, as for anything that breaks the rules of frames.
    if (opened === null || (opened.message.type === MessageType.DATA && opened.payload.length > 0)) {
      this.#closing.push(connection);
      return;
    }
    if (!opened.parsed.ok) return; // answered with REFUSE by the driver
    const isData = bodyKind(opened.message.type) === "data" && opened.payload.length > 0;
    const slot = isData ? this.#slots.allocate(opened.payload.length) : -1;
    if (isData && slot < 0) return; // memory is short: the connection would pause
    if (isData) this.#slots.fill(slot, opened.payload);
    this.#core.handleMessage(connection, opened.message, slot, isData ? null : opened.parsed.body);
    this.#drain();
  }

  /** A frame of `type` as a sender that follows the protocol might send it now. */
  #plausible(type: number, asked: Message | null): Uint8Array {
    const random = this.#random;
    const message = new Message().reset(type);
    message.requestId = asked === null ? random.below(64) : asked.requestId;
    message.legIndex = asked === null ? random.below(4) : asked.legIndex;
    message.resyncSession = asked === null || random.below(8) === 0 ? 1 + random.below(3) : asked.resyncSession;
    message.watermark = Math.max(0, this.#sequence - random.below(40));
    message.flags = random.pick([0, 0, 1, 4]);
    message.mask = random.pick([0, 0, 2, 4, 6, 255]);
    const lengthBytes = random.pick([512, 4096, 4096, 8192, 65536, 200 * 512, 512 * (1 + random.below(4096))]);
    message.offset = asked === null ? 512 * random.below((SIZE_BYTES - lengthBytes) / 512) : asked.offset;
    // Mostly the same few extents, so that things overlap and wait.
    if (asked === null && random.below(3) > 0) message.offset %= 1 << 20;
    message.length = asked === null ? lengthBytes : asked.length;
    switch (type) {
      case MessageType.WRITE:
      case MessageType.WRITE_ZEROES:
      case MessageType.DISCARD:
        message.length = type === MessageType.WRITE ? Math.min(lengthBytes, MAX_PAYLOAD_BYTES) : lengthBytes;
        message.sequence = ++this.#sequence;
        return frameOf(message, type === MessageType.WRITE ? new Uint8Array(message.length) : null);
      case MessageType.FLUSH:
        message.sequence = this.#sequence;
        return frameOf(message, null);
      case MessageType.PULL:
      case MessageType.HASH:
        message.offset -= message.offset % SHAPE.chunkBytes;
        return frameOf(message, null);
      case MessageType.MAP_FETCH:
        message.sequence = random.below(20_000);
        return frameOf(message, null);
      case MessageType.PULL_DATA: {
        message.status = random.pick([0, 0, 0, 0, -11, -5, -116]);
        const hasData = message.status === 0 && message.length > 0 && message.length <= MAX_PAYLOAD_BYTES;
        return frameOf(message, hasData ? new Uint8Array(message.length) : null);
      }
      case MessageType.MAP_PART:
        message.sequence = random.pick([0, 0, 0, 5000, 20_000]);
        message.status = random.pick([0, 0, 0, -11, -5]);
        return frameOf(message, encodeBody(type, anyWords(random, random.below(8), SIZE_BYTES / SHAPE.chunkBytes)));
      case MessageType.CLEAR:
      case MessageType.HASH_DATA: {
        const count = type === MessageType.HASH_DATA && random.below(4) > 0 ? message.length / 4096 : random.below(8);
        return frameOf(message, encodeBody(type, anyWords(random, Math.floor(count), SIZE_BYTES / SHAPE.chunkBytes)));
      }
      default:
        return frameOf(message, bodyKind(type) === "json" ? encodeBody(type, this.#body(type)) : null);
    }
  }

  #body(type: number): object {
    const random = this.#random;
    const resyncSession = 1 + random.below(3);
    switch (type) {
      case MessageType.CLAIM:
        this.#generation += random.below(3);
        return {
          generation: this.#generation,
          clientUuid: random.pick(CLIENT_UUIDS),
          clientName: "fuzz",
          takeover: random.below(2) === 0,
        };
      case MessageType.EPOCH:
        return {
          shared: this.#nextRecord(),
          droppedMask: random.below(8),
          suspectExtents: this.#anyExtents(),
        } satisfies EpochChange;
      case MessageType.RESYNC:
        return {
          resyncSession,
          mode: random.pick(["dirty", "reconcile"]),
          sources: random.pick([[1], [2], [1, 2], [0], [7], [2, 2]]),
          extents: this.#anyExtents(),
          shared: this.#nextRecord(),
        } satisfies ResyncOrder;
      case MessageType.WELCOME:
        return { protocol: 1, features: 0, instance: INSTANCE, creditRequests: random.below(50), creditBytes: 1 << 20 };
      default:
        return { code: "busy", message: "Not now" };
    }
  }

  #nextRecord(): EpochChange["shared"] {
    const random = this.#random;
    const record = this.#core.snapshot().record.shared as EpochChange["shared"];
    const legs = record.legs.map((leg, index) => {
      const choice = random.below(30);
      if (choice === 0 && index !== 0) return null;
      if (leg === null || choice > 3) return leg ?? firstRecord(7).legs[index];
      return { ...leg, mapIncarnation: leg.mapIncarnation + random.below(2), mapDefaultDirty: random.below(2) === 0 };
    });
    return {
      ...record,
      generation: this.#generation,
      epoch: record.epoch + random.below(3),
      inSyncMask: random.pick([1, 3, 5, 7, 6, 2, 0, 255]),
      legs,
    };
  }

  #anyExtents(): number[] {
    const random = this.#random;
    const extentCount = SIZE_BYTES / SHAPE.extentBytes;
    const few = Array.from({ length: random.below(4) }, () => random.below(extentCount));
    return random.below(10) === 0 ? [...few, random.next53()] : few;
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
      case OutputKind.DISK_READ:
        this.#checkRange(output);
        assert.ok(output.lengthBytes <= MAX_PAYLOAD_BYTES, `A read of ${output.lengthBytes} bytes fits no slot`);
        this.#waitingReads.push({ token: output.token, lengthBytes: output.lengthBytes });
        this.#startReads();
        return;
      case OutputKind.DISK_WRITE:
        this.#checkRange(output);
        this.#slots.checkHolds(output.slot, output.lengthBytes);
        this.#disk.push({ token: output.token, slot: output.slot, isRead: false });
        return;
      case OutputKind.DISK_ZERO:
        this.#checkRange(output);
        this.#disk.push({ token: output.token, slot: -1, isRead: false });
        return;
      case OutputKind.DISK_FLUSH:
        this.#disk.push({ token: output.token, slot: -1, isRead: false });
        return;
      case OutputKind.METADATA_WRITE:
        assert.equal(output.body.length, BLOCK_BYTES);
        assert.ok(output.offset > SUPERBLOCK_OFFSET && output.offset < LAYOUT.dataOffset, `At ${output.offset}`);
        this.#metadata.push(output.token);
        return;
      case OutputKind.HASH:
        this.#slots.checkHolds(output.slot, output.lengthBytes);
        this.#core.handleHashed(output.token, new Uint32Array(2 * Math.ceil(output.lengthBytes / SHAPE.chunkBytes)));
        return;
      case OutputKind.FREE_SLOT:
        this.#slots.free(output.slot);
        return;
      case OutputKind.CONNECT:
        this.#connecting.push(output.legIndex);
        return;
      case OutputKind.CLOSE:
        this.#closing.push(output.connection);
        return;
      case OutputKind.EVENT:
        return;
      default:
        assert.fail(`A leg wants output kind ${output.kind}`);
    }
  }

  #noteAsked(output: Output): void {
    const link = this.#links.get(output.connection);
    if (link === undefined || link.kind !== "source") return;
    link.asked.push(new Message().copyFrom(output.message));
    if (link.asked.length > 64) link.asked.shift();
  }

  #startReads(): void {
    while (this.#waitingReads.length > 0) {
      const slot = this.#slots.allocate(this.#waitingReads[0].lengthBytes);
      if (slot < 0) return;
      this.#disk.push({ token: this.#waitingReads.shift()!.token, slot, isRead: true });
    }
  }

  #checkRange(output: Output): void {
    const { offset, lengthBytes } = output;
    assert.ok(
      offset >= 0 && lengthBytes > 0 && offset + lengthBytes <= SIZE_BYTES && offset % 512 === 0 &&
        lengthBytes % 512 === 0,
      `${lengthBytes} bytes at ${offset} are not in the pool`,
    );
  }
}

/** Returns a function that plays one case: one step in the life of a leg. */
export function legTarget(): (random: Prng) => void {
  let stage: LegStage | null = null;
  let age = 0;
  return (random) => {
    stage ??= new LegStage(random);
    stage.step();
    if (++age % LIFE_CASES !== 0) return;
    stage.end();
    stage = null;
  };
}
