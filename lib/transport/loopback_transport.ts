/**
 * Frames in memory: transports for tests and simulators, whose network stands still until it is told to deliver.
 *
 * A `LoopbackNetwork` joins any number of transports in one isolate. Each step delivers one thing to one end of one
 * connection: news of a connect, half of a frame, a returned token, an end. Per connection and direction the order is
 * kept; between them the caller chooses (`deliverable`, `deliver`), or lets the oldest go first (`deliverOne`).
 *
 * Made to find mistakes of its users that a real network only shows under load:
 * - Frames leave at `flushSends` and not before.
 * - A payload is taken from the sender's slot when it is delivered, not when it is sent, and checked against the sum made
 *   when it was sent. Who changes or frees a slot before `onSent` gets a broken connection.
 * - A payload arrives in two steps. What ends in between leaves half a payload in the slot of the receiver.
 *
 * Frames pass through the real header encoding and the rules of frames. Not for speed: steps allocate.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message } from "../wire/message.ts";
import { CloseReason } from "./close_reason.ts";
import { frameFault } from "./frame_rules.ts";
import { isPayloadSound, setPayloadFields } from "./payload_crc.ts";
import type { ConnectionStats, Transport, TransportHandler } from "./transport.ts";

/** What may be chosen for one transport. */
export interface LoopbackOptions {
  /** As in TcpTransportOptions. */
  readonly checksums?: boolean;
  /** As in TcpTransportOptions. */
  readonly maxQueuedBytes?: number;
}

/** A frame under way. The payload is read from `source` when it is delivered. */
interface Frame {
  readonly kind: "frame";
  readonly header: Uint8Array;
  readonly source: Uint8Array | null;
  readonly payloadLength: number;
  readonly token: number;
  /** What is delivered instead, once `corrupt` has had the frame. */
  damaged?: { readonly header: Uint8Array; readonly payload: Uint8Array | null };
}

type Arrival =
  & (
    | Frame
    | { readonly kind: "accepted"; readonly listener: number; readonly peerAddress: string }
    | { readonly kind: "connected" }
    | { readonly kind: "end"; readonly reason: number }
  )
  & { order?: number };

type EndState = "connecting" | "open" | "ending" | "gone";

/** One end of a connection. To a test it is a handle: which transport, which number. */
export class LoopbackEnd {
  readonly transport: LoopbackTransport;
  readonly connection: number;
  readonly peerAddress: string;
  /** @internal */
  readonly stats: ConnectionStats = { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
  /** @internal */
  peer: LoopbackEnd | null = null;
  /** @internal */
  state: EndState = "connecting";
  /** @internal Frames sent since the last flush. */
  readonly outbox: Frame[] = [];
  /** @internal */
  readonly inbox: Arrival[] = [];
  /** @internal Tokens to be returned. */
  readonly returnedTokens: { readonly token: number; readonly order: number }[] = [];
  /** @internal Slot of the payload of which half has arrived, or -1. */
  placedSlot = -1;
  /** @internal */
  paused = false;
  /** @internal */
  endReason = 0;
  /** @internal */
  endOrder = 0;
  /** @internal */
  lastReceivedMs = 0;

  constructor(transport: LoopbackTransport, connection: number, peerAddress: string) {
    this.transport = transport;
    this.connection = connection;
    this.peerAddress = peerAddress;
  }

  /** @internal Order of the oldest thing that can be delivered here, or Infinity. */
  get oldestOrder(): number {
    if (this.returnedTokens.length > 0) return this.returnedTokens[0].order;
    if (this.state === "ending") return this.endOrder;
    if (this.state === "gone" || this.paused || this.inbox.length === 0) return Infinity;
    return this.inbox[0].order!;
  }
}

/** Joins loopback transports. See the module's description. */
export class LoopbackNetwork {
  /** The clock that `lastReceivedMs` shows. */
  nowMs = 0;
  /** May change a frame on its way (copies): for tests of what damage does. */
  corrupt: ((header: Uint8Array, payload: Uint8Array | null) => void) | null = null;
  /** Hears why a connection was closed by the receiver of a bad frame. */
  report: (text: string) => void = () => {};
  readonly #ends = new Set<LoopbackEnd>();
  readonly #listeners = new Map<string, { transport: LoopbackTransport; listener: number }>();
  #order = 0;
  #nextPort = 30000;

