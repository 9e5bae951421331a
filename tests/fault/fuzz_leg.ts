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
import { SUPERBLOCK_OFFSET } from "../../lib/disk_format/layout.ts";
import { BLOCK_BYTES } from "../../lib/disk_format/records.ts";
import type { EpochChange } from "../../lib/wire/bodies.ts";
import { bodyKind } from "../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { openFrame, soundFrame, spoilHeader } from "./fuzz_frames.ts";
import {
  ANSWERS,
  CLIENT_TYPES,
  helloTo,
  LAYOUT,
  LegFrames,
  legOptions,
  PEER_TYPES,
  SHAPE,
  SIZE_BYTES,
  SOURCE_TYPES,
} from "./fuzz_leg_frames.ts";
import { FuzzSlots } from "./fuzz_slots.ts";

/** Cases that one leg lives through. */
const LIFE_CASES = 3000;
const MOST_CONNECTIONS = 6;

/** What the network knows of a connection. */
interface Link {
  readonly kind: "client" | "reader" | "peer" | "source";
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
  readonly #frames: LegFrames;
  readonly #slots = new FuzzSlots();
  readonly #links = new Map<number, Link>();
  readonly #disk: DiskTask[] = [];
  readonly #metadata: number[] = [];
  readonly #waitingReads: { token: number; lengthBytes: number }[] = [];
  readonly #connecting: number[] = [];
  readonly #closing: number[] = [];
  #nextConnection = 1;
  #nowMs = 1000;

  constructor(random: Prng) {
    this.#random = random;
    this.#core = new LegServer(legOptions(random, this.#nowMs));
    this.#frames = new LegFrames(random, () => this.#core.snapshot().record.shared as EpochChange["shared"]);
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
    const kind = random.pick(["client", "peer", "client", "peer", "reader"] as const);
    this.#links.set(connection, { kind, asked: [] });
    this.#core.handleHello(connection, 1, helloTo(random, kind));
    if (kind === "client" && random.below(3) > 0) {
      this.#deliver(connection, this.#frames.plausible(MessageType.CLAIM, null));
    }
  }

  #frame(): void {
    const random = this.#random;
    const connection = random.pick([...this.#links.keys()]);
    const link = this.#links.get(connection)!;
    let frame: Uint8Array;
    if (random.below(12) === 0) frame = soundFrame(random, 20_000);
    else if (link.asked.length > 0 && random.below(4) > 0) {
      const [asked] = link.asked.splice(random.below(link.asked.length), 1);
      frame = this.#frames.plausible(ANSWERS.get(asked.type) ?? MessageType.ACK, asked);
    } else {
      const types = link.kind === "peer" ? PEER_TYPES : link.kind === "source" ? SOURCE_TYPES : CLIENT_TYPES;
      frame = this.#frames.plausible(random.pick(types), null);
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
