/**
 * The data plane of a client node: the client core, a connection to each leg, and the frontends.
 *
 * Promises: a request is completed to its frontend exactly once, and only when no connection reads from or writes to its
 * slot any more; the payload of a write is checksummed once, however many legs it goes to.
 *
 * @module
 */

import type { ForceOrder } from "../core/forced_start.ts";
import { crc32 } from "node:zlib";
import type { PoolCore } from "../core/client_pool.ts";
import { type CoreEvent, FRESH_PAYLOAD, type Output, OutputKind } from "../core/output.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { GatherTime } from "../io/gather_time.ts";
import type { Reactor } from "../io/reactor.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import type { Frontend, FrontendHost, PoolGeometry } from "../frontend/frontend.ts";
import { bodyKind, encodeBody, parseBody } from "../wire/body_codec.ts";
import { unreachable } from "../base/assert.ts";
import { ConnectionKeys } from "./connection_keys.ts";
import { RequestNumbers } from "./request_numbers.ts";
import { CLOCK_STALENESS_MS } from "./leg_driver.ts";
import type { LegPath } from "../control/control_api.ts";
import type { WorkerReport } from "./worker_messages.ts";
import { VerifyWatch } from "./verify_watch.ts";

/** Results of `placePayload`. */
const REFUSE = -2;
const TCP_WAY = { transport: "tcp" } as const;
/** In place of a sum. */
const NOT_SUMMED = -1;
/** In `#slotHeld`: no request waits for the slot, but the core has let go of it. */
const FREE_WHEN_UNUSED = -2;
const NO_BYTES = new Uint8Array(0);

/** A pool that tells how often memory was given back, and how often only after its owner had freed it. */
export type CountingPool = BufferPool & { readonly freedCount: number; readonly releasedCount: number };

/** The data plane. `transport` and `frontends` complete it. */
export class ClientWorker implements TransportHandler, FrontendHost {
  readonly geometry: PoolGeometry;
  readonly core: PoolCore;
  readonly verifyWatch = new VerifyWatch();
  transport!: Transport;
  readonly frontends: Frontend[] = [];
  /** A change of the leg table is over: "" when done, or why it is not. */
  onChangeDone: (token: number, problem: string) => void = () => undefined;
  readonly #pool: CountingPool;
  readonly #reactor: Reactor;
  readonly #report: (report: WorkerReport) => void;

  readonly #keys = new ConnectionKeys();
  /** By connection: leg index, whether it is up, and the request slot that its current payload goes to (-1 none). */
  readonly #legOfConnection: number[] = [];
  readonly #isUp: boolean[] = [];
  readonly #attempt: number[] = [];
  readonly #placingSlot: number[] = [];
  /** Whether that slot is a request's. Otherwise it is ours: a control payload, or an answer nobody waits for. */
  readonly #placingForRequest: boolean[] = [];
  /** By connection that is only a try: who waits for its outcome, null once that is told. */
  readonly #probes = new Map<number, ((isThere: boolean) => void) | null>();

  /** By slot. Users are connections that send from it or receive into it. Grown when a higher slot shows up. */
  #slotUsers = new Int32Array(1024);
  #slotCrc = new Float64Array(1024);
  /** The request that is done but for the slot's users, -1 for none. */
  #slotHeld = new Int32Array(1024).fill(-1);

  /** Requests of frontends under way. */
  readonly #requests = new RequestNumbers();
  readonly #gatherTime = new GatherTime();

  #submittingFrontend = 0;
  #wasBlocked = false;
  #isDraining = false;
  #lastTickMs = 0;
  #memoryFreed = false;
  #releasedCount = 0;
  /** A connection waits for memory. */
  #isPaused = false;
  /** What the pool's `freedCount` was then: while it is the same, asking again is in vain. */
  #pausedAtCount = 0;
  /** Something was queued to be sent since the last flush. */
  #hasSent = false;

  constructor(
    reactor: Reactor,
    pool: CountingPool,
    core: PoolCore,
    geometry: PoolGeometry,
    report: (report: WorkerReport) => void,
  ) {
    this.#reactor = reactor;
    this.#pool = pool;
    this.core = core;
    this.geometry = geometry;
    this.#report = report;
  }