  /** A new transport on this network. */
  transport(pool: BufferPool, handler: TransportHandler, options: LoopbackOptions = {}): LoopbackTransport {
    return new LoopbackTransport(this, pool, handler, options);
  }

  /** Ends of connections where something waits to be delivered, in the order of their making. */
  deliverable(): LoopbackEnd[] {
    return [...this.#ends].filter((end) => end.oldestOrder < Infinity);
  }

  /** Delivers what has waited longest. False when nothing can be delivered. */
  deliverOne(): boolean {
    let oldest: LoopbackEnd | null = null;
    for (const end of this.#ends) {
      if (end.oldestOrder < (oldest?.oldestOrder ?? Infinity)) oldest = end;
    }
    if (oldest === null) return false;
    this.deliver(oldest);
    return true;
  }

  /** Delivers until nothing can be delivered, also what is sent and flushed meanwhile. Returns the number of steps. */
  deliverAll(): number {
    let steps = 0;
    while (this.deliverOne()) steps++;
    return steps;
  }

  /** Delivers the next thing to `end`, which must be deliverable. */
  deliver(end: LoopbackEnd): void {
    assert(end.oldestOrder < Infinity, "Something can be delivered here", end.connection);
    const { handler } = end.transport;
    const returned = end.returnedTokens.shift();
    if (returned !== undefined) return handler.onSent(end.connection, returned.token);
    if (end.state === "ending") return this.#tellEnd(end);
    const arrival = end.inbox[0];
    switch (arrival.kind) {
      case "accepted":
        end.inbox.shift();
        return handler.onAccepted(end.connection, arrival.listener, arrival.peerAddress);
      case "connected":
        return this.#join(end);
      case "end":
        return this.end(end, arrival.reason);
      case "frame":
        return this.#deliverFrame(end, arrival);
    }
  }

  /** Cuts a connection: both ends are told `reason`. What was under way is lost. */
  break(transport: LoopbackTransport, connection: number, reason: number = CloseReason.RESET): void {
    const end = transport.endOf(connection);
    assert(end !== null, "The connection stands", connection);
    if (end.peer !== null) this.end(end.peer, reason);
    this.end(end, reason);
  }

  /** @internal */
  addListener(address: string, transport: LoopbackTransport, listener: number): string {
    const boundAddress = address.replace(/:0$/, () => `:${this.#nextPort++}`);
    if (this.#listeners.has(boundAddress)) throw new Error(`Address "${boundAddress}" is in use`);
    this.#listeners.set(boundAddress, { transport, listener });
    return boundAddress;
  }

  /** @internal */
  removeListener(address: string): void {
    this.#listeners.delete(address);
  }

  /** @internal */
  addEnd(end: LoopbackEnd): void {
    this.#ends.add(end);
  }

  /** @internal */
  arrive(end: LoopbackEnd, arrival: Arrival): void {
    arrival.order = this.#order++;
    end.inbox.push(arrival);
  }

  /** @internal Ends one end: frames from and to it are lost, tokens go back, `onClosed` is what remains to be told. */
  end(end: LoopbackEnd, reason: number): void {
    if (end.state === "ending" || end.state === "gone") return;
    end.state = "ending";
    end.endReason = reason;
    end.paused = false;
    this.#dropFrames(end.outbox, end);
    if (end.peer !== null) {
      this.#dropFrames(end.inbox, end.peer);
      this.#dropFrames(end.peer.inbox, end);
      end.peer.paused = false;
    }
    end.inbox.length = 0;
    end.endOrder = this.#order++;
  }

  #dropFrames(queue: Arrival[], sender: LoopbackEnd): void {
    const kept = queue.filter((arrival) => {
      if (arrival.kind === "frame") this.#returnToken(sender, arrival.token);
      return arrival.kind !== "frame";
    });
    queue.length = 0;
    queue.push(...kept);
  }

  #returnToken(sender: LoopbackEnd, token: number): void {
    if (token >= 0 && sender.state !== "gone") sender.returnedTokens.push({ token, order: this.#order++ });
  }

  #tellEnd(end: LoopbackEnd): void {
    end.state = "gone";
    this.#ends.delete(end);
    end.transport.handler.onClosed(end.connection, end.endReason);
    end.transport.forget(end);
  }

  /** The attempt to connect arrives at the listener. */
  #join(end: LoopbackEnd): void {
    if (end.peer === null) {
      const found = this.#listeners.get(end.peerAddress);
      if (found === undefined) return this.end(end, CloseReason.REFUSED);
      const far = found.transport.newEnd(`loopback:${end.connection}`);
      far.state = "open";
      far.peer = end;
      end.peer = far;
      this.arrive(far, { kind: "accepted", listener: found.listener, peerAddress: far.peerAddress });
    }
    end.inbox.shift();
    end.state = "open";
    end.transport.handler.onConnected(end.connection);
  }

