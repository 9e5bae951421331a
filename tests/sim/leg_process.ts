/**
 * A simulated storage node with one leg: the production `LegServer` over a simulated disk and network, driven the way
 * lib/node drives it.
 *
 * @module
 */

import { Caretaker } from "../../lib/core/caretaker.ts";
import { LegServer } from "../../lib/core/leg_server.ts";
import { type CoreEvent, type Output, OutputKind } from "../../lib/core/output.ts";
import { BLOCK_BYTES } from "../../lib/disk_format/records.ts";
import { type Message, MessageFlag, MessageType } from "../../lib/wire/message.ts";
import type { Hello } from "../../lib/wire/bodies.ts";
import { expectLegBounds } from "./bounds.ts";
import { happens, part } from "./chance.ts";
import { EventKind } from "./event_kind.ts";
import { type DiskImage, loadDisk, peekRecord } from "./disk_image.ts";
import type { Frame } from "./network.ts";
import { Process } from "./process.ts";
import { DiskOp, type DiskOperation, GARBAGE, type SimDisk } from "./sim_disk.ts";
import { SECTOR_BYTES, SlotOwner } from "./slots.ts";
import { describeMessage, describeOutput } from "./trace.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

const EIO = -5;
const ENOSPC = -28;
/** What a connection is to the driver. */
const STRANGER = 1;
const KNOWN = 2;
const CARETAKER = 3;
/** Added to the tags of connections that the caretaker asks for. */
const CARETAKER_TAG = 1000;

/** A leg and its machine. */
export class LegProcess extends Process {
  readonly legIndex: number;
  readonly disk: SimDisk;
  core: LegServer | null = null;
  caretaker: Caretaker | null = null;
  #isCaring = false;
  /** Whether there is a leg on its disk: a blank place is not started. */
  hasLeg = true;
  /** The leg on its disk. */
  legUuid = "";
  /** What the disk held when this life began. */
  image: DiskImage | null = null;
  readonly #roles = new Map<number, number>();
  /** Metadata writes that wait for another at the same offset. */
  readonly #waitingMetadata: DiskOperation[] = [];
  /** A fault that strikes when a copy of this leg's record has landed, before the leg hears of it. */
  onNextRecord: (() => void) | null = null;
  /** Lives of the machine. */
  #boots = 1;
  #hashWords = new Uint32Array(64);

  constructor(world: World, id: number, legIndex: number, disk: SimDisk) {
    super(world, id, `leg-${legIndex}`);
    this.legIndex = legIndex;
    this.disk = disk;
  }

  get nextDeadlineMs(): number {
    return Math.min(this.core!.nextDeadlineMs, this.caretaker?.nextDeadlineMs ?? Infinity);
  }

  /** Where its node can be reached. */
  get addresses(): string[] {
    const count = this.world.plan.pathCounts[this.legIndex] ?? 1;
    return Array.from({ length: count }, (_, path) => `leg-${this.legIndex}:${path + 1}`);
  }

  /** Starts from what is on the disk. */
  start(): void {
    const world = this.world;
    if (!this.hasLeg) return;
    this.begin();
    this.accepts = true;
    this.#roles.clear();
    this.image = loadDisk(this.disk);
    if (world.tracing) world.trace(this.name, `starts; record ${describeImage(this.image)}`);
    this.core = new LegServer({
      superblock: this.image.superblock,
      record: this.image.record,
      intentSlots: this.image.intentSlots,
      intentsDamaged: this.image.intentsDamaged,
      mapPages: this.image.mapPages,
      metadataSequence: this.image.metadataSequence,
      instance: world.newUuid(),
      bootId: world.plan.bootsAreKnown ? `boot ${this.#boots}` : "",
      nowMs: this.clockMs,
      dialect: this.installed,
      addresses: world.plan.pathCounts.length === 0 ? undefined : this.addresses,
      ...world.plan.legOptions,
    });
    this.#isCaring = false;
    this.caretaker = !world.plan.caretakers ? null : new Caretaker(this.core, {
      nowMs: this.clockMs,
      dialect: this.installed,
      wallMs: () => this.wallMs,
      nextRandom: () => world.prng.fraction(),
      newUuid: () => world.newUuid(),
      name: `caretaker of ${this.name}`,
    });
    world.network.processStarted(this);
    this.settle();
  }

