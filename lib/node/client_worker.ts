/**
 * The data plane of a client node: the client core, a connection to each leg, and the frontends.
 *
 * Promises: a request is completed to its frontend exactly once, and only when no connection reads from or writes to its
 * slot any more; the payload of a write is checksummed once, however many legs it goes to.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import type { ClientPool } from "../core/client_pool.ts";
import { type CoreEvent, type Output, OutputKind } from "../core/output.ts";
import { type Message, MessageType } from "../wire/message.ts";
import type { Reactor } from "../io/reactor.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import { type Frontend, type FrontendHost, type PoolGeometry, RequestKind } from "../frontend/frontend.ts";
import { bodyKind, encodeBody, parseBody } from "../wire/body_codec.ts";
import { unreachable } from "../base/assert.ts";
import type { WorkerReport } from "./worker_messages.ts";

/** Results of `placePayload`. */
const REFUSE = -2;
const NO_BYTES = new Uint8Array(0);

/** The data plane. `transport`, `core` and `frontends` complete it. */
export class ClientWorker implements TransportHandler, FrontendHost {
  readonly geometry: PoolGeometry;
  transport!: Transport;
  core!: ClientPool;
  readonly frontends: Frontend[] = [];
  readonly #pool: BufferPool;
  readonly #reactor: Reactor;
  readonly #report: (report: WorkerReport) => void;

  /** By connection: leg index, whether it is up, and the request slot that its current payload goes to (-1 none). */
  readonly #legOfConnection: number[] = [];
  readonly #isUp: boolean[] = [];
  readonly #placingSlot: number[] = [];

  /** By slot. Users are connections that send from it or receive into it. Grown when a higher slot shows up. */
  #slotUsers = new Int32Array(1024);
  #slotCrc = new Float64Array(1024);
  /** The request that is done but for the slot's users, -1 for none. */
  #slotHeld = new Int32Array(1024).fill(-1);

  /** By request number, which is the tag that the core knows. */
  #requestTag = new Float64Array(256);
  #requestSlot = new Int32Array(256);
  #requestStatus = new Int32Array(256);
  #requestFrontend = new Int32Array(256);
  #requestNext = new Int32Array(256);
  #freeRequest = 0;

  #submittingFrontend = 0;
  #wasBlocked = false;
  #memoryFreed = false;

  constructor(
    reactor: Reactor,
    pool: BufferPool,
    geometry: PoolGeometry,
    report: (report: WorkerReport) => void,
  ) {
    this.#reactor = reactor;
    this.#pool = pool;
    this.geometry = geometry;
    this.#report = report;
    for (let i = 0; i < 256; i++) this.#requestNext[i] = i + 1 < 256 ? i + 1 : -1;
  }

  // ---- the loop -------------------------------------------------------------------------------------------------

  get deadlineMs(): number {
    return this.core.nextDeadlineMs;
  }