  #deliverFrame(end: LoopbackEnd, frame: Frame): void {
    const { handler, pool } = end.transport;
    end.lastReceivedMs = this.nowMs;
    if (this.corrupt !== null && frame.damaged === undefined) {
      frame.damaged = { header: frame.header.slice(), payload: frame.source?.slice(0, frame.payloadLength) ?? null };
      this.corrupt(frame.damaged.header, frame.damaged.payload);
    }
    const { header, payload } = frame.damaged ??
      { header: frame.header, payload: frame.source?.subarray(0, frame.payloadLength) ?? null };
    const message = new Message();
    const fault = decodeHeader(new DataView(header.buffer, header.byteOffset), 0, message);
    if (fault !== null) {
      return this.#refuse(end, fault === "crc" ? CloseReason.BAD_MESSAGE : CloseReason.PROTOCOL, `bad ${fault}`);
    }
    const broken = frameFault(message);
    if (broken !== null) return this.#refuse(end, CloseReason.PROTOCOL, broken);
    if (payload === null) return this.#frameArrived(end, frame, message, -1);
    if (end.placedSlot < 0) {
      const slot = handler.placePayload(end.connection, message, -1);
      if (end.state !== "open") return;
      if (slot === -1) {
        end.paused = true;
        return;
      }
      if (slot < 0) return this.#refuse(end, CloseReason.PROTOCOL, "its payload is not wanted");
      assert(pool.capacity(slot) >= frame.payloadLength, "The payload fits into the slot named for it", slot);
      end.placedSlot = slot;
      pool.bytes(slot).set(payload.subarray(0, frame.payloadLength >> 1));
      return;
    }
    const slot = end.placedSlot;
    end.placedSlot = -1;
    pool.bytes(slot).set(payload);
    if (!isPayloadSound(message, payload)) {
      return this.#refuse(end, CloseReason.BAD_MESSAGE, "its payload does not match its checksum");
    }
    this.#frameArrived(end, frame, message, slot);
  }

  #frameArrived(end: LoopbackEnd, frame: Frame, message: Message, slot: number): void {
    end.inbox.shift();
    this.#returnToken(end.peer!, frame.token);
    end.stats.receivedFrames++;
    end.stats.receivedBytes += HEADER_BYTES + frame.payloadLength;
    end.transport.handler.onMessage(end.connection, message, slot);
  }

  #refuse(end: LoopbackEnd, reason: number, what: string): void {
    this.report(`Connection ${end.connection} (${end.peerAddress}) is closed: a frame was refused, ${what}`);
    end.transport.closeEnd(end, reason);
  }
}

/** One transport of a `LoopbackNetwork`. See the module's description. */
export class LoopbackTransport implements Transport {
  /** @internal */
  readonly pool: BufferPool;
  /** @internal */
  readonly handler: TransportHandler;
  /** @internal */
  readonly checksums: boolean;
  readonly #network: LoopbackNetwork;
  readonly #maxQueuedBytes: number;
  readonly #ends: (LoopbackEnd | null)[] = [];
  readonly #freeNumbers: number[] = [];
  readonly #listeners: string[] = [];

  /** Use `LoopbackNetwork.transport`. */
  constructor(network: LoopbackNetwork, pool: BufferPool, handler: TransportHandler, options: LoopbackOptions) {
    this.#network = network;
    this.pool = pool;
    this.handler = handler;
    this.checksums = options.checksums ?? true;
    this.#maxQueuedBytes = options.maxQueuedBytes ?? 64 * 1024 * 1024;
  }

  listen(address: string): { listener: number; boundAddress: string } {
    const listener = this.#listeners.length;
    const boundAddress = this.#network.addListener(address, this, listener);
    this.#listeners.push(boundAddress);
    return { listener, boundAddress };
  }

  connect(address: string): number {
    const end = this.newEnd(address);
    this.#network.arrive(end, { kind: "connected" });
    return end.connection;
  }

