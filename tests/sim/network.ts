/**
 * Connections between simulated processes: in order within a connection and a direction, in no order between connections.
 * A frame is lost only together with all that follow it on its connection. The two ends learn of a loss at different
 * times, or never, so that only their heartbeats tell them. A direction between two processes may be cut: what is sent
 * meanwhile arrives after the cut, or never. A process may be reached by several paths, each of which may be cut for itself.
 *
 * @module
 */

import { Message } from "../../lib/wire/message.ts";
import { encodeBody, parseBody } from "../../lib/wire/body_codec.ts";
import type { EventHeap } from "./event_heap.ts";
import { EventKind } from "./event_kind.ts";
import type { Prng } from "../../lib/base/prng.ts";
import { happens, part, under } from "./chance.ts";
import { garble, type Garbling } from "./forgery.ts";
import type { Process } from "./process.ts";
import { SECTOR_BYTES, type Slot } from "./slots.ts";
import { Violation } from "./violation.ts";

/** Paths of one process at most. */
export const MOST_PATHS = 3;

/** One message on its way. Reused. */
export class Frame {
  readonly message = new Message();
  body: unknown = null;
  /** The payload as it left, when it was taken at once. */
  values = new Int32Array(8);
  sectorCount = 0;
  /** The payload still in the sender's memory, to be taken at delivery. */
  slot: Slot | null = null;
  /** Whether the sender's slot is freed once it was read. */
  freeAfterSend = false;
  /** Direction: the end that receives. */
  toSide = 0;
  /** Where the receiver said the payload goes, when it was asked ahead of delivery. */
  placed = -1;
}

/** One end of a connection. */
interface End {
  process: Process;
  life: number;
  /** Whether this end still holds the connection to be good. */
  open: boolean;
  /** The latest arrival of what was sent to this end. */
  lastArrivalMs: number;
  /** What would arrive at this end later is lost. */
  cutoffMs: number;
  /** Frames to this end whose payload is still in the sender's memory, oldest first. */
  held: Frame[];
  heldArrivalMs: number[];
}

/** A connection; `number` of an end is `id * 2 + side`. Side 0 connected, side 1 accepted. */
export class Connection {
  readonly id: number;
  /** Which of the acceptor's paths it takes. */
  readonly path: number;
  readonly ends: [End, End];

  constructor(id: number, connector: Process, acceptor: Process, path: number) {
    this.id = id;
    this.path = path;
    this.ends = [newEnd(connector), newEnd(acceptor)];
  }
}

function newEnd(process: Process): End {
  return {
    process,
    life: process.life,
    open: false,
    lastArrivalMs: 0,
    cutoffMs: Infinity,
    held: [],
    heldArrivalMs: [],
  };
}

/** Temper of the network of one world. */
export interface NetworkOptions {
  /** Least and mean extra delay of a frame. */
  baseDelayMs: number;
  meanDelayMs: number;
  /** Chance that a frame is delayed by up to `spikeMs`. */
  spikeChance: number;
  spikeMs: number;
  /** Chance that a payload stays in the sender's memory until it is delivered. */
  heldPayloadChance: number;
  /** Chance that the placement of a DATA payload is asked ahead of its delivery. */
  earlyPlacementChance: number;
  /** Chance that an end is never told of a break. */
  silentBreakChance: number;
}

/** All connections of a world. */
export class Network {
  readonly connections: Connection[] = [];
  /** Connections of which an end is open; what faults may hit. */
  readonly live = new Set<Connection>();
  /** Frames to come that are to say something else. */
  readonly garblings: Garbling[] = [];
  framesDelivered = 0;
  #cutUntilMs: Float64Array = new Float64Array(0);
  /** By process and path: until when nothing gets to the process on it, and from it. */
  #pathCutUntilMs: Float64Array = new Float64Array(0);
  #processCount = 0;
  #spare: Frame[] = [];
  #heap: EventHeap;
  #prng: Prng;
  #options: NetworkOptions;
  nowMs = 0;

  constructor(heap: EventHeap, prng: Prng, options: NetworkOptions, processCount: number) {
    this.#heap = heap;
    this.#prng = prng;
    this.#options = options;
    this.#processCount = processCount;
    this.#cutUntilMs = new Float64Array(processCount * processCount);
    this.#pathCutUntilMs = new Float64Array(processCount * MOST_PATHS * 2);
  }