  // ---- the loop -------------------------------------------------------------------------------------------------

  get deadlineMs(): number {
    return this.core.nextDeadlineMs;
  }

  /** Requests of frontends under way. */
  get inFlightCount(): number {
    return this.#requests.count;
  }

  /** Requests of frontends that have ended so far. */
  get endedCount(): number {
    return this.#gatherTime.endedCount;
  }

  /** How long the next turn may let completions gather. */
  get gatherUs(): number {
    return this.#gatherTime.us(this.#reactor.nowMs, this.#requests.count);
  }

  /** Timers, frontends that waited, and what is to leave. */
  afterTurn(): void {
    const nowMs = this.#reactor.nowMs;
    if (this.core.nextDeadlineMs <= nowMs) this.tick(nowMs);
    // Flushing may tell of payloads that have left, which completes requests, and of connections that failed, to which the
    // core answers; the next turn may wait for ever, so all of that is done before it.
    do {
      this.#hasSent = false;
      if (this.#isBlockedNoMore || this.#memoryFreed || this.#pool.releasedCount !== this.#releasedCount) {
        this.#releasedCount = this.#pool.releasedCount;
        this.#wasBlocked = false;
        this.#memoryFreed = false;
        for (let i = 0; i < this.frontends.length; i++) this.frontends[i].onReady();
      }
      if (this.#isPaused && this.#pool.freedCount !== this.#pausedAtCount) {
        this.#isPaused = false;
        this.transport.resume();
      }
      this.transport.flushSends();
      for (let i = 0; i < this.frontends.length; i++) this.frontends[i].flushSends();
    } while (this.#hasSent || this.#isBlockedNoMore);
  }

  /** Whether a frontend was told to wait and need not any longer. */
  get #isBlockedNoMore(): boolean {
    return this.#wasBlocked && this.core.canSubmit;
  }

