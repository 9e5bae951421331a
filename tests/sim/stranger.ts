/**
 * A program that has no business with the pool. It connects to a leg, greets as a client that claims nothing, as a peer, or as somebody
 * who is neither, and asks for whatever comes to its mind. Nothing of what it says may have an effect: no claim of its own stands behind
 * it, so that every one of its frames has to be refused or passed over.
 *
 * @module
 */

import { CONTROL_REQUEST_IDS } from "../../lib/core/request_table.ts";
import type { Hello } from "../../lib/wire/bodies.ts";
import { Message, MessageType } from "../../lib/wire/message.ts";
import { happens, under } from "./chance.ts";
import { peekRecord } from "./disk_image.ts";
import type { LegProcess } from "./leg_process.ts";
import type { Frame } from "./network.ts";
import { Process } from "./process.ts";
import { GARBAGE } from "./sim_disk.ts";
import { SECTOR_BYTES, SlotOwner } from "./slots.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** How long it stays after it has asked. */
const STAY_MS = 20;
/** A resync session that no client gives out. */
const NO_SESSION = 0xfffffff0;

/** See the module comment. */
export class Stranger extends Process {
  #leg: LegProcess | null = null;
  #role: Hello["role"] = "client";
  #connection = -1;
  #leaveMs = Infinity;
  readonly #message = new Message();

  constructor(world: World) {
    super(world, world.plan.legCount + 3 + world.plan.readerCount, "stranger");
    this.begin();
  }

  /** Goes to a leg; `role`: as what. Only one visit is under way at a time. */
  visit(leg: LegProcess, role: Hello["role"]): void {
    if (this.#leg !== null) return;
    this.#leg = leg;
    this.#role = role;
    this.world.network.connect(this, leg, 0);
  }

  get nextDeadlineMs(): number {
    return this.#leaveMs;
  }

  protected tick(_nowMs: number): void {
    if (this.clockMs < this.#leaveMs) return;
    if (this.#connection >= 0) this.world.network.close(this.#connection);
    this.#leave();
  }

  kill(_power: boolean): void {
    throw new Violation("assertion", "nobody kills a stranger");
  }

  protected drain(): void {}
  checkInvariants(): void {}

  onAccepted(): void {
    throw new Violation("assertion", "nobody connects to a stranger");
  }

  onConnected(_tag: number, connection: number): void {
    this.#connection = connection;
    this.#leaveMs = this.clockMs + 5000;
    const { plan, prng } = this.world;
    const index = under(prng, plan.legCount);
    const message = this.#message.reset(MessageType.HELLO);
    message.requestId = 1;
    this.#send(message, 0, {
      protocol: this.installed.newestProtocol,
      features: this.installed.features,
      role: this.#role,
      poolUuid: plan.shape.poolUuid,
      legIndex: this.#leg!.legIndex,
      senderUuid: happens(prng, 0.5) ? this.world.newUuid() : this.world.legs[index].legUuid || this.world.newUuid(),
      senderLegIndex: this.#role === "peer" ? index : undefined,
      senderName: "stranger",
    });
    this.settle();
  }

  onConnectFailed(): void {
    this.#leave();
  }

  onClosed(): void {
    this.#leave();
  }

  placePayload(): number {
    return -1;
  }

  onFrame(_connection: number, frame: Frame): void {
    const { type, status } = frame.message;
    const isNoRefusal = type === MessageType.GRANT || type === MessageType.EPOCH_DONE ||
      (type === MessageType.ACK && status === 0) || (type === MessageType.DATA && status === 0) ||
      (type === MessageType.HASH_DATA && status === 0) || (type === MessageType.MAP_PART && status === 0) ||
      (type === MessageType.PULL_DATA && status === 0);
    if (isNoRefusal) throw new Violation("served", `${this.#leg!.name} serves a stranger: frame of type ${type}`);
    if (type !== MessageType.WELCOME && type !== MessageType.REFUSE || frame.message.requestId !== 1) return;
    for (let i = 1 + under(this.world.prng, 6); i > 0; i--) this.#ask();
    this.#leaveMs = this.clockMs + STAY_MS;
    this.settle();
  }

  /** A frame as a client, or a peer, sends it. */
  #ask(): void {
    const { prng, plan } = this.world;
    const shared = peekRecord(this.#leg!.disk, this.world.layout.epochOffset).shared;
    const asClient = [
      ...[MessageType.WRITE, MessageType.WRITE_ZEROES, MessageType.DISCARD, MessageType.READ, MessageType.FLUSH],
      ...[MessageType.HASH, MessageType.CLAIM, MessageType.EPOCH, MessageType.DETACH, MessageType.JOIN],
      ...[MessageType.RESYNC, MessageType.PING, MessageType.PULL],
    ];
    const asPeer = [MessageType.MAP_FETCH, MessageType.PULL, MessageType.HASH, MessageType.CLEAR, MessageType.PING];
    const types = this.#role === "peer" ? asPeer : asClient;
    const type = types[under(prng, types.length)];
    const message = this.#message.reset(type);
    message.requestId = 2 + under(prng, CONTROL_REQUEST_IDS - 2);
    message.legIndex = under(prng, plan.legCount);
    message.sequence = 1 + under(prng, 1000);
    message.offset = 8 * SECTOR_BYTES * under(prng, plan.spanSectors >> 3);
    message.length = 8 * SECTOR_BYTES;
    message.mask = under(prng, 1 << plan.legCount);
    message.watermark = under(prng, 1000);
    message.resyncSession = type === MessageType.CLEAR || happens(prng, 0.5) ? NO_SESSION + under(prng, 16) : 0;
    switch (type) {
      case MessageType.WRITE:
        return this.#send(message, 8, null);
      case MessageType.CLEAR:
        return this.#send(message, 0, Uint32Array.of(0, 1));
      case MessageType.CLAIM:
        // A generation of long ago.
        return this.#send(message, 0, {
          generation: 0,
          clientUuid: this.world.newUuid(),
          clientName: "stranger",
          takeover: happens(prng, 0.5),
        });
      case MessageType.EPOCH: {
        const change = { shared: { ...shared, epoch: shared.epoch + 1 }, droppedMask: 1, suspectExtents: [] };
        return this.#send(message, 0, change);
      }
      case MessageType.RESYNC:
        return this.#send(message, 0, { resyncSession: 1, mode: "dirty", sources: [0], extents: [], shared });
      default:
        return this.#send(message, 0, null);
    }
  }

  #send(message: Message, sectors: number, body: unknown): void {
    const { network, slots } = this.world;
    if (sectors === 0) {
      network.send(this.#connection, message, null, body, false);
      return;
    }
    const slot = slots.allocate(this.id, sectors * SECTOR_BYTES, SlotOwner.TRANSPORT);
    slot.values.fill(GARBAGE, 0, sectors);
    message.payloadLength = sectors * SECTOR_BYTES;
    network.send(this.#connection, message, slot, null, true);
    if (slot.sends === 0) slots.free(slot);
  }

  #leave(): void {
    this.#leg = null;
    this.#connection = -1;
    this.#leaveMs = Infinity;
    this.settle();
  }
}