  /** The process ends at once. `power`: the machine too, and its disk loses what was not flushed. */
  kill(power: boolean): void {
    if (power) this.#boots++;
    this.onNextRecord = null;
    const world = this.world;
    if (world.tracing) world.trace(this.name, power ? "loses power" : "is killed");
    const wasAlive = this.alive;
    // In a story no chance is involved: a loss of power takes all that was not flushed, and all that was under way.
    const isStory = power && world.stage === "scenario";
    if (wasAlive) {
      this.disk.tearAll(isStory ? null : world.prng);
      // A record that was on its way may have landed: from now on it counts, confirmed or not.
      const { shared, isStable, bootId } = peekRecord(this.disk, world.layout.epochOffset);
      world.losses.recordLanded(this.legIndex, shared);
      this.#waitingMetadata.length = 0;
      this.end(power);
      this.core = null;
      this.caretaker = null;
      world.losses.processEnded(this.legIndex);
      // A flush of its has failed, and it says so: it is no better than one that has lost power.
      if (world.plan.bootsAreKnown && !isStable && bootId === "") world.losses.evidenceLost(this.legIndex);
    }
    if (power) {
      this.disk.losePower(isStory ? null : world.prng);
      world.losses.powerLost(this.legIndex);
    }
  }

  checkInvariants(): void {
    this.core!.checkInvariants();
    this.caretaker?.checkInvariants();
    expectLegBounds(this, this.#roles.size);
  }

  protected tick(nowMs: number): void {
    this.core!.handleTick(nowMs);
    this.caretaker?.handleTick(nowMs);
  }

  // ---- network ----------------------------------------------------------------------------------------------------

  onAccepted(connection: number): void {
    this.#roles.set(connection, STRANGER);
  }

  onConnected(tag: number, connection: number): void {
    this.#roles.set(connection, tag >= CARETAKER_TAG ? CARETAKER : KNOWN);
    if (tag >= CARETAKER_TAG) this.caretaker!.handleConnected(tag - CARETAKER_TAG, connection);
    else this.core!.handleConnected(tag, connection);
    this.settle();
  }

  onConnectFailed(tag: number): void {
    if (tag >= CARETAKER_TAG) this.caretaker!.handleConnectFailed(tag - CARETAKER_TAG);
    else this.core!.handleConnectFailed(tag);
    this.settle();
  }

  onClosed(connection: number): void {
    const role = this.#roles.get(connection);
    this.#roles.delete(connection);
    if (role === CARETAKER) this.caretaker!.handleConnectionClosed(connection);
    else if (role === KNOWN) this.core!.handleConnectionClosed(connection);
    else return;
    this.settle();
  }

  placePayload(_connection: number, _message: Message): number {
    return -1;
  }

  onFrame(connection: number, frame: Frame): void {
    const world = this.world;
    const message = frame.message;
    if (world.tracing) world.trace(this.name, `receives on ${connection}: ${describeMessage(message, frame.body)}`);
    if (this.#roles.get(connection) === STRANGER) {
      if (message.type !== MessageType.HELLO) {
        // A stray frame. The node sends such a one away before any leg hears of it.
        this.#roles.delete(connection);
        return world.network.close(connection);
      }
      this.#roles.set(connection, KNOWN);
      this.core!.handleHello(connection, message.requestId, frame.body as Hello);
      this.settle();
      return;
    }
    if (this.#roles.get(connection) === CARETAKER) {
      if (frame.sectorCount > 0) throw new Violation("assertion", "a caretaker is sent data");
      this.caretaker!.handleMessage(connection, message, frame.body);
      this.settle();
      return;
    }
    let slotIndex = -1;
    if (frame.sectorCount > 0) {
      const slot = world.slots.allocate(this.id, frame.sectorCount * SECTOR_BYTES, SlotOwner.CORE);
      for (let i = 0; i < frame.sectorCount; i++) slot.values[i] = frame.values[i];
      slotIndex = slot.index;
    }
    this.core!.handleMessage(connection, message, slotIndex, frame.body);
    this.settle();
  }

  // ---- what the core wants ------------------------------------------------------------------------------------------

  protected drain(): void {
    const core = this.core!;
    const life = this.life;
    for (let output = core.poll(); output !== null; output = core.poll()) {
      this.#carryOut(output, 0);
      if (this.life !== life) return;
    }
    const caretaker = this.caretaker;
    if (caretaker === null || !caretaker.isAtWork) return;
    for (let output = caretaker.poll(); output !== null; output = caretaker.poll()) {
      this.#carryOut(output, CARETAKER_TAG);
    }
    const servedMask = caretaker.servedMask;
    // It has made them equal, as a client would have.
    if (servedMask !== 0 && !this.#isCaring) this.world.losses.caredFor(this.legIndex, servedMask);
    this.#isCaring = servedMask !== 0;
  }

  /** `tagBase` is added to the tags of connections asked for. */
  #carryOut(output: Output, tagBase: number): void {
    const world = this.world;
    if (world.tracing && output.kind !== OutputKind.FREE_SLOT) world.trace(this.name, describeOutput(output));
    switch (output.kind) {
      case OutputKind.SEND:
        this.#send(output);
        return;
      case OutputKind.DISK_READ: {
        const operation = this.#beginData(DiskOp.READ, output);
        const slot = world.slots.allocate(this.id, output.lengthBytes, SlotOwner.DRIVER);
        slot.values.fill(GARBAGE, 0, operation.sectorCount);
        operation.slot = slot;
        this.#submit(operation);
        return;
      }
      case OutputKind.DISK_WRITE: {
        const operation = this.#beginData(DiskOp.WRITE, output);
        const slot = world.slots.expect(output.slot, this.id, SlotOwner.CORE, "DISK_WRITE");
        slot.sends++;
        operation.slot = slot;
        operation.fua = (output.flags & MessageFlag.FUA) !== 0;
        this.#submit(operation);
        return;
      }
      case OutputKind.DISK_ZERO:
        this.#submit(this.#beginData(DiskOp.ZERO, output));
        return;
      case OutputKind.DISK_FLUSH:
        this.#submit(this.disk.begin(DiskOp.FLUSH, output.token));
        return;
      case OutputKind.METADATA_WRITE:
        this.#writeMetadata(output);
        return;
      case OutputKind.HASH:
        this.#hash(output);
        return;
      case OutputKind.FREE_SLOT: {
        const slot = world.slots.expect(output.slot, this.id, SlotOwner.CORE, "FREE_SLOT");
        if (slot.sends > 0) throw new Violation("slots", `slot ${slot.index} is freed while it is being read`);
        world.slots.free(slot);
        return;
      }
      case OutputKind.CONNECT:
        world.connect(this, output.address, tagBase + output.legIndex);
        return;
      case OutputKind.CLOSE:
        world.network.close(output.connection);
        return;
      case OutputKind.EVENT:
        world.onEvent(this.name, output.body as CoreEvent);
        return;
      default:
        throw new Violation("assertion", `a leg wants output kind ${output.kind}`);
    }
  }

  #send(output: Output): void {
    const world = this.world;
    if (output.slot < 0) {
      world.network.send(output.connection, output.message, null, output.body, false);
      return;
    }
    const slot = world.slots.expect(output.slot, this.id, SlotOwner.CORE, "SEND");
    if (output.freeAfterSend) {
      if (slot.sends > 0) throw new Violation("slots", `slot ${slot.index} is to be freed while it is being read`);
      slot.owner = SlotOwner.TRANSPORT;
    }
    world.network.send(output.connection, output.message, slot, null, output.freeAfterSend);
    if (output.freeAfterSend && slot.sends === 0 && slot.processId === this.id) world.slots.free(slot);
  }

