/**
 * Fuzzing a whole storage node from the network: the real data plane (`StorageWorker`, `LegDriver`, `LegServer`) behind the real TCP
 * transport, over streams in memory and a disk that answers late and sometimes with an error.
 *
 * Attackers connect, may or may not introduce themselves, send frames that are plausible, spoiled or noise, in pieces, and go when they
 * like. What must hold: nothing is thrown; the disk is asked for nothing outside of the leg; when all attackers are gone and the disk
 * is at rest, no memory is in anyone's hands.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Prng } from "../../lib/base/prng.ts";
import { Caretaker } from "../../lib/core/caretaker.ts";
import { LegServer } from "../../lib/core/leg_server.ts";
import { MemoryBufferPool } from "../../lib/io/memory_buffer_pool.ts";
import type { Reactor } from "../../lib/io/reactor.ts";
import { LegDriver } from "../../lib/node/leg_driver.ts";
import { StorageWorker } from "../../lib/node/storage_worker.ts";
import type { BlockStore } from "../../lib/store/block_store.ts";
import { TcpTransport } from "../../lib/transport/tcp_transport.ts";
import type { EpochChange } from "../../lib/wire/bodies.ts";
import { encodeBody } from "../../lib/wire/body_codec.ts";
import { decodeHeader, HEADER_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { type MemoryStream, MemoryStreamNetwork } from "../unit/transport/memory_stream.ts";
import { fillRandom, frameOf, soundFrame, spoilBytes, spoilHeader } from "./fuzz_frames.ts";
import {
  ANSWERS,
  CLIENT_TYPES,
  helloTo,
  INSTANCE,
  LAYOUT,
  LegFrames,
  legOptions,
  PEER_TYPES,
  SIZE_BYTES,
  SOURCE_TYPES,
} from "./fuzz_leg_frames.ts";

const POOL_BYTES = 16 << 20;
/** Cases that one node lives through. */
const LIFE_CASES = 2000;
const MOST_ATTACKERS = 6;
/** Most bytes an attacker has ready to be received. */
const MOST_READY_BYTES = 1 << 20;

/** One connection of the node, seen from the other end. */
interface Attacker {
  /** The node's end. */
  readonly far: MemoryStream;
  readonly near: MemoryStream;
  readonly kind: "client" | "peer" | "source" | "stranger";
  /** Frames the node has sent it, to be answered. */
  readonly asked: Message[];
  ready: Uint8Array;
}

/** A disk that does nothing but answer, in any order. */
class LateDisk implements BlockStore {
  readonly path = "memory";
  readonly sizeBytes = LAYOUT.deviceBytes;
  readonly logicalBlockBytes = 512;
  readonly pending: { readonly token: number; readonly isMetadata: boolean }[] = [];
  readonly #pool: MemoryBufferPool;

  constructor(pool: MemoryBufferPool) {
    this.#pool = pool;
  }

  read(token: number, slot: number, lengthBytes: number, offset: number): void {
    this.write(token, slot, lengthBytes, offset);
  }

  write(token: number, slot: number, lengthBytes: number, offset: number): void {
    assert.ok(this.#pool.capacity(slot) >= lengthBytes, "The slot holds what is read or written");
    this.zero(token, lengthBytes, offset);
  }

  zero(token: number, lengthBytes: number, offset: number): void {
    assert.ok(lengthBytes > 0 && offset >= LAYOUT.dataOffset && offset + lengthBytes <= LAYOUT.dataOffset + SIZE_BYTES);
    assert.ok(offset % 512 === 0 && lengthBytes % 512 === 0);
    this.flush(token);
  }

  flush(token: number): void {
    this.pending.push({ token, isMetadata: false });
  }

  writeTwin(token: number, offset: number, block: Uint8Array): void {
    assert.ok(
      block.length === 4096 && offset >= LAYOUT.epochOffset && offset + 8192 <= LAYOUT.dataOffset,
      `At ${offset}`,
    );
    this.pending.push({ token, isMetadata: true });
  }

  close(): void {}
}

/** What the worker asks of a reactor when its sockets and disks are not on one: the time. */
class ClockOnly {
  nowMs = 1000;
}

/** A node and those who do it harm. */
class NodeStage {
  readonly #random: Prng;
  readonly #pool = new MemoryBufferPool(POOL_BYTES);
  readonly #clock = new ClockOnly();
  readonly #network = new MemoryStreamNetwork({ stagingBytes: 4096, areaBytes: 8192, copyBytes: 1024, maxPieces: 8 });
  readonly #worker: StorageWorker;
  readonly #transport: TcpTransport;
  readonly #driver: LegDriver;
  readonly #disk: LateDisk;
  readonly #frames: LegFrames;
  readonly #attackers = new Set<Attacker>();
  readonly #address: string;

