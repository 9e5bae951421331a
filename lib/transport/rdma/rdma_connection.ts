/**
 * One connection of frames over a link: takes packets apart and checks what arrives, and has `PacketSender` send what
 * leaves. `RdmaTransport` owns these, gives them numbers and passes their news on.
 *
 * Promises, as for a connection over a stream: a frame is delivered only whole and checked; the peer can cause nothing
 * worse than the end of the connection; after the end was asked for no frame is delivered; every token is returned,
 * then `ended` is called once, when the device can no longer reach any memory for this connection.
 *
 * @module
 */

import { assert } from "../../base/assert.ts";
import { decodeHeader, HEADER_BYTES, Message } from "../../wire/message.ts";
import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { CloseReason } from "../close_reason.ts";
import { failureOf } from "./completion_status.ts";
import { overflowText, refusedFrameText } from "../connection_texts.ts";
import { frameFault } from "../frame_rules.ts";
import { isPayloadSound, setPayloadFields } from "../payload_crc.ts";
import type { ConnectionStats, TransportHandler } from "../transport.ts";
import { FrameQueue } from "./frame_queue.ts";
import type { Landing, LendingPool } from "./landing_memory.ts";
import type { LinkUser, PendingLink, RdmaLink } from "./link.ts";
import {
  IN_BAND,
  type Offer,
  PACKET_BYTES,
  PACKET_HEADER_BYTES,
  packetBodyAt,
  PacketFlag,
  RECORD_BYTES,
} from "./packet.ts";
import { PacketInbox } from "./packet_inbox.ts";
import { FIRST_SEND_ID, PacketSender } from "./packet_sender.ts";

/** What a connection needs of the transport it belongs to. */
export interface RdmaOwner {
  readonly pool: LendingPool;
  /** Whether payloads in slots are summed. */
  readonly checksums: boolean;
  readonly maxQueuedFrames: number;
  readonly maxQueuedBytes: number;
  readonly handler: TransportHandler;
  readonly nowMs: number;
  /** A token to be returned later, not from within `send`. */
  sentAtOnce(connection: number, token: number): void;
  /** The connection stands. */
  established(connection: RdmaConnection): void;
  ended(connection: RdmaConnection, reason: number): void;
  report(text: string): void;
}

/**
 * How long an attempt to connect may take. The connection manager itself tries a silent machine for more than a minute; TCP
 * may lead there meanwhile. Looked at whenever the worker turns, so it may take a little longer.
 */
const CONNECT_LIMIT_MS = 3000;

/**
 * How long what is under way may take to leave a connection that is closed, and how long a peer may have been silent for that
 * to be waited for at all. The device itself tries for seconds to reach a peer that is gone, and until it has given up, or
 * the link is closed, payloads are not free, nor are the requests complete that they belong to.
 */
const DRAIN_LIMIT_MS = 500;
const SILENCE_MS = 1500;

const CONNECTING = 0;
const OPEN = 1;
/** The end was asked for: what is under way may still leave, then the link is closed. */
const CLOSING = 2;
/** The link was stopped: what is under way completes, whether or not it left. */
const STOPPING = 3;
/** It did not: the device has memory until the link is gone. */
const STUCK = 4;
const CLOSED = 5;

/** See the module's description. */
export class RdmaConnection implements LinkUser {
  readonly id: number;
  readonly peerAddress: string;
  /** Where it was accepted; -1 for one of ours. */
  readonly listener: number;
  readonly landing: Landing;
  readonly stats: ConnectionStats = { sentBytes: 0, receivedBytes: 0, sentFrames: 0, receivedFrames: 0 };
  lastReceivedMs = 0;
  link: RdmaLink | null = null;
  /** The attempt to connect, while there is no link. */
  pending: PendingLink | null = null;
  readonly #owner: RdmaOwner;
  readonly #startedMs: number;
  readonly #queue: FrameQueue;
  readonly #incoming = new Message();
  readonly #onSent: (token: number) => void;
  #sender: PacketSender | null = null;
  #state = CONNECTING;
  #reason: number = CloseReason.ORDERLY;
  /** The link is not to be waited for: the peer or the device is gone, or the peer broke the rules. */
  #isBroken = false;
  /** The peer has said that it ends the connection. */
  #hasPeerLeft = false;
  #closedMs = 0;
  #stoppedMs = 0;
  #paused = false;
  readonly #inbox = new PacketInbox();
  readonly #view: DataView;
  /** Slot of a payload that comes in band, or that has landed and found no place yet; -1 for none. */
  #slot = -1;
  #landedSlot = -1;
  #receivedBytes = 0;