  #hash(output: Output): void {
    const slot = this.world.slots.expect(output.slot, this.id, SlotOwner.CORE, "HASH");
    const sectorsPerChunk = this.image!.superblock.chunkBytes / SECTOR_BYTES;
    const sectors = output.lengthBytes / SECTOR_BYTES;
    const chunks = Math.ceil(sectors / sectorsPerChunk);
    if (this.#hashWords.length < 2 * chunks) this.#hashWords = new Uint32Array(2 * chunks);
    for (let chunk = 0; chunk < chunks; chunk++) {
      let low = 0x811c9dc5;
      let high = 0x9e3779b9;
      for (let i = chunk * sectorsPerChunk; i < Math.min(sectors, (chunk + 1) * sectorsPerChunk); i++) {
        low = Math.imul(low ^ slot.values[i], 0x01000193);
        high = Math.imul(high ^ low, 0x85ebca6b) ^ (high >>> 13);
      }
      this.#hashWords[2 * chunk] = low >>> 0;
      this.#hashWords[2 * chunk + 1] = high >>> 0;
    }
    this.core!.handleHashed(output.token, this.#hashWords.slice(0, 2 * chunks));
  }

  // ---- disk -----------------------------------------------------------------------------------------------------------

  #beginData(op: number, output: Output): DiskOperation {
    const operation = this.disk.begin(op, output.token);
    operation.firstSector = output.offset / SECTOR_BYTES;
    operation.sectorCount = output.lengthBytes / SECTOR_BYTES;
    const end = operation.firstSector + operation.sectorCount;
    if (output.offset % SECTOR_BYTES !== 0 || output.lengthBytes % SECTOR_BYTES !== 0 || end > this.disk.sectorCount) {
      throw new Violation("assertion", `disk I/O of ${output.lengthBytes} bytes at ${output.offset}`);
    }
    return operation;
  }