  constructor(random: Prng) {
    this.#random = random;
    this.#worker = new StorageWorker(this.#clock as unknown as Reactor, this.#pool, INSTANCE, () => {});
    this.#transport = new TcpTransport(this.#network, this.#pool, this.#worker, { report: () => {} });
    this.#worker.transport = this.#transport;
    this.#address = this.#transport.listen("memory:0").boundAddress;
    const options = legOptions(random, this.#clock.nowMs);
    const core = new LegServer(options);
    const caretaker = new Caretaker(core, {
      nowMs: this.#clock.nowMs,
      wallMs: () => this.#clock.nowMs,
      nextRandom: () => random.fraction(),
      newUuid: () => INSTANCE,
      name: "caretaker",
    });
    this.#driver = new LegDriver(this.#worker, options.superblock, "memory", core, caretaker);
    this.#disk = new LateDisk(this.#pool);
    this.#driver.attach({ blocks: this.#disk, metadata: this.#disk, close: () => {} });
    this.#worker.addLeg(this.#driver);
    this.#frames = new LegFrames(random, () => core.snapshot().record.shared as EpochChange["shared"]);
    // The addresses of the other legs: whoever the node connects to is an attacker as well.
    for (let leg = 0; leg < 3; leg++) {
      this.#network.listen(`10.0.0.${leg}:7701`, (_peer, open) => this.#add(open, "source"));
    }
  }

  /** One thing happens, and the node's loop turns once. */
  step(): void {
    const random = this.#random;
    const attackers = [...this.#attackers];
    switch (random.below(10)) {
      case 0:
      case 1:
        this.#diskAnswers();
        break;
      case 2:
        this.#clock.nowMs += random.below(60) === 0 ? 5000 : random.below(100);
        break;
      case 3:
        if (attackers.length > 0 && random.below(6) === 0) this.#leave(random.pick(attackers));
        break;
      default:
        if (attackers.length < MOST_ATTACKERS) this.#arrive();
        else this.#attack(random.pick(attackers));
    }
    this.#turn();
  }

  /** Everyone goes and the disk comes to rest: nothing may be left. */
  end(): void {
    for (const attacker of [...this.#attackers]) this.#leave(attacker);
    for (let i = 0; i < 200 || this.#disk.pending.length > 0; i++) {
      assert.ok(i < 20_000, "A node that nobody speaks to comes to rest");
      while (this.#disk.pending.length > 0) this.#diskAnswers();
      this.#clock.nowMs += 200;
      this.#turn();
      for (const attacker of [...this.#attackers]) this.#leave(attacker); // the node may connect anew
    }
    this.#transport.closeAll();
    this.#network.run();
    assert.equal(this.#transport.connectionCount, 0);
    assert.ok(this.#driver.isQuiet);
    assert.equal(this.#pool.usedBytes, 0, "No slot is lost");
  }

  #turn(): void {
    this.#network.run();
    this.#worker.afterTurn();
    for (const attacker of this.#attackers) this.#receive(attacker);
    this.#network.run();
  }

  #diskAnswers(): void {
    const { pending } = this.#disk;
    if (pending.length === 0) return;
    const [done] = pending.splice(this.#random.below(pending.length), 1);
    const result = this.#random.below(40) === 0 ? -5 : 0;
    if (done.isMetadata) this.#driver.onMetadataDone(done.token, result);
    else this.#driver.onBlockDone(done.token, result);
  }

  #arrive(): void {
    const kind = this.#random.pick(["client", "client", "peer", "stranger"] as const);
    let near: MemoryStream | null = null;
    const attacker = this.#newAttacker();
    this.#network.connect(this.#address, {
      protocol: attacker.protocol,
      onConnected: (stream) => near = stream as MemoryStream,
      onConnectFailed: () => {},
    });
    this.#network.run();
    if (near === null) return;
    this.#join(attacker, near, kind);
    if (kind === "stranger") return;
    const hello = new Message().reset(MessageType.HELLO);
    this.#ready(attacker.self!, frameOf(hello, encodeBody(MessageType.HELLO, helloTo(this.#random, kind))));
    if (kind === "client") this.#ready(attacker.self!, this.#frames.plausible(MessageType.CLAIM, null));
  }

  /** The node connects to us. */
  #add(open: (protocol: NoteTaker) => unknown, kind: Attacker["kind"]): void {
    const attacker = this.#newAttacker();
    const near = open(attacker.protocol) as MemoryStream;
    // Its other end is known once the connect is through.
    this.#network.later(() => this.#join(attacker, near, kind));
  }

  #newAttacker(): { protocol: NoteTaker; self: Attacker | null } {
    const made: { protocol: NoteTaker; self: Attacker | null } = { protocol: new NoteTaker(), self: null };
    made.protocol.onEnd = () => {
      if (made.self !== null) this.#attackers.delete(made.self);
    };
    return made;
  }

  #join(made: { protocol: NoteTaker; self: Attacker | null }, near: MemoryStream, kind: Attacker["kind"]): void {
    if (near.ended || near.peer === null) return;
    made.self = { far: near.peer, near, kind, asked: made.protocol.asked, ready: new Uint8Array(0) };
    this.#attackers.add(made.self);
  }

  #leave(attacker: Attacker): void {
    attacker.near.close();
    this.#attackers.delete(attacker);
    this.#network.run();
  }

  #attack(attacker: Attacker): void {
    const random = this.#random;
    let frame: Uint8Array;
    if (random.below(60) === 0) {
      frame = new Uint8Array(1 + random.below(200));
      fillRandom(random, frame);
    } else if (attacker.kind === "stranger" || random.below(15) === 0) frame = soundFrame(random, 70_000);
    else if (attacker.kind === "source" && attacker.asked.length > 0) {
      const [asked] = attacker.asked.splice(random.below(attacker.asked.length), 1);
      frame = this.#frames.plausible(ANSWERS.get(asked.type) ?? MessageType.ACK, asked);
    } else {
      const types = attacker.kind === "client" ? CLIENT_TYPES : attacker.kind === "peer" ? PEER_TYPES : SOURCE_TYPES;
      frame = this.#frames.plausible(random.pick(types), null);
    }
    if (random.below(15) === 0) spoilHeader(random, frame);
    if (random.below(80) === 0) frame = spoilBytes(random, frame);
    this.#ready(attacker, frame);
  }

  #ready(attacker: Attacker, frame: Uint8Array): void {
    if (attacker.ready.length < MOST_READY_BYTES) attacker.ready = Buffer.concat([attacker.ready, frame]);
  }

  /** As much of what is ready as the node takes, in pieces; now and then not all of it. */
  #receive(attacker: Attacker): void {
    const random = this.#random;
    let at = 0;
    while (at < attacker.ready.length && !attacker.far.ended && random.below(50) > 0) {
      const most = Math.min(attacker.ready.length - at, attacker.far.room);
      if (most === 0) break;
      const pieceBytes = random.below(3) === 0 ? 1 + random.below(most) : most;
      attacker.far.receive(attacker.ready.subarray(at, at + pieceBytes));
      at += pieceBytes;
    }
    attacker.ready = attacker.ready.subarray(at);
  }
}

/** Reads what the node sends: headers are kept, payloads skipped. */
class NoteTaker {
  readonly asked: Message[] = [];
  onEnd: () => void = () => {};
  #skipBytes = 0;

  onBytes(_staging: Uint8Array, view: DataView, start: number, end: number): number {
    let at = start;
    for (;;) {
      const skippedBytes = Math.min(this.#skipBytes, end - at);
      this.#skipBytes -= skippedBytes;
      at += skippedBytes;
      if (this.#skipBytes > 0 || end - at < HEADER_BYTES) return at - start;
      const message = new Message();
      assert.equal(decodeHeader(view, at, message), null, "What a node sends is sound");
      at += HEADER_BYTES;
      this.#skipBytes = message.payloadLength;
      this.asked.push(message);
      if (this.asked.length > 32) this.asked.shift();
    }
  }

  onPayload(): void {}
  onSent(): void {}
  onClosed(): void {
    this.onEnd();
  }
}

/** Returns a function that plays one case: one step in the life of a node. */
export function nodeTarget(): (random: Prng) => void {
  let stage: NodeStage | null = null;
  let age = 0;
  return (random) => {
    stage ??= new NodeStage(random);
    stage.step();
    if (++age % LIFE_CASES !== 0) return;
    stage.end();
    stage = null;
  };
}
