/**
 * The data plane of a storage node: one ring, one transport, one pool of buffers, and a driver for each leg.
 *
 * Promises: a peer's bytes never end it; a frame is handed to a leg only from a connection whose HELLO named that leg;
 * payloads that others wait for (pulled data, control) find memory even when clients fill the rest.
 * Operators' frames are in operator_frames.ts.
 *
 * @module
 */

import { type Message, MessageType } from "../wire/message.ts";
import type { Hello } from "../wire/bodies.ts";
import type { CoreEvent } from "../core/output.ts";
import { GatherTime } from "../io/gather_time.ts";
import type { Reactor } from "../io/reactor.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Transport, TransportHandler } from "../transport/transport.ts";
import { bodyKind, parseBody } from "../wire/body_codec.ts";
import { answerOffer, OUR_DIALECT } from "../wire/negotiate.ts";
import type { LegDriver, LegHost } from "./leg_driver.ts";
import { ConnectionRole, ConnectionTable } from "./connection_table.ts";
import { CONTROL_PAYLOAD_LIMIT_BYTES, OperatorFrames, type OperatorFramesHost } from "./operator_frames.ts";
import type { ControlReply, WorkerReport } from "./worker_messages.ts";

/** A connection that has not introduced itself after this long is closed. */
const STRANGER_LIMIT_MS = 10_000;
/** An operator's connection that has been silent for this long is closed: the machine behind it may be gone. */
const CONTROL_IDLE_LIMIT_MS = 300_000;
/** How often connections are looked over for the two limits above. */
const SWEEP_MS = 2_000;
/** Most connections at once; more are turned away, so that strangers cannot use up memory. */
const OPEN_LIMIT = 256;
/** Largest payload of a connection that has not introduced itself. */
const HELLO_LIMIT_BYTES = 4096;
/** Share of the pool, at most, that is kept for pulled data and control frames: 1 / 8. */
const RESERVE_DIVISOR = 8;

/** Result codes of `placePayload`. */
const PAUSE = -1;
const REFUSE = -2;
const NO_BYTES = new Uint8Array(0);

/** The data plane. `attachTransport` and `addLeg` complete it. */
export class StorageWorker implements TransportHandler, LegHost, OperatorFramesHost {
  readonly pool: BufferPool;
  transport!: Transport;
  readonly #reactor: Reactor;
  readonly #report: (report: WorkerReport) => void;
  readonly #drivers: LegDriver[] = [];
  readonly #connections = new ConnectionTable();
  readonly #operators: OperatorFrames;
  readonly #ordinaryLimitBytes: number;
  readonly #gatherTime = new GatherTime();
  #nextSweepMs = Infinity;
  #openCount = 0;
  /** See `turnAway`. */
  #turnsAway = false;
  /** Memory was given back since those who wait for it were last asked. */
  #memoryFreed = false;
  /** A read or a connection waits for memory. */
  #isStarved = false;
  /** Something was queued to be sent since the last flush. */
  #hasSent = false;

  constructor(reactor: Reactor, pool: BufferPool, instance: string, report: (report: WorkerReport) => void) {
    this.#reactor = reactor;
    this.pool = pool;
    this.#report = report;
    this.#operators = new OperatorFrames(this, this.#connections, instance, report);
    this.#ordinaryLimitBytes = pool.totalBytes - Math.floor(pool.totalBytes / RESERVE_DIVISOR);
  }

  get nowMs(): number {
    return this.#reactor.nowMs;
  }

  get drivers(): readonly LegDriver[] {
    return this.#drivers;
  }

  addLeg(driver: LegDriver): void {
    this.#drivers.push(driver);
    driver.drain();
  }