  #submit(operation: DiskOperation): void {
    const world = this.world;
    this.disk.submit(operation, world.prng);
    operation.submittedMs = world.nowMs;
    const plan = world.plan;
    let latencyMs = plan.diskMeanMs * (1 + plan.diskVariance * (2 * part(world.prng) * part(world.prng) - 0.7));
    if (operation.op === DiskOp.FLUSH) latencyMs *= 4;
    if (happens(world.prng, plan.diskSpikeChance)) latencyMs += part(world.prng) * plan.diskSpikeMs;
    latencyMs += this.disk.delayNext.get(operation.op) ?? 0;
    this.disk.delayNext.delete(operation.op);
    const beginsMs = Math.max(world.nowMs, this.disk.hungUntilMs);
    operation.endsMs = beginsMs + latencyMs * this.slowness;
    world.heap.push(operation.endsMs, EventKind.DISK_DONE, this, this.life).data = operation;
  }

  #writeMetadata(output: Output): void {
    const operation = this.disk.begin(DiskOp.METADATA, output.token);
    const block = output.body as Uint8Array;
    if (block.length !== BLOCK_BYTES) throw new Violation("assertion", `a metadata block of ${block.length} bytes`);
    operation.offset = output.offset;
    operation.block = block;
    // As the metadata store does: one write at a time to one place.
    for (const other of this.disk.inFlight) {
      if (other !== operation && other.op === DiskOp.METADATA && other.offset === output.offset) {
        this.#waitingMetadata.push(operation);
        operation.copy = -1;
        return;
      }
    }
    this.#submit(operation);
  }

  #fails(op: number): boolean {
    const planned = this.disk.failNext.indexOf(op);
    if (planned >= 0) {
      this.disk.failNext.splice(planned, 1);
      return true;
    }
    return this.world.faulty && happens(this.world.prng, this.world.plan.eioChance[op]);
  }

  #strike(): void {
    const strike = this.onNextRecord;
    this.onNextRecord = null;
    strike?.();
  }

  /** The device is through with an operation. */
  onDiskDone(operation: DiskOperation): void {
    const world = this.world;
    const prng = world.prng;
    const isFull = this.disk.lacksSpaceFor(operation);
    const failed = isFull || this.#fails(operation.op) || this.disk.isUnreadable(operation);
    if (failed) this.disk.tear(operation, prng);
    else this.disk.finish(operation, prng);
    if (operation.op === DiskOp.METADATA) {
      world.checks.onMetadata(this, operation.offset);
      if (!failed && operation.copy === 0) {
        operation.copy = 1;
        const life = this.life;
        if (operation.offset === world.layout.epochOffset) this.#strike();
        if (this.life === life) this.#submit(operation);
        return;
      }
    }
    const { op, token, slot, offset, submittedMs } = operation;
    this.disk.end(operation);
    const result = isFull ? ENOSPC : failed ? EIO : 0;
    if (failed) world.counts.faults++;
    if (world.tracing) {
      world.trace(this.name, `disk: ${OP_NAMES[op]} ${token} done${isFull ? ", ENOSPC" : failed ? ", EIO" : ""}`);
    }
    if (op === DiskOp.METADATA) {
      const next = this.#waitingMetadata.findIndex((waiting) => waiting.offset === offset);
      if (next >= 0) {
        const waiting = this.#waitingMetadata.splice(next, 1)[0];
        waiting.copy = 0;
        this.#submit(waiting);
      }
      this.core!.handleMetadataDone(token, result);
    } else {
      let slotIndex = -1;
      if (slot !== null) {
        slotIndex = slot.index;
        if (op === DiskOp.READ) slot.owner = SlotOwner.CORE;
        else slot.sends--;
      }
      this.core!.handleDiskDone(token, result, slotIndex, world.nowMs - submittedMs);
    }
    this.settle();
    if (failed && op !== DiskOp.READ && op !== DiskOp.METADATA) this.#loseAnswer();
  }

  /** Where a client has another path to come back by, it sometimes does not hear that something has failed. */
  #loseAnswer(): void {
    const { world } = this;
    if (!world.faulty || (world.plan.pathCounts[this.legIndex] ?? 1) === 1 || !happens(world.prng, 0.4)) return;
    for (const connection of [...world.network.live]) {
      const ends = connection.ends.map(({ process }) => process);
      if (ends.includes(this) && ends.includes(world.client)) world.network.break(connection);
    }
  }
}

const OP_NAMES = ["read", "write", "zero", "flush", "metadata write"];

function describeImage(image: DiskImage): string {
  const { shared, promisedGeneration } = image.record;
  const intents = Array.from(image.intentSlots).filter((extent) => extent !== 0xffffffff);
  return `${shared.generation}.${shared.epoch} in-sync ${
    shared.inSyncMask.toString(2)
  }, promised ${promisedGeneration}, ` +
    `intents [${intents.join(" ")}]`;
}