  /** Begins to assemble the pool. */
  start(takeover: boolean, force?: ForceOrder): void {
    // The time that it took to set everything up, devices and memory, is not the legs'.
    this.tick(this.#reactor.clockMs());
    this.core.start({ takeover, force });
    this.drain();
  }

  /** Drains, flushes and releases the pool; the core's state tells when it is "detached". */
  detach(): void {
    this.core.detach();
    this.drain();
  }

  tick(nowMs: number): void {
    this.#lastTickMs = nowMs;
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
    const request = this.#requests.take(this.#submittingFrontend, tag, slot);
    if (slot >= 0) {
      if (slot >= this.#slotUsers.length) this.#growSlots(slot);
      this.#slotCrc[slot] = NOT_SUMMED;
    }
    this.#freshen();
    this.core.submit(kind, flags, offset, lengthBytes, slot, request);
    this.drain();
  }

  /** The core's clock is the last tick; what it times from an arrival must not start in the past. */
  #freshen(): void {
    const nowMs = this.#reactor.nowMs;
    if (nowMs - this.#lastTickMs > CLOCK_STALENESS_MS) this.tick(nowMs);
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

  /** Carries out what the core wants. A frontend may submit from within `complete`: the loop already running goes on. */
  drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    const core = this.core;
    for (let output = core.poll(); output !== null; output = core.poll()) this.#carryOut(output);
    this.#isDraining = false;
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
        if (this.#slotUsers[output.slot] > 0) this.#slotHeld[output.slot] = FREE_WHEN_UNUSED;
        else this.#freeSlot(output.slot);
        return;
      case OutputKind.WANT_SLOT: {
        const slot = this.#pool.allocate(output.lengthBytes);
        if (slot >= this.#slotUsers.length) this.#growSlots(slot);
        this.core.handleSlot(Math.max(-1, slot));
        return;
      }
      case OutputKind.CHANGE_DONE:
        this.onChangeDone(output.token, output.body as string);
        return;
      case OutputKind.CONNECT: {
        const connection = this.transport.connect(output.address);
        this.#keys.open(connection);
        this.#legOfConnection[connection] = output.legIndex;
        this.#attempt[connection] = output.token;
        this.#isUp[connection] = false;
        this.#placingSlot[connection] = -1;
        this.#placingForRequest[connection] = false;
        this.#hasSent = true; // an address that cannot be connected to is told of by the flush
        return;
      }
      case OutputKind.GIVE_UP:
        this.#giveUp(output.legIndex, output.token);
        return;
      case OutputKind.CLOSE: {
        const connection = this.#keys.connectionOf(output.connection);
        if (connection >= 0) this.transport.close(connection);
        return;
      }
      case OutputKind.EVENT: {
        const event = output.body as CoreEvent;
        this.#report({ kind: "event", pool: this.geometry.name, event });
        const further = this.verifyWatch.heard(this.core, event);
        if (further !== null) this.#report({ kind: "event", pool: this.geometry.name, event: further });
        return;
      }
      default:
        unreachable(`a client wants output kind ${output.kind}`);
    }
  }

  #giveUp(legIndex: number, attempt: number): void {
    for (let connection = 0; connection < this.#attempt.length; connection++) {
      if (this.#attempt[connection] !== attempt || this.#legOfConnection[connection] !== legIndex) continue;
      if (this.#keys.keyOf(connection) >= 0 && !this.#isUp[connection]) this.transport.close(connection);
    }
  }

  #send(output: Output): void {
    const message = output.message;
    const connection = this.#keys.connectionOf(output.connection);
    if (connection === -1) return;
    this.#hasSent = true;
    if (output.body !== null) {
      this.transport.sendBytes(connection, message, encodeBody(message.type, output.body));
      return;
    }
    const slot = output.slot;
    if (slot < 0) {
      this.transport.send(connection, message, -1, -1);
      return;
    }
    if (message.type === MessageType.WRITE && (this.transport.sumsPayloads?.(connection) ?? true)) {
      // Once, however many legs it goes to.
      if (output.flags === FRESH_PAYLOAD || this.#slotCrc[slot] === NOT_SUMMED) {
        this.#slotCrc[slot] = crc32(this.#payload(slot, message.payloadLength));
      }
      message.payloadCrc = this.#slotCrc[slot];
    }
    this.#slotUsers[slot]++;
    if (!this.transport.send(connection, message, slot, slot)) this.#slotUsers[slot]--;
  }

  /** Completes a request now, or when the last user of its slot is through with it. */
  #complete(request: number, status: number): void {
    const slot = this.#requests.slot(request);
    this.#requests.setStatus(request, status);
    if (slot >= 0 && this.#slotUsers[slot] > 0) this.#slotHeld[slot] = request;
    else this.#finish(request);
  }

  #finish(request: number): void {
    const requests = this.#requests;
    const frontend = this.frontends[requests.frontend(request)];
    const tag = requests.tag(request);
    const status = requests.status(request);
    requests.giveBack(request);
    this.#gatherTime.note();
    frontend.complete(tag, status);
  }

  #releaseSlot(slot: number): void {
    if (--this.#slotUsers[slot] > 0) return;
    const request = this.#slotHeld[slot];
    if (request === -1) return;
    this.#slotHeld[slot] = -1;
    if (request === FREE_WHEN_UNUSED) this.#freeSlot(slot);
    else this.#finish(request);
  }

  #freeSlot(slot: number): void {
    this.#pool.free(slot);
    this.#memoryFreed = true;
  }

  // ---- what the transport tells -----------------------------------------------------------------------------------

  onAccepted(connection: number): void {
    this.transport.close(connection); // a client does not listen
  }

  onConnected(connection: number): void {
    if (this.#probes.has(connection)) return this.#probed(connection, true);
    this.#isUp[connection] = true;
    const legIndex = this.#legOfConnection[connection];
    this.core.handleConnected(legIndex, this.#keys.keyOf(connection), this.#attempt[connection]);
    this.drain();
  }

  placePayload(connection: number, message: Message, landedSlot = -1): number {
    let slot = -1;
    let isForRequest = false;
    if (message.type === MessageType.DATA) {
      slot = this.core.slotFor(this.#keys.keyOf(connection), message);
      if (slot >= 0) {
        isForRequest = true;
        this.#slotUsers[slot]++;
      }
    } else if (bodyKind(message.type) === "none") {
      return REFUSE;
    }
    // The answer to a request that is no longer waited for is received into a slot of its own, and dropped.
    if (slot < 0) slot = landedSlot >= 0 ? landedSlot : this.#pool.allocate(message.payloadLength);
    if (slot < 0) {
      this.#isPaused = true;
      this.#pausedAtCount = this.#pool.freedCount;
      return slot;
    }
    this.#placingSlot[connection] = slot;
    this.#placingForRequest[connection] = isForRequest;
    return slot;
  }

  onMessage(connection: number, message: Message, slot: number): void {
    this.#freshen();
    let body: unknown = null;
    const kind = bodyKind(message.type);
    if (kind === "json" || kind === "words") {
      const parsed = parseBody(message.type, slot < 0 ? NO_BYTES : this.#payload(slot, message.payloadLength));
      if (!parsed.ok) {
        this.#refuseFrame(connection, parsed.message);
        return;
      }
      body = parsed.body;
    }
    const isForRequest = this.#placingForRequest[connection];
    this.core.handleMessage(this.#keys.keyOf(connection), message, kind === "data" && isForRequest ? slot : -1, body);
    this.drain();
    this.#placed(connection);
  }

  /** The payload under way on `connection` has arrived, or never will. */
  #placed(connection: number): void {
    const slot = this.#placingSlot[connection];
    if (slot === -1) return;
    this.#placingSlot[connection] = -1;
    if (this.#placingForRequest[connection]) {
      this.#placingForRequest[connection] = false;
      this.#releaseSlot(slot);
    } else {
      this.#pool.free(slot);
      this.#memoryFreed = true;
    }
  }

  #refuseFrame(connection: number, why: string): void {
    const event: CoreEvent = { level: "warning", name: "peer-frame-refused", message: why };
    this.#report({ kind: "event", pool: this.geometry.name, event });
    this.#placed(connection);
    this.transport.close(connection);
  }

  /** Every token is a slot that was sent from. */
  onSent(_connection: number, token: number): void {
    this.#releaseSlot(token);
  }

  onClosed(connection: number, _reason: number): void {
    if (this.#probes.has(connection)) {
      this.#probed(connection, false);
      this.#probes.delete(connection);
      return;
    }
    const wasUp = this.#isUp[connection];
    const key = this.#keys.keyOf(connection);
    this.#keys.close(connection);
    this.#isUp[connection] = false;
    if (wasUp) this.core.handleConnectionClosed(key);
    else this.core.handleConnectFailed(this.#legOfConnection[connection], this.#attempt[connection]);
    this.drain();
    this.#placed(connection);
  }

  /** How the legs that are connected are reached. */
  paths(): LegPath[] {
    const paths: LegPath[] = [];
    for (let connection = 0; connection < this.#isUp.length; connection++) {
      if (!this.#isUp[connection]) continue;
      const legIndex = this.#legOfConnection[connection];
      const rdma = this.transport.describe?.(connection) ?? null;
      const way = this.transport.way?.(connection) ?? TCP_WAY;
      paths.push(rdma === null ? { legIndex, ...way } : { legIndex, transport: "rdma", rdma });
    }
    return paths.sort((a, b) => a.legIndex - b.legIndex);
  }

  /** Connects to `address` and closes again. Tells the outcome once, from within a turn or `afterTurn`. */
  probe(address: string, onOutcome: (isThere: boolean) => void): void {
    this.#probes.set(this.transport.connect(address), onOutcome);
    this.#hasSent = true; // as for CONNECT
  }

  #probed(connection: number, isThere: boolean): void {
    const onOutcome = this.#probes.get(connection) ?? null;
    this.#probes.set(connection, null);
    if (isThere) this.transport.close(connection);
    onOutcome?.(isThere);
  }

  /** Closes the connection to a leg, as if it had been lost. */
  leave(legIndex: number): void {
    for (let connection = 0; connection < this.#isUp.length; connection++) {
      if (this.#isUp[connection] && this.#legOfConnection[connection] === legIndex) this.transport.close(connection);
    }
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
}