  send(connection: number, message: Message, slot: number, token: number): boolean {
    const end = this.endOf(connection);
    if (end === null || end.state !== "open") return false;
    if (slot < 0) {
      assert(message.payloadLength === 0, "A frame without a slot has no payload", message.payloadLength);
      return this.#queue(end, message, null, token);
    }
    const bytes = this.pool.bytes(slot);
    assert(
      message.payloadLength > 0 && message.payloadLength <= bytes.length,
      "The payload lies within its slot",
      slot,
    );
    return this.#queue(end, message, token < 0 ? bytes.slice(0, message.payloadLength) : bytes, token);
  }

  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean {
    const end = this.endOf(connection);
    if (end === null || end.state !== "open") return false;
    const { payloadLength } = message;
    message.payloadLength = payload === null ? 0 : payload.length;
    const queued = this.#queue(end, message, message.payloadLength === 0 ? null : payload!.slice(), -1);
    message.payloadLength = payloadLength;
    return queued;
  }

  flushSends(): void {
    for (const end of this.#ends) {
      if (end === null || end.state !== "open") continue;
      for (const frame of end.outbox) this.#network.arrive(end.peer!, frame);
      end.outbox.length = 0;
    }
  }

  resume(): void {
    for (const end of this.#ends) if (end !== null) end.paused = false;
  }

  close(connection: number): void {
    const end = this.endOf(connection);
    if (end !== null) this.closeEnd(end, CloseReason.ORDERLY);
  }

  /** Listens no more, and closes all connections. */
  closeAll(): void {
    for (const address of this.#listeners) this.#network.removeListener(address);
    for (let i = 0; i < this.#ends.length; i++) this.close(i);
  }

  lastReceivedMs(connection: number): number {
    return this.endOf(connection)?.lastReceivedMs ?? 0;
  }

  stats(connection: number): ConnectionStats {
    const end = this.endOf(connection);
    return end === null ? { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 } : { ...end.stats };
  }

  queuedBytes(connection: number): number {
    const end = this.endOf(connection);
    if (end === null) return 0;
    const inFlight = end.peer === null ? [] : end.peer.inbox.filter((arrival) => arrival.kind === "frame");
    return [...inFlight, ...end.outbox].reduce((sum, frame) => sum + HEADER_BYTES + frame.payloadLength, 0);
  }

  /** @internal */
  endOf(connection: number): LoopbackEnd | null {
    return this.#ends[connection] ?? null;
  }

  /** @internal */
  newEnd(peerAddress: string): LoopbackEnd {
    const connection = this.#freeNumbers.pop() ?? this.#ends.length;
    const end = new LoopbackEnd(this, connection, peerAddress);
    this.#ends[connection] = end;
    this.#network.addEnd(end);
    return end;
  }

  /** @internal */
  forget(end: LoopbackEnd): void {
    this.#ends[end.connection] = null;
    this.#freeNumbers.push(end.connection);
  }

  /** @internal Ends `end` for `reason`; its peer sees the end of the stream, orderly or in the middle of a frame. */
  closeEnd(end: LoopbackEnd, reason: number): void {
    if (end.state === "ending" || end.state === "gone") return;
    const { peer } = end;
    this.#network.end(end, reason);
    if (peer === null) return;
    this.#network.arrive(peer, { kind: "end", reason: peer.placedSlot >= 0 ? CloseReason.RESET : CloseReason.ORDERLY });
  }

  #queue(end: LoopbackEnd, message: Message, source: Uint8Array | null, token: number): boolean {
    const lengthBytes = HEADER_BYTES + message.payloadLength;
    if (this.queuedBytes(end.connection) + lengthBytes > this.#maxQueuedBytes) {
      this.#network.report(`Connection ${end.connection} (${end.peerAddress}) is closed: too much waits to be sent`);
      this.closeEnd(end, CloseReason.QUEUE_FULL);
      return false;
    }
    const sent = new Message().copyFrom(message);
    setPayloadFields(sent, source, this.checksums || token < 0);
    const header = new Uint8Array(HEADER_BYTES);
    encodeHeader(sent, new DataView(header.buffer), 0);
    end.outbox.push({ kind: "frame", header, source, payloadLength: message.payloadLength, token });
    end.stats.sentFrames++;
    end.stats.sentBytes += lengthBytes;
    return true;
  }
}
