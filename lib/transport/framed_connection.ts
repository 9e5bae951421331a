/**
 * One connection of frames over a stream: parses and checks what arrives, encodes and queues what leaves. `TcpTransport`
 * owns these, gives them numbers and passes their news on.
 *
 * Promises:
 * - A frame is delivered only whole and checked: header sum, rules between fields, payload sum. Anything else ends the
 *   connection with a reason in the log; the peer can cause nothing worse.
 * - No allocation per frame and no copy of a large payload: headers are decoded into one reused message, payloads are
 *   received into and sent from pool memory.
 * - After the end was asked for, or a fault was found, no further frame is delivered; every token is still returned, then
 *   `ended` is called once.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { StreamProtocol } from "../io/stream_socket.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message, MessageFlag, MessageType } from "../wire/message.ts";
import { CloseReason } from "./close_reason.ts";
import { overflowText, refusedFrameText } from "./connection_texts.ts";
import { frameFault } from "./frame_rules.ts";
import { isPayloadSound, setPayloadFields } from "./payload_crc.ts";
import type { PayloadSharing } from "./payload_sharing.ts";
import { COPY_PIECE_BYTES, SendBacklog } from "./send_backlog.ts";
import type { FrameStream, StreamWay } from "./stream_network.ts";
import type { ConnectionStats, TransportHandler } from "./transport.ts";

/** What a connection needs of the transport it belongs to. */
export interface ConnectionOwner {
  readonly pool: BufferPool;
  /** Whether payloads in slots are summed when sent. */
  readonly checksums: boolean;
  readonly maxQueuedFrames: number;
  readonly maxQueuedBytes: number;
  readonly handler: TransportHandler;
  /** A payload is no longer needed while the user is still in `send`: `onSent` is to be called later. */
  sentAtOnce(connection: number, token: number): void;
  /** Nothing more comes of this connection. */
  ended(connection: FramedConnection, reason: number): void;
  report(text: string): void;
}

const CONNECTING = 0;
const OPEN = 1;
/** The end was asked for; waiting for the stream to say so. */
const CLOSING = 2;
const CLOSED = 3;

/** Short copied payloads are put behind their header in one reservation. */
const SHORT_COPY_BYTES = COPY_PIECE_BYTES - HEADER_BYTES;

const TCP_WAY: StreamWay = { transport: "tcp" };
/** Outcomes of taking a shared payload that are no slot; PAUSED is also what `placePayload` says. */
const PAUSED = -1;
const REFUSED = -2;
/** Fills a pair of pages; what `takeReleased` gives when there is none. */
const NO_PAGE = 0xffffffff;
const MOST_RELEASED_PAIRS = 512;

