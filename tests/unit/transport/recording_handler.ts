/**
 * A user of a transport that writes down what it is told, and checks on the way what every transport promises: news only of
 * connections that stand, tokens once, ends once, nothing from within a call into the transport.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { BufferPool } from "../../../lib/io/buffer_pool.ts";
import type { ConnectionStats, Transport, TransportHandler } from "../../../lib/transport/transport.ts";
import type { StreamWay } from "../../../lib/transport/stream_network.ts";
import { Message } from "../../../lib/wire/message.ts";

/** One frame as it was delivered. */
export interface ReceivedFrame {
  readonly connection: number;
  readonly message: Message;
  readonly payload: Uint8Array | null;
}

export class RecordingHandler implements TransportHandler {
  readonly accepted: { connection: number; listener: number; peerAddress: string }[] = [];
  readonly connected: number[] = [];
  readonly frames: ReceivedFrame[] = [];
  readonly closed: { connection: number; reason: number }[] = [];
  /** How often each token was returned. */
  readonly sentCounts = new Map<number, number>();
  /** Placements that are answered with this instead of a slot, first one first. */
  readonly placementAnswers: number[] = [];
  /** While true every placement is answered with -1. */
  outOfMemory = false;
  placementCount = 0;
  /** Whether a payload that lies somewhere already is taken there. */
  takesLanded = true;
  /** Payloads are compared and thrown away instead of kept. */
  keepPayloads = true;
  /** Slots of payloads are not freed, but collected. */
  keepSlots = false;
  readonly keptSlots: number[] = [];
  onFrame: ((frame: ReceivedFrame) => void) | null = null;
  onToken: ((connection: number, token: number) => void) | null = null;
  onPlacement: ((connection: number, message: Message) => void) | null = null;
  onConnect: ((connection: number) => void) | null = null;
  onEnd: ((connection: number, reason: number) => void) | null = null;
  readonly #pool: BufferPool;
  readonly #standing = new Set<number>();
  /** Slot of the payload under way, by connection. */
  readonly #placed = new Map<number, number>();
  /** Calls into the transport that have not returned. */
  callDepth = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  onAccepted(connection: number, listener: number, peerAddress: string): void {
    this.#begin(connection);
    this.accepted.push({ connection, listener, peerAddress });
    this.onConnect?.(connection);
  }

  onConnected(connection: number): void {
    this.#begin(connection);
    this.connected.push(connection);
    this.onConnect?.(connection);
  }

  placePayload(connection: number, message: Message, landedSlot = -1): number {
    this.#check(connection);
    this.placementCount++;
    assert.ok(!this.#placed.has(connection), "One payload is under way at a time");
    assert.ok(message.payloadLength > 0);
    this.onPlacement?.(connection, message);
    const answer = this.placementAnswers.shift();
    if (answer !== undefined) return answer;
    if (this.outOfMemory) return -1;
    const slot = landedSlot >= 0 && this.takesLanded ? landedSlot : this.#pool.allocate(message.payloadLength);
    if (slot >= 0) this.#placed.set(connection, slot);
    return slot;
  }

  onMessage(connection: number, message: Message, slot: number): void {
    this.#check(connection);
    assert.equal(slot, this.#placed.get(connection) ?? -1, "The slot is the one that was named");
    const payload = slot < 0 || !this.keepPayloads ? null : this.#pool.bytes(slot).slice(0, message.payloadLength);
    if (this.keepSlots && slot >= 0) {
      this.keptSlots.push(slot);
      this.#placed.delete(connection);
    } else this.#dispose(connection);
    const frame = { connection, message: new Message().copyFrom(message), payload };
    this.frames.push(frame);
    this.onFrame?.(frame);
  }

  onSent(connection: number, token: number): void {
    assert.equal(this.callDepth, 0, "No news from within a call");
    assert.ok(token >= 0);
    this.sentCounts.set(token, (this.sentCounts.get(token) ?? 0) + 1);
    this.onToken?.(connection, token);
  }

  onClosed(connection: number, reason: number): void {
    assert.equal(this.callDepth, 0, "No news from within a call");
    assert.ok(reason <= 0, `A reason is 0 or a negative errno, not ${reason}`);
    this.#standing.delete(connection);
    this.#dispose(connection);
    this.closed.push({ connection, reason });
    this.onEnd?.(connection, reason);
  }

  /** Tokens returned, which must be once each. */
  get sentTokens(): number[] {
    for (const [token, count] of this.sentCounts) assert.equal(count, 1, `Token ${token} is returned once`);
    return [...this.sentCounts.keys()].sort((a, b) => a - b);
  }

  #begin(connection: number): void {
    assert.equal(this.callDepth, 0, "No news from within a call");
    assert.ok(!this.#standing.has(connection), "A number is not in use twice");
    this.#standing.add(connection);
  }

  #check(connection: number): void {
    assert.equal(this.callDepth, 0, "No news from within a call");
    assert.ok(this.#standing.has(connection), "Frames come only from connections that stand");
  }

  #dispose(connection: number): void {
    const slot = this.#placed.get(connection);
    if (slot === undefined) return;
    this.#pool.free(slot);
    this.#placed.delete(connection);
  }
}

/** Passes calls on and lets the handler know that one is under way. `flushSends` may bring news, so it does not count. */
export class WatchedTransport implements Transport {
  readonly #inner: Transport;
  readonly #handler: RecordingHandler;

  constructor(inner: Transport, handler: RecordingHandler) {
    this.#inner = inner;
    this.#handler = handler;
  }

  #call<T>(call: () => T): T {
    const depth = this.#handler.callDepth;
    this.#handler.callDepth = depth + 1;
    try {
      return call();
    } finally {
      this.#handler.callDepth = depth;
    }
  }

  listen(address: string): { listener: number; boundAddress: string } {
    return this.#call(() => this.#inner.listen(address));
  }
  connect(address: string): number {
    return this.#call(() => this.#inner.connect(address));
  }
  send(connection: number, message: Message, slot: number, token: number): boolean {
    const before = new Message().copyFrom(message);
    const sent = this.#call(() => this.#inner.send(connection, message, slot, token));
    assert.deepEqual(message, before, "The caller's message is as it was");
    return sent;
  }
  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean {
    const before = new Message().copyFrom(message);
    const sent = this.#call(() => this.#inner.sendBytes(connection, message, payload));
    assert.deepEqual(message, before, "The caller's message is as it was");
    return sent;
  }
  flushSends(): void {
    this.#inner.flushSends();
  }
  resume(): void {
    this.#call(() => this.#inner.resume());
  }
  close(connection: number): void {
    this.#call(() => this.#inner.close(connection));
  }
  lastReceivedMs(connection: number): number {
    return this.#inner.lastReceivedMs(connection);
  }
  stats(connection: number): ConnectionStats {
    return this.#inner.stats(connection);
  }
  way(connection: number): StreamWay | null {
    return this.#inner.way?.(connection) ?? null;
  }
  sumsPayloads(connection: number): boolean {
    return this.#inner.sumsPayloads?.(connection) ?? true;
  }
  queuedBytes(connection: number): number {
    return this.#inner.queuedBytes(connection);
  }
}