  /**
   * Takes a leg out of service. Its connections are closed, but end only later (`hasConnections`), which may begin I/O; its device may
   * still have some in flight (`isQuiet`).
   */
  removeLeg(driver: LegDriver): void {
    const at = this.#drivers.indexOf(driver);
    if (at >= 0) this.#drivers.splice(at, 1);
    driver.operator?.abandon();
    for (let connection = 0; connection < this.#connections.limit; connection++) {
      if (this.#connections.driver(connection) === driver) this.transport.close(connection);
    }
  }

  /** From now on whoever connects is sent away, and so is who has not said yet what it wants. */
  turnAway(): void {
    this.#turnsAway = true;
    for (let connection = 0; connection < this.#connections.limit; connection++) {
      if (this.#connections.role(connection) === ConnectionRole.STRANGER) this.transport.close(connection);
    }
  }

  /** Whether the end of a connection of that leg is yet to come. */
  hasConnections(driver: LegDriver): boolean {
    for (let connection = 0; connection < this.#connections.limit; connection++) {
      if (this.#connections.driver(connection) === driver) return true;
    }
    return false;
  }

  // ---- the loop -------------------------------------------------------------------------------------------------

  /** When the next turn has to end at the latest. */
  get deadlineMs(): number {
    let deadlineMs = this.#nextSweepMs;
    for (let i = 0; i < this.#drivers.length; i++) {
      const legDeadlineMs = this.#drivers[i].nextDeadlineMs;
      if (legDeadlineMs < deadlineMs) deadlineMs = legDeadlineMs;
    }
    return deadlineMs;
  }

  /** Reads and writes of all legs under way. */
  get inFlightCount(): number {
    let count = 0;
    for (let i = 0; i < this.#drivers.length; i++) count += this.#drivers[i].inFlightCount;
    return count;
  }

  /** Reads and writes of all legs that have ended so far. */
  get endedCount(): number {
    return this.#gatherTime.endedCount;
  }

  /** How long the next turn may let completions gather. */
  get gatherUs(): number {
    return this.#gatherTime.us(this.#reactor.nowMs, this.inFlightCount);
  }

  noteBlockDone(): void {
    this.#gatherTime.note();
  }

  /** Timers, waiting reads, paused connections, and what is to leave. */
  afterTurn(): void {
    const nowMs = this.#reactor.nowMs;
    for (let i = 0; i < this.#drivers.length; i++) {
      if (this.#drivers[i].nextDeadlineMs <= nowMs) this.#drivers[i].tick(nowMs);
    }
    if (nowMs >= this.#nextSweepMs) this.#sweep(nowMs);
    // Flushing may tell of payloads that have left, which frees memory that others wait for, and of connections that
    // failed, to which cores answer; the next turn may wait for ever, so all of that is done before it.
    do {
      this.#hasSent = false;
      if (this.#memoryFreed && this.#isStarved) this.#feedStarved();
      this.transport.flushSends();
    } while (this.#hasSent || (this.#memoryFreed && this.#isStarved));
  }

  #feedStarved(): void {
    this.#memoryFreed = false;
    this.#isStarved = false;
    for (let i = 0; i < this.#drivers.length; i++) {
      this.#drivers[i].retryReads();
      if (this.#drivers[i].isStarved) this.#isStarved = true;
    }
    this.transport.resume(); // paused connections ask again: placePayload
  }

  #sweep(nowMs: number): void {
    const connections = this.#connections;
    for (let connection = 0; connection < connections.limit; connection++) {
      const role = connections.role(connection);
      if (role === ConnectionRole.STRANGER && nowMs - connections.sinceMs(connection) > STRANGER_LIMIT_MS) {
        this.transport.close(connection);
      } else if (
        role === ConnectionRole.CONTROL && nowMs - this.transport.lastReceivedMs(connection) > CONTROL_IDLE_LIMIT_MS
      ) {
        this.transport.close(connection);
      }
    }
    this.#nextSweepMs = this.#openCount > 0 ? nowMs + SWEEP_MS : Infinity;
  }

  // ---- what legs ask of the node --------------------------------------------------------------------------------

  allocateForRead(lengthBytes: number): number {
    const slot = this.pool.usedBytes + lengthBytes > this.#ordinaryLimitBytes ? -1 : this.pool.allocate(lengthBytes);
    if (slot === -1) this.#isStarved = true;
    return slot;
  }

  noteSent(): void {
    this.#hasSent = true;
  }

  freeSlot(slot: number): void {
    this.pool.free(slot);
    this.#memoryFreed = true;
  }

  connectPeer(driver: LegDriver, legIndex: number, address: string): void {
    if (!this.#drivers.includes(driver)) return; // its leg has left service
    const connection = this.transport.connect(address);
    this.#hasSent = true; // an address that cannot be connected to is told of by the flush
    this.#noteOpen(connection, ConnectionRole.CONNECTING, driver, legIndex);
  }

  connectCaretaker(driver: LegDriver, tag: number, address: string): void {
    if (!this.#drivers.includes(driver)) return; // its leg has left service
    const connection = this.transport.connect(address);
    this.#hasSent = true;
    this.#noteOpen(connection, ConnectionRole.CARETAKER_CONNECTING, driver, tag);
  }

  /** As a client, for the operator's session at the driver's leg. */
  connectOperator(driver: LegDriver, legIndex: number, address: string): void {
    if (!this.#drivers.includes(driver)) return; // its leg has left service
    const connection = this.transport.connect(address);
    this.#hasSent = true;
    this.#noteOpen(connection, ConnectionRole.OPERATOR_CONNECTING, driver, legIndex);
  }

  closeConnection(key: number): void {
    const connection = this.#connections.keys.connectionOf(key);
    if (connection >= 0) this.transport.close(connection);
  }

  connectionOf(key: number): number {
    return this.#connections.keys.connectionOf(key);
  }

  reportEvent(driver: LegDriver, event: CoreEvent): void {
    this.#report({ kind: "event", pool: driver.poolName, event });
  }

  // ---- what the transport tells -----------------------------------------------------------------------------------

  onAccepted(connection: number, _listener: number, _peerAddress: string): void {
    this.#noteOpen(connection, ConnectionRole.STRANGER, null, -1);
    if (this.#turnsAway || this.#openCount > OPEN_LIMIT) this.transport.close(connection);
  }

  onConnected(connection: number): void {
    const driver = this.#connections.driver(connection)!;
    const legIndex = this.#connections.legIndex(connection);
    const key = this.#connections.keys.keyOf(connection);
    if (this.#connections.role(connection) === ConnectionRole.CARETAKER_CONNECTING) {
      this.#connections.become(connection, ConnectionRole.CARETAKER, driver);
      driver.caretakerConnected(legIndex, key);
      return;
    }
    if (this.#connections.role(connection) === ConnectionRole.OPERATOR_CONNECTING) {
      this.#connections.become(connection, ConnectionRole.OPERATOR, driver);
      if (driver.operator === null) this.transport.close(connection); // the session has ended meanwhile
      else driver.operator.connected(legIndex, key);
      return;
    }
    this.#connections.become(connection, ConnectionRole.LEG, driver);
    const message = `Leg ${legIndex} is reached ${wayOf(this.transport, connection)}, to fetch from it what was missed`;
    this.reportEvent(driver, { level: "info", name: "source-connected", message });
    driver.connected(legIndex, key);
  }

  placePayload(connection: number, message: Message, landedSlot = -1): number {
    const slot = this.#place(connection, message, landedSlot);
    if (slot >= 0) this.#connections.setPlacedSlot(connection, slot);
    else if (slot === PAUSE) this.#isStarved = true;
    return slot;
  }

  #place(connection: number, message: Message, landedSlot: number): number {
    const lengthBytes = message.payloadLength;
    switch (this.#connections.role(connection)) {
      case ConnectionRole.LEG:
        if (message.type === MessageType.WRITE && landedSlot < 0) {
          if (this.pool.usedBytes + lengthBytes > this.#ordinaryLimitBytes) return PAUSE;
          return this.pool.allocate(lengthBytes);
        }
        return isLegPayload(message.type) || message.type === MessageType.WRITE
          ? this.#room(lengthBytes, landedSlot)
          : REFUSE;
      case ConnectionRole.CONTROL:
        if (message.type !== MessageType.CONTROL_REQUEST || lengthBytes > CONTROL_PAYLOAD_LIMIT_BYTES) return REFUSE;
        return this.#room(lengthBytes, landedSlot);
      case ConnectionRole.CARETAKER:
        return bodyKind(message.type) === "json" ? this.#room(lengthBytes, landedSlot) : REFUSE;
      case ConnectionRole.OPERATOR:
        return bodyKind(message.type) === "none" ? REFUSE : this.#room(lengthBytes, landedSlot);
      case ConnectionRole.STRANGER:
        if (message.type !== MessageType.HELLO || lengthBytes > HELLO_LIMIT_BYTES) return REFUSE;
        return this.#room(lengthBytes, landedSlot);
      default:
        return REFUSE;
    }
  }

  /** A payload that has landed stays where it is: its memory was set aside when the connection was made. */
  #room(lengthBytes: number, landedSlot: number): number {
    return landedSlot >= 0 ? landedSlot : this.pool.allocate(lengthBytes);
  }

  onMessage(connection: number, message: Message, slot: number): void {
    this.#connections.setPlacedSlot(connection, -1);
    switch (this.#connections.role(connection)) {
      case ConnectionRole.LEG:
        this.#legMessage(connection, this.#connections.driver(connection)!, message, slot);
        return;
      case ConnectionRole.CONTROL:
        this.#operators.message(connection, message, slot);
        return;
      case ConnectionRole.STRANGER:
        this.#hello(connection, message, slot);
        return;
      case ConnectionRole.CARETAKER:
      case ConnectionRole.OPERATOR:
        this.#caretakerMessage(connection, this.#connections.driver(connection)!, message, slot);
        return;
      default:
        if (slot >= 0) this.freeSlot(slot);
    }
  }

  /** Every token is a slot whose owner asked for it to be freed once it had left. */
  onSent(_connection: number, token: number): void {
    this.freeSlot(token);
  }

  onClosed(connection: number, _reason: number): void {
    const role = this.#connections.role(connection);
    const driver = this.#connections.driver(connection);
    const legIndex = this.#connections.legIndex(connection);
    const key = this.#connections.keys.keyOf(connection);
    const placedSlot = this.#connections.placedSlot(connection);
    if (placedSlot >= 0) this.freeSlot(placedSlot); // its payload never arrived whole
    this.#connections.setPlacedSlot(connection, -1);
    this.#connections.remove(connection);
    this.#openCount--;
    if (driver === null) return;
    if (role === ConnectionRole.CARETAKER_CONNECTING) driver.caretakerConnectFailed(legIndex);
    else if (role === ConnectionRole.CARETAKER) driver.caretakerConnectionClosed(key);
    else if (role === ConnectionRole.OPERATOR_CONNECTING) driver.operator?.connectFailed(legIndex);
    else if (role === ConnectionRole.OPERATOR) driver.operator?.connectionClosed(key);
    else if (role === ConnectionRole.CONNECTING) driver.connectFailed(legIndex);
    else if (role === ConnectionRole.LEG) driver.connectionClosed(key);
  }

  // ---- frames -----------------------------------------------------------------------------------------------------

  #legMessage(connection: number, driver: LegDriver, message: Message, slot: number): void {
    const kind = bodyKind(message.type);
    if (kind === "none" || kind === "data") {
      driver.message(this.#connections.keys.keyOf(connection), message, slot, null);
      return;
    }
    const body = this.#takeBody(connection, message, slot);
    if (body !== undefined) driver.message(this.#connections.keys.keyOf(connection), message, -1, body);
  }

  /** A leg answers our caretaker, or an operator's session. One that says what cannot be understood is left alone. */
  #caretakerMessage(connection: number, driver: LegDriver, message: Message, slot: number): void {
    const key = this.#connections.keys.keyOf(connection);
    const isOperator = this.#connections.role(connection) === ConnectionRole.OPERATOR;
    const bytes = slot < 0 ? NO_BYTES : this.pool.bytes(slot).subarray(0, message.payloadLength);
    const kind = bodyKind(message.type);
    const isParsed = kind === "json" || (isOperator && kind === "words");
    const parsed = isParsed ? parseBody(message.type, bytes) : { ok: true as const, body: null };
    if (!parsed.ok) {
      const text = `A leg tells its peer's caretaker: ${parsed.message}`;
      this.reportEvent(driver, { level: "warning", name: "peer-frame-refused", message: text });
      this.transport.close(connection);
    } else if (!isOperator) driver.caretakerMessage(key, message, parsed.body);
    else driver.operator?.message(key, message, isParsed ? NO_BYTES : bytes, parsed.body);
    if (slot >= 0) this.freeSlot(slot);
  }

  /** The parsed body of a frame, its slot given back; undefined when it was unfit and has been answered with REFUSE. */
  #takeBody(connection: number, message: Message, slot: number): unknown {
    const bytes = slot < 0 ? NO_BYTES : this.pool.bytes(slot).subarray(0, message.payloadLength);
    const parsed = parseBody(message.type, bytes);
    if (slot >= 0) this.freeSlot(slot);
    if (parsed.ok) return parsed.body;
    this.#operators.refuse(connection, message.requestId, { code: "bad-request", message: parsed.message });
    return undefined;
  }

  #hello(connection: number, message: Message, slot: number): void {
    if (message.type !== MessageType.HELLO) {
      if (slot >= 0) this.freeSlot(slot);
      this.#operators.refuse(connection, message.requestId, {
        code: "bad-request",
        message: "The first frame is not HELLO",
      });
      return;
    }
    const requestId = message.requestId;
    const body = this.#takeBody(connection, message, slot);
    if (body === undefined) return;
    const hello = body as Hello;
    const agreement = answerOffer(OUR_DIALECT, hello);
    if (!agreement.ok) {
      this.#operators.refuse(connection, requestId, { code: agreement.code, message: agreement.message });
      return;
    }
    if (hello.role === "control") {
      this.#connections.become(connection, ConnectionRole.CONTROL, null);
      this.#operators.welcome(connection, requestId, agreement.protocol, agreement.features);
      return;
    }
    const driver = this.#drivers.find((each) => each.poolUuid === hello.poolUuid && each.legIndex === hello.legIndex);
    if (driver === undefined) {
      const poolKnown = this.#drivers.some((each) => each.poolUuid === hello.poolUuid);
      this.#operators.refuse(connection, requestId, {
        code: poolKnown ? "unknown-leg" : "unknown-pool",
        message:
          `This node does not serve leg ${hello.legIndex} of the pool: its disk cannot be opened, or it was never here; ` +
          '"brmr status" tells which',
      });
      return;
    }
    this.#connections.become(connection, ConnectionRole.LEG, driver);
    driver.hello(this.#connections.keys.keyOf(connection), requestId, hello);
  }

  /** Sends the main isolate's reply to an operator. */
  sendControlReply(reply: ControlReply): void {
    this.#operators.reply(reply);
  }

  sendFrame(connection: number, message: Message, payload: Uint8Array | null): void {
    this.#hasSent = true;
    this.transport.sendBytes(connection, message, payload);
  }

  #noteOpen(connection: number, role: number, driver: LegDriver | null, legIndex: number): void {
    const nowMs = this.#reactor.nowMs;
    this.#connections.open(connection, role, driver, legIndex, nowMs);
    this.#openCount++;
    if (this.#nextSweepMs === Infinity) this.#nextSweepMs = nowMs + SWEEP_MS;
  }
}

/** Whether a leg's client or peer may send a payload of this type, WRITE apart. */
function isLegPayload(type: number): boolean {
  const kind = bodyKind(type);
  return kind === "json" || kind === "words" || type === MessageType.PULL_DATA;
}

/** How a connection goes, in words. */
function wayOf(transport: Transport, connection: number): string {
  const rdma = transport.describe?.(connection) ?? null;
  if (rdma !== null) return `by RDMA on ${rdma.device} (${rdma.path})`;
  return transport.way?.(connection)?.transport === "shared-memory" ? "by shared memory" : "over TCP";
}