  /** Timers, frontends that waited, and what is to leave. */
  afterTurn(): void {
    const nowMs = this.#reactor.nowMs;
    if (this.core.nextDeadlineMs <= nowMs) this.tick(nowMs);
    if ((this.#wasBlocked && this.core.canSubmit) || this.#memoryFreed) {
      this.#wasBlocked = false;
      this.#memoryFreed = false;
      for (let i = 0; i < this.frontends.length; i++) this.frontends[i].onReady();
    }
    this.transport.resume();
    for (let i = 0; i < this.frontends.length; i++) this.frontends[i].flushSends();
    this.transport.flushSends();
  }

  tick(nowMs: number): void {
    this.core.handleTick(nowMs);
    this.drain();
  }

  // ---- what frontends ask -----------------------------------------------------------------------------------------

  get canSubmit(): boolean {
    if (this.core.canSubmit) return true;
    this.#wasBlocked = true;
    return false;
  }

  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    if (this.#freeRequest === -1) this.#growRequests();
    const request = this.#freeRequest;
    this.#freeRequest = this.#requestNext[request];
    this.#requestTag[request] = tag;
    this.#requestSlot[request] = slot;
    this.#requestFrontend[request] = this.#submittingFrontend;
    if (slot >= 0) {
      if (slot >= this.#slotUsers.length) this.#growSlots(slot);
      if (kind === RequestKind.WRITE) this.#slotCrc[slot] = crc32(this.#payload(slot, lengthBytes));
    }
    this.core.submit(kind, flags, offset, lengthBytes, slot, request);
    this.drain();
  }

  /** A host for frontend number `index`, so that completions find their way back. */
  hostFor(index: number): FrontendHost {
    // deno-lint-ignore no-this-alias -- the host object needs its own `this` for the getter
    const worker = this;
    return {
      geometry: this.geometry,
      get canSubmit() {
        return worker.canSubmit;
      },
      submit(kind, flags, offset, lengthBytes, slot, tag) {
        worker.#submittingFrontend = index;
        worker.submit(kind, flags, offset, lengthBytes, slot, tag);
      },
    };
  }

  // ---- what the core wants ----------------------------------------------------------------------------------------

  drain(): void {
    const core = this.core;
    for (let output = core.poll(); output !== null; output = core.poll()) this.#carryOut(output);
  }

  #carryOut(output: Output): void {
    switch (output.kind) {
      case OutputKind.SEND:
        this.#send(output);
        return;
      case OutputKind.COMPLETE:
        this.#complete(output.tag, output.status);
        return;
      case OutputKind.FREE_SLOT:
        this.#pool.free(output.slot);
        this.#memoryFreed = true;
        return;
      case OutputKind.CONNECT: {
        const connection = this.transport.connect(output.address);
        this.#legOfConnection[connection] = output.legIndex;
        this.#isUp[connection] = false;
        this.#placingSlot[connection] = -1;
        return;
      }
      case OutputKind.CLOSE:
        this.transport.close(output.connection);
        return;
      case OutputKind.EVENT:
        this.#report({ kind: "event", pool: this.geometry.name, event: output.body as CoreEvent });
        return;
      default:
        unreachable(`a client wants output kind ${output.kind}`);
    }
  }

  #send(output: Output): void {
    const message = output.message;
    if (output.body !== null) {
      this.transport.sendBytes(output.connection, message, encodeBody(message.type, output.body));
      return;
    }
    const slot = output.slot;
    if (slot < 0) {
      this.transport.send(output.connection, message, -1, -1);
      return;
    }
    if (message.type === MessageType.WRITE) message.payloadCrc = this.#slotCrc[slot];
    this.#slotUsers[slot]++;
    if (!this.transport.send(output.connection, message, slot, slot)) this.#slotUsers[slot]--;
  }

  /** Completes a request now, or when the last user of its slot is through with it. */
  #complete(request: number, status: number): void {
    const slot = this.#requestSlot[request];
    this.#requestStatus[request] = status;
    if (slot >= 0 && this.#slotUsers[slot] > 0) this.#slotHeld[slot] = request;
    else this.#finish(request);
  }

  #finish(request: number): void {
    const tag = this.#requestTag[request];
    const frontend = this.#requestFrontend[request];
    this.#requestNext[request] = this.#freeRequest;
    this.#freeRequest = request;
    this.frontends[frontend].complete(tag, this.#requestStatus[request]);
  }

  #releaseSlot(slot: number): void {
    if (--this.#slotUsers[slot] > 0) return;
    const request = this.#slotHeld[slot];
    if (request === -1) return;
    this.#slotHeld[slot] = -1;
    this.#finish(request);
  }

  // ---- what the transport tells -----------------------------------------------------------------------------------

  onAccepted(connection: number): void {
    this.transport.close(connection); // a client does not listen
  }