  constructor(id: number, peerAddress: string, listener: number, landing: Landing, owner: RdmaOwner) {
    this.id = id;
    this.peerAddress = peerAddress;
    this.listener = listener;
    this.landing = landing;
    this.#owner = owner;
    this.#startedMs = owner.nowMs;
    this.#queue = new FrameQueue(owner.maxQueuedFrames);
    this.#onSent = (token) => owner.handler.onSent(id, token);
    const { packets } = landing;
    this.#view = new DataView(packets.buffer, packets.byteOffset, packets.byteLength);
  }

  get isOpen(): boolean {
    return this.#state === OPEN;
  }

  get queuedBytes(): number {
    return this.#queue.queuedBytes;
  }

  /** Queues a frame whose payload is pool slot `slot`, or none (-1). False when the connection is gone. */
  send(message: Message, slot: number, token: number): boolean {
    if (this.#state !== OPEN) return false;
    const { payloadLength } = message;
    if (slot < 0) {
      assert(payloadLength === 0, "A frame without a slot has no payload", payloadLength);
      if (!this.#queueFrame(message, null, 0, -1)) return false;
      if (token >= 0) this.#owner.sentAtOnce(this.id, token);
      return true;
    }
    const bytes = this.#owner.pool.bytes(slot);
    assert(payloadLength > 0 && payloadLength <= bytes.length, "The payload lies within its slot", payloadLength);
    if (token < 0) return this.#queueFrame(message, bytes.slice(0, payloadLength), 0, -1);
    return this.#queueFrame(message, bytes, this.#owner.pool.address(slot), token);
  }

  /** Queues a frame with a copy of `payload`. False when the connection is gone. */
  sendCopy(message: Message, payload: Uint8Array | null): boolean {
    if (this.#state !== OPEN) return false;
    const { payloadLength } = message;
    message.payloadLength = payload === null ? 0 : payload.length;
    const copy = message.payloadLength === 0 ? null : payload!.slice();
    const queued = this.#queueFrame(message, copy, 0, -1);
    message.payloadLength = payloadLength;
    return queued;
  }

  /** Posts what waits, as far as there is room. */
  flush(): void {
    const link = this.link;
    if (link === null || this.#state >= STOPPING || this.#isBroken) return;
    this.#sender!.fill();
    if (link.post() !== 0) this.#break(CloseReason.RESET, "its send queue refuses requests");
  }

  /**
   * Asks to be woken, once, by what has not come yet: by packets, and by the completions of our own ones only when something
   * waits for them. Whether it had not been asked for.
   */
  arm(): boolean {
    return this.link?.arm(this.#state !== OPEN || this.#sender!.awaitsCompletion) ?? false;
  }

  /** Takes completions and frames. Whether there were any. */
  service(): boolean {
    const link = this.link;
    if (link === null || this.#state === CONNECTING || this.#state >= STUCK) return false;
    if (this.#state === STOPPING) return this.#takeStopped(link);
    let any = false;
    for (;;) {
      const count = this.#isBroken ? 0 : link.poll();
      if (count < 0) this.#break(CloseReason.RESET, "its completion queue is broken");
      if (count <= 0) break;
      any = true;
      for (let i = 0; i < count; i++) this.#complete(link.workId(i), link.status(i), link.byteLength(i));
      this.#parse();
    }
    if (any && !this.#isBroken) this.flush();
    return any;
  }

  /** Ends a connection whose end was asked for, once nothing is left to wait for. */
  progressEnd(): void {
    if (this.#state === STOPPING) return this.#progressStop();
    if (this.#state !== CLOSING) return;
    const isDrained = this.#sender === null || this.#sender.underWayCount === 0;
    if (!isDrained && !this.#isBroken && this.#owner.nowMs - this.#closedMs < DRAIN_LIMIT_MS) return;
    // A device that is gone completes nothing. It waits for nobody then, nor for a peer that was there a moment ago.
    const isQuick = this.#hasPeerLeft || this.#reason === CloseReason.NO_DEVICE || (isDrained && !this.#isBroken);
    if (this.link !== null && !isQuick) {
      this.#state = STOPPING;
      this.#stoppedMs = this.#owner.nowMs;
      this.link.stop();
      this.#takeStopped(this.link);
      return this.#progressStop();
    }
    this.pending?.cancel();
    this.link?.close();
    this.landing.release(this.#owner.nowMs);
    this.#finish();
  }

  /**
   * Lets a stopped link go when the device has nothing to read any more. To let go of it can take the device seconds, for
   * which nobody waits: only the landing does.
   */
  #progressStop(): void {
    const isDrained = this.#sender!.underWayCount === 0;
    if (!isDrained && this.#owner.nowMs - this.#stoppedMs < DRAIN_LIMIT_MS) return;
    this.#state = STUCK;
    this.link!.abandon(() => {
      this.landing.release(this.#owner.nowMs);
      if (!isDrained) this.#finish();
    });
    if (isDrained) this.#finish();
  }

  /** What the device reads no more is returned, then nothing is left. */
  #finish(): void {
    this.#state = CLOSED;
    while (!this.#queue.isEmpty) {
      if (this.#queue.token >= 0) this.#onSent(this.#queue.token);
      this.#queue.drop();
    }
    this.#sender?.abandon(this.#onSent);
    if (this.#landedSlot >= 0) this.#owner.pool.free(this.#landedSlot);
    this.#owner.ended(this, this.#reason);
  }

  /** Gives up an attempt to connect that takes too long. */
  checkAge(): void {
    if (this.#state !== CONNECTING || this.#owner.nowMs - this.#startedMs < CONNECT_LIMIT_MS) return;
    this.pending?.cancel();
    this.onFailed(CloseReason.TIMED_OUT);
  }

  resume(): void {
    if (this.#state !== OPEN) return;
    this.#paused = false;
  }

  /** Takes apart what waited while the connection was paused. */
  goOn(): void {
    if (this.#inbox.isEmpty || this.#paused) return;
    this.#parse();
    this.flush();
  }

  close(): void {
    if (this.#state >= CLOSING) return;
    if (this.#state === OPEN) this.flush(); // last words get their chance to leave
    if (this.#state >= CLOSING) return;
    this.#state = CLOSING;
    this.#reason = CloseReason.ORDERLY;
    this.#closedMs = this.#owner.nowMs;
    if (this.#closedMs - this.lastReceivedMs >= SILENCE_MS) this.#isBroken = true;
  }

  onEstablished(link: RdmaLink, offer: Offer): void {
    this.pending = null;
    this.link = link;
    this.#sender = new PacketSender(
      this.#queue,
      link,
      this.landing,
      offer,
      (token) => this.#owner.sentAtOnce(this.id, token),
    );
    this.lastReceivedMs = this.#owner.nowMs;
    if (this.#state !== CONNECTING) return; // its end was asked for meanwhile
    this.#state = OPEN;
    this.#owner.established(this);
  }

  onFailed(reason: number): void {
    this.pending = null;
    if (this.#state === CONNECTING) this.#reason = reason;
    this.#state = CLOSING;
    this.#isBroken = true;
  }

  onDisconnected(reason: number): void {
    // What arrived before the end counts.
    this.service();
    if (this.#state === OPEN) {
      const isCutOff = reason === 0 && this.#slot >= 0;
      this.#reason = isCutOff ? CloseReason.RESET : reason;
      this.#state = CLOSING;
    }
    this.#hasPeerLeft = reason === 0;
    this.#isBroken = true;
  }

  /** Takes the completions of a link that was stopped. Whether there were any. */
  #takeStopped(link: RdmaLink): boolean {
    let any = false;
    for (let count = link.poll(); count > 0; count = link.poll()) {
      any = true;
      for (let i = 0; i < count; i++) {
        if (link.workId(i) >= FIRST_SEND_ID) this.#sender!.completed(link.workId(i), this.#onSent);
      }
    }
    return any;
  }

  // ---- what arrives -----------------------------------------------------------------------------------------------

  #complete(workId: number, status: number, lengthBytes: number): void {
    if (status !== 0) {
      // However it ended, its memory is not read any more.
      if (workId >= FIRST_SEND_ID) this.#sender!.completed(workId, this.#onSent);
      // Requests of a queue pair that is in error already tell nothing new.
      if (status === VERBS_LAYOUT.IBV_WC_WR_FLUSH_ERR) return this.#break(CloseReason.RESET, "");
      const { reason, text } = failureOf(status);
      this.#break(reason, text);
    } else if (workId >= FIRST_SEND_ID) {
      this.#sender!.completed(workId, this.#onSent);
    } else {
      this.lastReceivedMs = this.#owner.nowMs;
      this.#packetArrived(workId, lengthBytes);
    }
  }

  /** Takes what the peer says of receives and memory at once, and lines the packet up. */
  #packetArrived(buffer: number, lengthBytes: number): void {
    const view = this.#view;
    const at = buffer * PACKET_BYTES;
    const bodyAt = packetBodyAt(view, at, lengthBytes);
    if (bodyAt < 0) return this.#break(CloseReason.PROTOCOL, "a packet is malformed");
    const sender = this.#sender!;
    if (!sender.peerTook(view.getUint32(at + 4, true))) {
      return this.#break(CloseReason.PROTOCOL, "it counts packets that were not sent");
    }
    for (let freedAt = at + PACKET_HEADER_BYTES; freedAt < bodyAt; freedAt += 4) {
      if (!sender.peerFreed(view.getUint32(freedAt, true))) {
        return this.#break(CloseReason.PROTOCOL, "it frees memory that is not in use");
      }
    }
    if ((view.getUint16(at + 2, true) & PacketFlag.WAITS_FOR_MEMORY) !== 0) sender.peerWaits = true;
    this.#inbox.add(bodyAt, at + lengthBytes);
  }

  #parse(): void {
    const inbox = this.#inbox;
    while (!inbox.isEmpty && this.#state === OPEN && !this.#paused) {
      while (inbox.at < inbox.end && this.#state === OPEN && !this.#paused) this.#parseOne();
      if (inbox.at < inbox.end) return;
      const buffer = inbox.drop();
      this.link!.addReceive(buffer, this.landing.packetAddress + buffer * PACKET_BYTES, PACKET_BYTES);
      this.#sender!.receivedCount = (this.#sender!.receivedCount + 1) >>> 0;
    }
  }

  /** Takes a record, or a piece of a payload. Where it stays before the record, the connection is paused or ended. */
  #parseOne(): void {
    if (this.#slot >= 0) return this.#takePiece();
    const { at, end } = this.#inbox;
    if (end - at < RECORD_BYTES) return this.#fault(CloseReason.PROTOCOL, "its record is cut");
    const message = this.#incoming;
    const fault = decodeHeader(this.#view, at, message);
    if (fault !== null) {
      return this.#fault(
        fault === "crc" ? CloseReason.BAD_MESSAGE : CloseReason.PROTOCOL,
        `its header has a bad ${fault}`,
      );
    }
    const broken = frameFault(message);
    if (broken !== null) return this.#fault(CloseReason.PROTOCOL, broken);
    if (message.payloadLength === 0) {
      this.#inbox.at += RECORD_BYTES;
      return this.#deliver(-1);
    }
    const placement = this.#view.getUint32(at + HEADER_BYTES, true);
    if (placement !== IN_BAND) return this.#takeLanded(placement);
    const slot = this.#owner.handler.placePayload(this.id, message, -1);
    if (this.#state !== OPEN) return;
    if (slot === -1) this.#paused = true;
    else if (slot < 0) this.#fault(CloseReason.PROTOCOL, "its payload is not wanted");
    else {
      this.#inbox.at += RECORD_BYTES;
      this.#slot = slot;
      this.#receivedBytes = 0;
    }
  }

  #takePiece(): void {
    const inbox = this.#inbox;
    const { payloadLength } = this.#incoming;
    const bytes = this.#owner.pool.bytes(this.#slot);
    const count = Math.min(payloadLength - this.#receivedBytes, inbox.end - inbox.at);
    bytes.set(this.landing.packets.subarray(inbox.at, inbox.at + count), this.#receivedBytes);
    inbox.at += count;
    this.#receivedBytes += count;
    if (this.#receivedBytes < payloadLength) return;
    const slot = this.#slot;
    if (!this.#isSound(bytes)) return;
    this.#slot = -1;
    this.#deliver(slot);
  }

  /** A payload that the peer has put into our landing. */
  #takeLanded(page: number): void {
    const { pool, handler } = this.#owner;
    const message = this.#incoming;
    if (this.#landedSlot < 0) {
      this.#landedSlot = this.landing.adopt(page, message.payloadLength);
      if (this.#landedSlot < 0) return this.#fault(CloseReason.PROTOCOL, "its payload lies where none may be");
      if (!this.#isSound(pool.bytes(this.#landedSlot))) return;
    }
    const landed = this.#landedSlot;
    const slot = handler.placePayload(this.id, message, landed);
    if (this.#state !== OPEN) {
      if (slot === landed) this.#landedSlot = -1; // the handler has it, and hears that the connection is closed
      return;
    }
    if (slot === -1) {
      this.#paused = true;
      return;
    }
    if (slot < 0) return this.#fault(CloseReason.PROTOCOL, "its payload is not wanted");
    this.#landedSlot = -1;
    if (slot !== landed) {
      const { payloadLength } = message;
      const target = pool.bytes(slot);
      assert(payloadLength <= target.length, "The payload fits into the slot named for it", payloadLength);
      target.set(pool.bytes(landed).subarray(0, payloadLength));
      pool.free(landed);
    }
    this.#inbox.at += RECORD_BYTES;
    this.#deliver(slot);
  }

  #isSound(bytes: Uint8Array): boolean {
    if (isPayloadSound(this.#incoming, bytes)) return true;
    this.#fault(CloseReason.BAD_MESSAGE, "its payload does not match its checksum");
    return false;
  }

  #deliver(slot: number): void {
    this.stats.receivedFrames++;
    this.stats.receivedBytes += HEADER_BYTES + this.#incoming.payloadLength;
    this.#owner.handler.onMessage(this.id, this.#incoming, slot);
  }

  // ---- what leaves ------------------------------------------------------------------------------------------------

  #queueFrame(message: Message, payload: Uint8Array | null, address: number, token: number): boolean {
    const { flags, payloadCrc: crc } = message;
    // What was copied, maps and tables above all, is little: it is always summed.
    setPayloadFields(message, payload, this.#owner.checksums || address === 0);
    const frameBytes = HEADER_BYTES + message.payloadLength;
    const queued = this.#queue.queuedBytes + frameBytes <= this.#owner.maxQueuedBytes &&
      this.#queue.push(message, payload, address, token);
    message.flags = flags;
    message.payloadCrc = crc;
    if (!queued) return this.#overflow();
    this.stats.sentFrames++;
    this.stats.sentBytes += frameBytes;
    return true;
  }

  #overflow(): boolean {
    this.#owner.report(overflowText(this, this.queuedBytes, this.#owner.maxQueuedBytes));
    this.#end(CloseReason.QUEUE_FULL);
    return false;
  }

  #fault(reason: number, what: string): void {
    this.#owner.report(refusedFrameText(this, this.#incoming.type, what));
    this.#end(reason);
  }

  /** The link is of no more use. */
  #break(reason: number, what: string): void {
    if (this.#state < CLOSING && what !== "") {
      this.#owner.report(`Connection ${this.id} (${this.peerAddress}) is closed: ${what}`);
    }
    this.#end(reason);
  }

  #end(reason: number): void {
    this.#isBroken = true;
    if (this.#state >= CLOSING) return;
    this.#state = CLOSING;
    this.#reason = reason;
  }
}