  /** Nothing gets through from one process to another until then. */
  cut(from: number, to: number, untilMs: number): void {
    this.#cutUntilMs[from * this.#processCount + to] = untilMs;
  }

  /** Nothing gets to process `to` by its path `path` until then, or from it. */
  cutPath(to: number, path: number, towards: boolean, untilMs: number): void {
    this.#pathCutUntilMs[(to * MOST_PATHS + path) * 2 + Number(towards)] = untilMs;
  }

  /** All cuts end now. */
  heal(): void {
    this.#cutUntilMs.fill(0);
    this.#pathCutUntilMs.fill(0);
  }

  /** `towards`: from the one that connected to the one that accepted. */
  #delayMs(from: Process, to: Process, path: number, towards: boolean): number {
    const options = this.#options;
    let delay = options.baseDelayMs + part(this.#prng) * part(this.#prng) * 4 * options.meanDelayMs;
    if (options.spikeChance > 0 && happens(this.#prng, options.spikeChance)) {
      delay += part(this.#prng) * options.spikeMs;
    }
    delay *= from.slowness > to.slowness ? from.slowness : to.slowness;
    const acceptor = towards ? to.id : from.id;
    const cutUntil = Math.max(
      this.#cutUntilMs[from.id * this.#processCount + to.id],
      this.#pathCutUntilMs[(acceptor * MOST_PATHS + path) * 2 + Number(towards)],
    );
    return cutUntil > this.nowMs ? cutUntil - this.nowMs + delay : delay;
  }

  /** `from` begins to connect to `to`. Outcomes reach both as events. `tag` comes back to the connector. */
  connect(from: Process, to: Process, tag: number, path = 0): void {
    const arrivalMs = this.nowMs + this.#delayMs(from, to, path, true);
    const event = this.#heap.push(arrivalMs, EventKind.CONNECT_ARRIVES, from, from.life);
    event.a = tag * MOST_PATHS + path;
    event.data = to;
  }

  /** The connection request is there. Called by the world on CONNECT_ARRIVES, whatever life `from` is in. */
  arrive(from: Process, fromLife: number, to: Process, tagAndPath: number): void {
    const path = tagAndPath % MOST_PATHS;
    const tag = Math.floor(tagAndPath / MOST_PATHS);
    const answerMs = this.nowMs + this.#delayMs(to, from, path, false);
    if (!to.accepts) {
      const failMs = to.powered ? answerMs : answerMs + part(this.#prng) * 2000;
      this.#heap.push(failMs, EventKind.CONNECT_FAILED, from, fromLife).a = tag;
      return;
    }
    const connection = new Connection(this.connections.length, from, to, path);
    this.connections.push(connection);
    connection.ends[0].life = fromLife;
    connection.ends[0].lastArrivalMs = answerMs;
    connection.ends[1].open = true;
    this.live.add(connection);
    to.onAccepted(connection.id * 2 + 1);
    const event = this.#heap.push(answerMs, EventKind.CONNECTED, from, fromLife);
    event.a = tag;
    event.data = connection;
  }

  /** The connector learns that it is connected. Called by the world, whatever life the connector is in. */
  established(connection: Connection, tag: number): void {
    const end = connection.ends[0];
    if (end.process.life !== end.life || !end.process.alive) {
      const noticeMs = this.nowMs + this.#delayMs(end.process, connection.ends[1].process, connection.path, true);
      this.#tellClosed(connection, 1, noticeMs);
      return;
    }
    end.open = true;
    this.live.add(connection);
    end.process.onConnected(tag, connection.id * 2);
  }

  /** Whether an end believes in its connection. */
  isOpen(number: number): boolean {
    const connection = this.connections[number >> 1];
    return connection !== undefined && connection.ends[number & 1].open;
  }

  /** The number under which `from` knows an open connection to `to`, or -1. */
  between(from: Process, to: Process): number {
    for (const { id, ends } of this.live) {
      for (let side = 0; side < 2; side++) {
        if (ends[side].process === from && ends[1 - side].process === to && ends[side].open) return 2 * id + side;
      }
    }
    return -1;
  }

  /** The process at the other end. */
  peerOf(number: number): Process {
    return this.connections[number >> 1].ends[1 - (number & 1)].process;
  }

  /**
   * Sends a frame. The payload is in `slot`, or `body` holds JSON or words. Returns false when this end is closed; then
   * the caller still has the slot. When it returns true and the slot is still being read, `slot.sends` has grown, and
   * `onSent` of the sender follows.
   */
  send(number: number, message: Message, slot: Slot | null, body: unknown, freeAfterSend: boolean): boolean {
    const connection = this.connections[number >> 1];
    const side = number & 1;
    const from = connection?.ends[side];
    if (from === undefined || !from.open) return false;
    const toSide = 1 - side;
    const to = connection.ends[toSide];
    const frame = this.#spare.pop() ?? new Frame();
    frame.message.copyFrom(message);
    frame.toSide = toSide;
    frame.slot = null;
    frame.sectorCount = 0;
    frame.placed = -1;
    frame.body = body === null ? null : overTheWire(frame.message, body);
    if (this.garblings.length > 0) garble(this.garblings, from.process, to.process, frame);
    let arrivalMs = this.nowMs + this.#delayMs(from.process, to.process, connection.path, side === 0);
    const previousArrivalMs = to.lastArrivalMs;
    if (arrivalMs < previousArrivalMs) arrivalMs = previousArrivalMs;
    to.lastArrivalMs = arrivalMs;
    if (slot !== null) {
      frame.sectorCount = Math.ceil(message.payloadLength / SECTOR_BYTES);
      if (happens(this.#prng, this.#options.heldPayloadChance)) {
        frame.slot = slot;
        frame.freeAfterSend = freeAfterSend;
        slot.sends++;
        to.held.push(frame);
        to.heldArrivalMs.push(arrivalMs);
      } else {
        copyValues(slot, frame);
      }
    }
    if (to.process.placesPayloads && frame.sectorCount > 0 && happens(this.#prng, this.#options.earlyPlacementChance)) {
      // Placement does not overtake what was sent before.
      const placeMs = Math.max(this.nowMs, previousArrivalMs, arrivalMs - part(this.#prng));
      this.#heap.push(placeMs, EventKind.PLACE, connection, 0).data = frame;
    }
    this.#heap.push(arrivalMs, EventKind.FRAME, connection, 0).data = frame;
    return true;
  }

  /** The first bytes of a payload arrived: its place is asked for. */
  place(connection: Connection, frame: Frame): void {
    const end = connection.ends[frame.toSide];
    if (!end.open || this.nowMs > end.cutoffMs || end.process.life !== end.life) return;
    frame.placed = end.process.placePayload(connection.id * 2 + frame.toSide, frame.message);
  }

  /** A frame is there. */
  deliver(connection: Connection, frame: Frame): void {
    const end = connection.ends[frame.toSide];
    const sender = connection.ends[1 - frame.toSide];
    const arrives = end.open && this.nowMs <= end.cutoffMs && end.process.life === end.life;
    if (frame.slot !== null) {
      const slot = frame.slot;
      if (arrives) copyValues(slot, frame);
      const at = end.held.indexOf(frame);
      end.held.splice(at, 1);
      end.heldArrivalMs.splice(at, 1);
      this.#unhold(sender, frame, slot);
    }
    if (arrives) {
      this.framesDelivered++;
      end.process.onFrame(connection.id * 2 + frame.toSide, frame);
    }
    this.#recycle(frame);
  }

  #unhold(sender: End, frame: Frame, slot: Slot): void {
    frame.slot = null;
    slot.sends--;
    sender.process.onSent(slot, frame.freeAfterSend);
  }

  #recycle(frame: Frame): void {
    frame.body = null;
    frame.slot = null;
    this.#spare.push(frame);
  }

  /** This end closes. It is told so itself, and the other end learns of it. */
  close(number: number): void {
    const connection = this.connections[number >> 1];
    const side = number & 1;
    if (connection === undefined || !connection.ends[side].open) return;
    const end = connection.ends[side];
    this.#endOpen(connection, side);
    this.#heap.push(this.nowMs, EventKind.CLOSED, end.process, end.life).a = number;
    this.#tellPeer(connection, 1 - side, true);
  }

  /** The connection breaks somewhere between the ends. */
  break(connection: Connection): void {
    for (let side = 0; side < 2; side++) {
      if (connection.ends[side].open) {
        this.#tellPeer(connection, side, !happens(this.#prng, this.#options.silentBreakChance));
      }
    }
  }

  /** The process ended. `told`: its operating system lives and closes the connections. */
  processDied(process: Process, told: boolean): void {
    for (const connection of this.live) {
      for (let side = 0; side < 2; side++) {
        if (connection.ends[side].process !== process || !connection.ends[side].open) continue;
        this.#endOpen(connection, side);
        const peer = connection.ends[1 - side];
        if (peer.open) this.#tellPeer(connection, 1 - side, told);
        else this.live.delete(connection);
      }
    }
  }

  /** The machine is back: what is sent on connections of a former life is answered with a reset. */
  processStarted(process: Process): void {
    for (const connection of this.live) {
      for (let side = 0; side < 2; side++) {
        const end = connection.ends[side];
        if (end.process !== process || end.life === process.life || !connection.ends[1 - side].open) continue;
        this.#tellClosed(connection, 1 - side, this.nowMs + part(this.#prng) * 1000);
      }
    }
  }

  /** From some moment on nothing arrives at this end any more; it learns of it, or not. */
  #tellPeer(connection: Connection, side: number, told: boolean): void {
    const end = connection.ends[side];
    const sender = connection.ends[1 - side];
    const horizonMs = end.lastArrivalMs - this.nowMs;
    let cutoffMs = this.nowMs;
    const fate = under(this.#prng, 3); // all in flight is lost, arrives, or a part arrives
    if (horizonMs > 0) cutoffMs += fate === 0 ? 0 : fate === 1 ? horizonMs : part(this.#prng) * horizonMs;
    // What is in the memory of a process that is no more cannot leave it.
    if (!sender.process.alive || sender.process.life !== sender.life) {
      if (end.held.length > 0) cutoffMs = Math.min(cutoffMs, end.heldArrivalMs[0] - 1e-6);
    }
    end.cutoffMs = Math.min(end.cutoffMs, cutoffMs);
    if (told) {
      const noticeMs = this.nowMs + this.#delayMs(sender.process, end.process, connection.path, side === 1);
      this.#tellClosed(connection, side, Math.max(noticeMs, end.cutoffMs));
    }
  }

  #tellClosed(connection: Connection, side: number, atMs: number): void {
    const end = connection.ends[side];
    const event = this.#heap.push(atMs, EventKind.CLOSED_BY_PEER, connection, end.life);
    event.a = side;
  }

  /** An end hears that its connection is gone. */
  closedByPeer(connection: Connection, side: number): void {
    const end = connection.ends[side];
    if (!end.open || end.process.life !== end.life) return;
    this.#endOpen(connection, side);
    if (!connection.ends[1 - side].open) this.live.delete(connection);
    end.process.onClosed(connection.id * 2 + side);
  }

  /** This end no longer sends or receives; payloads it still held for sending are released. */
  #endOpen(connection: Connection, side: number): void {
    const end = connection.ends[side];
    end.open = false;
    end.cutoffMs = Math.min(end.cutoffMs, this.nowMs);
    const peer = connection.ends[1 - side];
    if (peer.held.length === 0) return;
    // What was not taken from memory yet never leaves; nothing sent after it may arrive either.
    peer.cutoffMs = Math.min(peer.cutoffMs, peer.heldArrivalMs[0] - 1e-6);
    const alive = end.process.alive && end.process.life === end.life;
    for (const frame of peer.held) {
      const slot = frame.slot!;
      frame.slot = null;
      if (!alive) continue;
      slot.sends--;
      end.process.onSent(slot, frame.freeAfterSend);
    }
    peer.held.length = 0;
    peer.heldArrivalMs.length = 0;
  }
}

function copyValues(slot: Slot, frame: Frame): void {
  const count = frame.sectorCount;
  if (frame.values.length < count) frame.values = new Int32Array(Math.max(count, frame.values.length * 2));
  const from = slot.values;
  if (count > from.length) {
    throw new Violation(
      "slots",
      `a message of ${count} sectors is sent from slot ${slot.index} of ${from.length} sectors`,
    );
  }
  for (let i = 0; i < count; i++) frame.values[i] = from[i];
}

/** What the receiver makes of a body. */
function overTheWire(message: Message, body: unknown): unknown {
  const bytes = encodeBody(message.type, body);
  message.payloadLength = bytes.length;
  const parsed = parseBody(message.type, bytes);
  if (!parsed.ok) throw new Violation("assertion", `the core sent a body its peer refuses: ${parsed.message}`);
  return parsed.body;
}