  onConnected(connection: number): void {
    this.#isUp[connection] = true;
    this.core.handleConnected(this.#legOfConnection[connection], connection);
    this.drain();
  }

  placePayload(connection: number, message: Message): number {
    if (message.type === MessageType.DATA) {
      const slot = this.core.requestSlot(message.requestId);
      if (slot >= 0) {
        if (message.payloadLength > this.#pool.capacity(slot)) return REFUSE;
        if (this.#placingSlot[connection] === -1) {
          this.#placingSlot[connection] = slot;
          this.#slotUsers[slot]++;
        }
        return slot;
      }
      // The answer to a request that is no longer waited for is received into a slot of its own, and dropped.
      return this.#pool.allocate(message.payloadLength);
    }
    if (bodyKind(message.type) === "none") return REFUSE;
    return this.#pool.allocate(message.payloadLength);
  }

  onMessage(connection: number, message: Message, slot: number): void {
    if (message.type === MessageType.DATA) {
      const placed = this.#placingSlot[connection];
      this.#placingSlot[connection] = -1;
      this.core.handleMessage(connection, message, slot, null);
      if (slot >= 0 && placed !== slot) this.#pool.free(slot);
      this.drain();
      if (placed >= 0) this.#releaseSlot(placed);
      return;
    }
    let body: unknown = null;
    if (bodyKind(message.type) !== "none") {
      const parsed = parseBody(message.type, slot < 0 ? NO_BYTES : this.#payload(slot, message.payloadLength));
      if (slot >= 0) {
        this.#pool.free(slot);
        this.#memoryFreed = true;
      }
      if (!parsed.ok) {
        this.#report({
          kind: "event",
          pool: this.geometry.name,
          event: { level: "warning", name: "peer-frame-refused", message: parsed.message },
        });
        this.transport.close(connection);
        return;
      }
      body = parsed.body;
    }
    this.core.handleMessage(connection, message, -1, body);
    this.drain();
  }

  /** Every token is a slot that was sent from. */
  onSent(_connection: number, token: number): void {
    this.#releaseSlot(token);
  }

  onClosed(connection: number, _reason: number): void {
    const placed = this.#placingSlot[connection];
    this.#placingSlot[connection] = -1;
    if (this.#isUp[connection]) this.core.handleConnectionClosed(connection);
    else this.core.handleConnectFailed(this.#legOfConnection[connection]);
    this.#isUp[connection] = false;
    this.drain();
    if (placed >= 0) this.#releaseSlot(placed);
  }

  // ---- small things -----------------------------------------------------------------------------------------------

  #payload(slot: number, lengthBytes: number): Uint8Array {
    const bytes = this.#pool.bytes(slot);
    return bytes.length === lengthBytes ? bytes : bytes.subarray(0, lengthBytes);
  }

  #growSlots(slot: number): void {
    let capacity = this.#slotUsers.length;
    while (capacity <= slot) capacity *= 2;
    const users = new Int32Array(capacity);
    users.set(this.#slotUsers);
    const crcs = new Float64Array(capacity);
    crcs.set(this.#slotCrc);
    const held = new Int32Array(capacity).fill(-1);
    held.set(this.#slotHeld);
    this.#slotUsers = users;
    this.#slotCrc = crcs;
    this.#slotHeld = held;
  }

  #growRequests(): void {
    const from = this.#requestNext.length;
    const capacity = from * 2;
    const tags = new Float64Array(capacity);
    tags.set(this.#requestTag);
    const slots = new Int32Array(capacity);
    slots.set(this.#requestSlot);
    const statuses = new Int32Array(capacity);
    statuses.set(this.#requestStatus);
    const frontends = new Int32Array(capacity);
    frontends.set(this.#requestFrontend);
    const next = new Int32Array(capacity);
    next.set(this.#requestNext);
    for (let i = from; i < capacity; i++) next[i] = i + 1 < capacity ? i + 1 : -1;
    this.#requestTag = tags;
    this.#requestSlot = slots;
    this.#requestStatus = statuses;
    this.#requestFrontend = frontends;
    this.#requestNext = next;
    this.#freeRequest = from;
  }
}