/** See the module's description. */
export class FramedConnection implements StreamProtocol {
  readonly id: number;
  readonly peerAddress: string;
  readonly stats: ConnectionStats = { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
  readonly #owner: ConnectionOwner;
  readonly #backlog: SendBacklog;
  readonly #incoming = new Message();
  readonly #releaseMessage = new Message();
  #stream: FrameStream | null = null;
  #sharing: PayloadSharing | null = null;
  #state = CONNECTING;
  /** Where the payload of `#incoming` is being received, or -1. */
  #placedSlot = -1;
  /** Whether part of a frame is staged, so that an end of file now is not an orderly one. */
  #inFrame = false;
  #paused = false;
  /** In a callback of the stream, which must not be closed under its feet. */
  #inCallback = false;
  #closeWanted = false;
  /** In a call into the stream to send, whose `onSent` must not reach the user before `send` returns. */
  #sending = false;
  #closeReason: number = CloseReason.ORDERLY;

  constructor(id: number, peerAddress: string, owner: ConnectionOwner) {
    this.id = id;
    this.peerAddress = peerAddress;
    this.#owner = owner;
    this.#backlog = new SendBacklog(owner.maxQueuedFrames);
  }

  /** Whether frames may be sent. */
  get isOpen(): boolean {
    return this.#state === OPEN;
  }

  /** Which way the connection takes, for people; null before it stands. */
  get way(): StreamWay | null {
    return this.#stream === null ? null : this.#stream.way ?? TCP_WAY;
  }

  /** Whether payloads need not travel. */
  get isSharing(): boolean {
    return this.#sharing !== null;
  }

  /** Bytes that wait to be taken by the network, here and in the stream. */
  get queuedBytes(): number {
    return this.#backlog.queuedBytes + (this.#stream === null ? 0 : this.#stream.queuedBytes);
  }

  /** Milliseconds (reactor clock) when bytes last arrived; 0 before the connection stands. */
  get lastReceivedMs(): number {
    return this.#stream === null ? 0 : this.#stream.lastReceivedMs;
  }

  /** The stream is connected. */
  attach(stream: FrameStream): void {
    assert(this.#stream === null, "A connection has one stream");
    this.#stream = stream;
    this.#sharing = stream.sharing ?? null;
    if (this.#state === CONNECTING) this.#state = OPEN;
    else stream.close();
  }

  /** Queues a frame whose payload is pool slot `slot`, or none (-1). False when the connection is gone. */
  send(message: Message, slot: number, token: number): boolean {
    if (this.#state !== OPEN) return false;
    const { payloadLength } = message;
    if (slot < 0) {
      assert(payloadLength === 0, "A frame without a slot has no payload", payloadLength);
      if (!this.#sendFrame(message, null, 0, -1)) return false;
      if (token >= 0) this.#owner.sentAtOnce(this.id, token);
      return true;
    }
    const { pool } = this.#owner;
    const bytes = pool.bytes(slot);
    assert(payloadLength > 0 && payloadLength <= bytes.length, "The payload lies within its slot", payloadLength);
    // Without a token nobody waits for the payload to leave: it may be overwritten as soon as we return.
    if (token < 0) return this.sendCopy(message, bytes.subarray(0, payloadLength));
    if (this.#sharing !== null && message.type === MessageType.WRITE) {
      const page = this.#sharing.share(slot);
      if (page >= 0) return this.#sendShared(message, page, token);
    }
    return this.#sendFrame(message, bytes, pool.address(slot), token);
  }

  /** Queues a frame with a copy of `payload`. False when the connection is gone. */
  sendCopy(message: Message, payload: Uint8Array | null): boolean {
    if (this.#state !== OPEN) return false;
    const { payloadLength } = message;
    message.payloadLength = payload === null ? 0 : payload.length;
    const queued = payload === null || payload.length === 0
      ? this.#sendFrame(message, null, 0, -1)
      : this.#sendCopy(message, payload);
    message.payloadLength = payloadLength;
    return queued;
  }

  /** Fills the stream with what waits and starts its send. */
  flushSends(): void {
    const stream = this.#stream;
    if (stream === null || this.#state !== OPEN) return;
    if (this.#sharing !== null && this.#sharing.releasedCount > 0) this.#sendReleased(this.#sharing);
    if (!this.#backlog.isEmpty) {
      this.#sending = true;
      this.#backlog.pump(stream);
      this.#sending = false;
    }
    stream.flushSends();
  }

  /** Asks for a place for the payload again, if that was refused for want of memory. */
  resume(): void {
    if (!this.#paused || this.#state !== OPEN) return;
    this.#paused = false;
    this.#stream!.resumeReceiving();
  }

  /** Ends the connection; `ended` follows. */
  close(): void {
    this.#end(CloseReason.ORDERLY);
  }

  /** The attempt to connect failed. */
  failed(reason: number): void {
    this.onClosed(reason);
  }

  onBytes(_staging: Uint8Array, view: DataView, start: number, end: number): number {
    if (this.#state !== OPEN) return end - start;
    this.#inCallback = true;
    const consumedBytes = this.#parse(view, start, end);
    this.#leaveCallback();
    return this.#state === OPEN ? consumedBytes : end - start;
  }

  onPayload(): void {
    const slot = this.#placedSlot;
    this.#placedSlot = -1;
    if (this.#state !== OPEN) return;
    this.#inCallback = true;
    if (this.#payloadSound(slot)) this.#deliver(slot);
    this.#leaveCallback();
  }

  onSent(token: number, _result: number): void {
    if (this.#sending) {
      this.#owner.sentAtOnce(this.id, token);
      return;
    }
    const nested = this.#inCallback;
    this.#inCallback = true;
    this.#owner.handler.onSent(this.id, token);
    if (!nested) this.#leaveCallback();
  }

  onClosed(reason: number): void {
    assert(this.#state !== CLOSED, "A connection ends once", this.id);
    if (this.#state !== CLOSING) {
      const cutOff = reason === 0 && (this.#inFrame || this.#placedSlot >= 0);
      this.#closeReason = cutOff ? CloseReason.RESET : reason;
    }
    this.#state = CLOSED;
    this.#sharing?.streamClosed();
    while (!this.#backlog.isEmpty) {
      const token = this.#backlog.takeToken();
      if (token >= 0) this.#owner.handler.onSent(this.id, token);
    }
    this.#owner.ended(this, this.#closeReason);
  }

  /** Takes what frames it can; returns what `onBytes` shall return while the connection is open. */
  #parse(view: DataView, start: number, end: number): number {
    const message = this.#incoming;
    let at = start;
    while (end - at >= HEADER_BYTES) {
      const fault = decodeHeader(view, at, message);
      if (fault !== null) {
        this.#fault(fault === "crc" ? CloseReason.BAD_MESSAGE : CloseReason.PROTOCOL, `its header has a bad ${fault}`);
        return 0;
      }
      const broken = frameFault(message, this.#sharing !== null);
      if (broken !== null) {
        this.#fault(CloseReason.PROTOCOL, broken);
        return 0;
      }
      if (message.type === MessageType.RELEASED) {
        if (end - at < HEADER_BYTES + message.payloadLength) break;
        if (!this.#released(view, at + HEADER_BYTES, message.payloadLength)) return 0;
        at += HEADER_BYTES + message.payloadLength;
        continue;
      }
      if ((message.flags & MessageFlag.SHARED_PAYLOAD) !== 0) {
        const taken = this.#takeShared();
        if (taken === PAUSED) return this.#pause(at - start);
        if (taken === REFUSED) return 0;
        at += HEADER_BYTES;
        this.#deliver(taken);
        if (this.#state !== OPEN) return 0;
        continue;
      }
      if (message.payloadLength > 0) {
        const slot = this.#owner.handler.placePayload(this.id, message, -1);
        if (this.#state !== OPEN) return 0;
        if (slot >= 0) return this.#expectPayload(slot, at + HEADER_BYTES - start);
        if (slot === -1) return this.#pause(at - start);
        this.#fault(CloseReason.PROTOCOL, "its payload is not wanted");
        return 0;
      }
      at += HEADER_BYTES;
      this.#deliver(-1);
      if (this.#state !== OPEN) return 0;
    }
    this.#inFrame = at < end;
    return at - start;
  }

  /** The slot of a payload that lies in the peer's memory, once the user has taken it; or {@link PAUSED}, {@link REFUSED}. */
  #takeShared(): number {
    const message = this.#incoming;
    const page = message.payloadCrc;
    const isWrite = this.#sharing !== null && message.type === MessageType.WRITE;
    const slot = isWrite ? this.#sharing!.borrow(page, message.payloadLength) : -1;
    if (slot < 0) {
      this.#fault(CloseReason.PROTOCOL, "its payload lies in memory that is not shared");
      return REFUSED;
    }
    message.flags &= ~MessageFlag.SHARED_PAYLOAD;
    message.payloadCrc = 0;
    const placed = this.#owner.handler.placePayload(this.id, message, slot);
    // Once named the slot is the user's, who gives it back when told of the end.
    if (placed === slot) return this.#state === OPEN ? slot : REFUSED;
    this.#sharing!.unborrow(slot);
    if (this.#state !== OPEN) return REFUSED;
    if (placed === PAUSED) return PAUSED;
    this.#fault(CloseReason.PROTOCOL, "its payload is not wanted");
    return REFUSED;
  }

  /** The peer is done with pages of our memory. */
  #released(view: DataView, at: number, lengthBytes: number): boolean {
    for (let i = 0; i < lengthBytes; i += 4) {
      const page = view.getUint32(at + i, true);
      if (page === NO_PAGE || (this.#sharing !== null && this.#sharing.released(page))) continue;
      this.#fault(CloseReason.PROTOCOL, "it gives back memory that was not lent");
      return false;
    }
    return true;
  }

  /** Tells the peer of its pages that are done with, as many as there is room for. */
  #sendReleased(sharing: PayloadSharing): void {
    const stream = this.#stream!;
    // Behind what waits already: a page may not be given back before the answer that lets its owner go on.
    while (sharing.releasedCount > 0 && this.#backlog.isEmpty && stream.canSend) {
      const pairs = Math.min(MOST_RELEASED_PAIRS, (sharing.releasedCount + 1) >> 1);
      const at = stream.reserve(HEADER_BYTES + pairs * 8);
      if (at < 0) return;
      const message = this.#releaseMessage.reset(MessageType.RELEASED);
      message.flags = MessageFlag.NO_PAYLOAD_CRC;
      message.payloadLength = pairs * 8;
      encodeHeader(message, stream.sendView, at);
      for (let i = 0; i < pairs * 2; i++) {
        stream.sendView.setUint32(at + HEADER_BYTES + i * 4, sharing.takeReleased() >>> 0, true);
      }
    }
  }

  #sendShared(message: Message, page: number, token: number): boolean {
    const { flags, payloadCrc: crc } = message;
    assert(
      frameFault(message, this.#sharing !== null) === null,
      "What we send keeps the rules of frames",
      message.type,
      message.payloadLength,
    );
    message.flags |= MessageFlag.SHARED_PAYLOAD;
    message.payloadCrc = page;
    const queued = this.#queueFrame(message, null, 0, -1);
    message.flags = flags;
    message.payloadCrc = crc;
    if (!queued) {
      this.#sharing!.released(page);
      return this.#overflow();
    }
    // The slot is held by whoever shares it: its user need not wait for it to leave.
    this.#owner.sentAtOnce(this.id, token);
    return true;
  }

  #expectPayload(slot: number, consumedBytes: number): number {
    const { pool } = this.#owner;
    const bytes = pool.bytes(slot);
    const { payloadLength } = this.#incoming;
    assert(payloadLength <= bytes.length, "The payload fits into the slot named for it", payloadLength, bytes.length);
    this.#placedSlot = slot;
    this.#inFrame = false;
    // LIFETIME: the kernel may write to the slot until `onPayload` or `onClosed`; the user keeps it until then.
    this.#stream!.expectPayload(bytes, pool.address(slot), payloadLength);
    return consumedBytes;
  }

  /** Stops reading until `resume`, once the frames before the one that found no place are consumed. */
  #pause(consumedBytes: number): number {
    this.#inFrame = true;
    if (consumedBytes > 0) return consumedBytes;
    this.#paused = true;
    return -1;
  }

  #payloadSound(slot: number): boolean {
    if (isPayloadSound(this.#incoming, this.#owner.pool.bytes(slot))) return true;
    this.#fault(CloseReason.BAD_MESSAGE, "its payload does not match its checksum");
    return false;
  }

  #deliver(slot: number): void {
    this.stats.receivedFrames++;
    this.stats.receivedBytes += HEADER_BYTES + this.#incoming.payloadLength;
    this.#owner.handler.onMessage(this.id, this.#incoming, slot);
  }

  /** Sends or queues, with the header's payload fields set for the while. `payload` is pool memory, or null. */
  #sendFrame(message: Message, payload: Uint8Array | null, address: number, token: number): boolean {
    const { flags, payloadCrc: crc } = message;
    setPayloadFields(message, payload, this.#owner.checksums, this.#sharing !== null);
    const queued = this.#hasRoomFor(message) && this.#queueFrame(message, payload, address, token);
    message.flags = flags;
    message.payloadCrc = crc;
    return queued || this.#overflow();
  }

  #queueFrame(message: Message, payload: Uint8Array | null, address: number, token: number): boolean {
    const stream = this.#stream!;
    let headerOut = false;
    if (this.#backlog.isEmpty && stream.canSend) {
      const at = stream.reserve(HEADER_BYTES);
      if (at >= 0) {
        encodeHeader(message, stream.sendView, at);
        this.#count(message);
        if (payload === null) return true;
        this.#sending = true;
        const taken = stream.queuePayload(payload, address, message.payloadLength, token);
        this.#sending = false;
        if (taken) return true;
        headerOut = true;
      }
    }
    if (!this.#backlog.push(message, payload, address, token, false, headerOut)) return false;
    if (!headerOut) this.#count(message);
    return true;
  }

  #sendCopy(message: Message, payload: Uint8Array): boolean {
    const { flags, payloadCrc: crc } = message;
    // What is copied, maps and tables above all, is little: it is always summed.
    setPayloadFields(message, payload, true, this.#sharing !== null);
    const queued = this.#hasRoomFor(message) && this.#queueCopy(message, payload);
    message.flags = flags;
    message.payloadCrc = crc;
    return queued || this.#overflow();
  }

  #queueCopy(message: Message, payload: Uint8Array): boolean {
    const stream = this.#stream!;
    if (this.#backlog.isEmpty && payload.length <= SHORT_COPY_BYTES && stream.canSend) {
      const at = stream.reserve(HEADER_BYTES + payload.length);
      if (at >= 0) {
        encodeHeader(message, stream.sendView, at);
        stream.sendBytes.set(payload, at + HEADER_BYTES);
        this.#count(message);
        return true;
      }
    }
    if (!this.#backlog.push(message, payload.slice(), 0, -1, true, false)) return false;
    this.#count(message);
    return true;
  }

  #hasRoomFor(message: Message): boolean {
    return this.queuedBytes + HEADER_BYTES + message.payloadLength <= this.#owner.maxQueuedBytes;
  }

  #count(message: Message): void {
    this.stats.sentFrames++;
    this.stats.sentBytes += HEADER_BYTES + message.payloadLength;
  }

  /** More waits than may: the peer does not take what it gave credit for. */
  #overflow(): boolean {
    this.#owner.report(overflowText(this, this.queuedBytes, this.#owner.maxQueuedBytes));
    this.#end(CloseReason.QUEUE_FULL);
    return false;
  }

  #fault(reason: number, what: string): void {
    this.#owner.report(refusedFrameText(this, this.#incoming.type, what));
    this.#end(reason);
  }

  #end(reason: number): void {
    if (this.#state >= CLOSING) return;
    const connected = this.#state === OPEN;
    // Last words, such as a REFUSE, get their chance to leave.
    if (reason === CloseReason.ORDERLY) this.flushSends();
    this.#state = CLOSING;
    this.#closeReason = reason;
    if (this.#inCallback) this.#closeWanted = true;
    else if (connected) this.#stream!.close();
  }

  #leaveCallback(): void {
    this.#inCallback = false;
    if (!this.#closeWanted) return;
    this.#closeWanted = false;
    this.#stream!.close();
  }
}
