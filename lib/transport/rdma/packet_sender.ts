/**
 * The sending half of an RDMA connection: frames into packets, payloads into the peer's landing.
 *
 * A turn's frames leave as a chain posted once: an RDMA WRITE for each payload, then a SEND of up to 60 headers. A queue pair
 * delivers in order, so that a payload is in place when its header arrives. Only the SENDs complete; a completion says
 * that the writes before it are done too.
 *
 * Promises: never more packets under way than the peer has receives for, and the last of those only to tell the peer of
 * receives and memory (or both ends could wait for each other); never a write to memory that the peer has not
 * called free; every token is returned once.
 *
 * @module
 */

import { HEADER_BYTES, MessageType } from "../../wire/message.ts";
import type { FrameQueue } from "./frame_queue.ts";
import type { Landing } from "./landing_memory.ts";
import { type RdmaLink, RECEIVE_COUNT, SEND_COUNT, SEND_REQUEST_COUNT } from "./link.ts";
import {
  IN_BAND,
  MAX_FREED,
  type Offer,
  PACKET_BYTES,
  PACKET_HEADER_BYTES,
  PACKET_MAGIC,
  PacketFlag,
  PAGE_BYTES,
  RECORD_BYTES,
} from "./packet.ts";
import { PageRuns } from "./page_runs.ts";

/** Payloads up to this long go with their header: cheaper to copy than to place. */
const IN_BAND_BYTES = 1024;
/** Work ids of sends begin here; those of receives are below. */
export const FIRST_SEND_ID = RECEIVE_COUNT;
/** Tell the peer of receives when half of them are not told, of memory when a quarter is. */
const TELL_RECEIVES = RECEIVE_COUNT / 2;
const TELL_MEMORY_DIVISOR = 4;

/** See the module's description. */
export class PacketSender {
  readonly #queue: FrameQueue;
  readonly #link: RdmaLink;
  readonly #landing: Landing;
  /** The peer's memory. */
  readonly #pages: PageRuns;
  readonly #packets: Uint8Array;
  readonly #view: DataView;
  readonly #firstPacket: number;
  readonly #peerReceives: number;
  readonly #sentAtOnce: (token: number) => void;
  /** Packets sent, and those of them that completed or were taken by the peer. */
  #sentCount = 0;
  #completedCount = 0;
  #takenCount = 0;
  /** Requests in the send queue. */
  #requestCount = 0;
  /** Tokens under way whose frames the peer does not answer. */
  #unansweredCount = 0;
  /** By packet buffer: requests and tokens that its completion ends. */
  readonly #requests = new Int32Array(SEND_COUNT);
  readonly #tokenCounts = new Int32Array(SEND_COUNT);
  readonly #unansweredCounts = new Int32Array(SEND_COUNT);
  readonly #tokens = new Float64Array(SEND_REQUEST_COUNT);
  #tokenHead = 0;
  #tokenCount = 0;
  /** The packet being filled: its buffer, or -1; where it ends; what it takes along. */
  #open = -1;
  #end = 0;
  #bodyAt = 0;
  #openRequests = 0;
  #openTokens = 0;
  #openUnanswered = 0;
  #openTells = false;
  /** The first frame waits for the peer's memory or for room in the send queue, not just for another packet. */
  #isBlocked = false;
  /** Of the first frame in the queue: bytes of its payload that have left, -1 while its header has not. */
  #copiedBytes = -1;
  /** The peer was told that we wait for memory, or is to be told. */
  #waits = false;
  #waitsToTell = false;
  /** The peer waits for memory. */
  peerWaits = false;
  /** Packets taken from the peer, and how many of those it was told of. */
  receivedCount = 0;
  #toldCount = 0;

  constructor(
    queue: FrameQueue,
    link: RdmaLink,
    landing: Landing,
    offer: Offer,
    sentAtOnce: (token: number) => void,
  ) {
    this.#queue = queue;
    this.#link = link;
    this.#landing = landing;
    this.#pages = new PageRuns(offer.landingPages);
    const packets = landing.packets;
    this.#packets = packets;
    this.#view = new DataView(packets.buffer, packets.byteOffset, packets.byteLength);
    this.#firstPacket = RECEIVE_COUNT * PACKET_BYTES;
    this.#peerReceives = offer.receives;
    this.#sentAtOnce = sentAtOnce;
  }

  /** Packets under way. */
  get underWayCount(): number {
    return this.#sentCount - this.#completedCount;
  }

  /**
   * Whether a completion is worth a wake-up: memory is to be had back, or room. Not while all that is under way are writes,
   * which the peer answers, and by then they are complete but for the rare acknowledgement that was lost or overtaken. Whatever
   * comes, a heartbeat at the latest, has completions looked at.
   */
  get awaitsCompletion(): boolean {
    return this.#unansweredCount > 0 || !this.#queue.isEmpty ||
      (this.#tokenCount > 0 && this.#takenCount > this.#completedCount);
  }

  /** Puts what waits into packets as far as there is room, and what the peer has to know. Does not post. */
  fill(): void {
    this.#isBlocked = false;
    while (!this.#queue.isEmpty) {
      if (this.#open < 0 && !this.#openPacket(1)) break;
      const isWhole = this.#putFirst();
      if (isWhole) this.#dropFirst();
      else if (this.#isBlocked) break;
      else this.#seal();
    }
    if (this.#open >= 0 && (this.#end > this.#bodyAt || this.#openTells || this.#isToTell)) this.#seal();
    if (this.#isToTell && this.#open < 0 && this.#openPacket(0)) this.#seal();
  }

  /** A packet has been sent, and all before it. Calls `onSent` for each token that this returns. */
  completed(workId: number, onSent: (token: number) => void): void {
    const packet = workId - FIRST_SEND_ID;
    this.#requestCount -= this.#requests[packet];
    this.#completedCount++;
    this.#unansweredCount -= this.#unansweredCounts[packet];
    for (let i = this.#tokenCounts[packet]; i > 0; i--) onSent(this.#takeToken());
  }

  /** The peer has taken `count` packets in all (modulo 2^32). False when that cannot be. */
  peerTook(count: number): boolean {
    const newly = (count - this.#takenCount) >>> 0;
    if (newly > this.#sentCount - this.#takenCount) return false;
    this.#takenCount += newly;
    return true;
  }

  /** The peer's run that begins at `page` is free again. False when it was not in use. */
  peerFreed(page: number): boolean {
    this.#waits = false;
    return this.#pages.give(page);
  }

  /** Returns all tokens that are still out, when the link is closed. */
  abandon(onSent: (token: number) => void): void {
    while (this.#tokenCount > 0) onSent(this.#takeToken());
  }

  get #isToTell(): boolean {
    const { freedCount, freedPages, pageCount } = this.#landing;
    return this.#waitsToTell || ((this.receivedCount - this.#toldCount) >>> 0) >= TELL_RECEIVES ||
      (freedCount > 0 && (this.peerWaits || freedPages * TELL_MEMORY_DIVISOR >= pageCount || freedCount >= MAX_FREED));
  }

  #openPacket(keptReceives: number): boolean {
    const receivesLeft = this.#peerReceives - (this.#sentCount - this.#takenCount);
    if (receivesLeft <= keptReceives || this.underWayCount >= SEND_COUNT) return false;
    if (this.#requestCount + 1 >= SEND_REQUEST_COUNT) return false;
    const packet = this.#sentCount % SEND_COUNT;
    const at = this.#firstPacket + packet * PACKET_BYTES;
    const freedCount = Math.min(this.#landing.freedCount, MAX_FREED);
    this.#view.setUint16(at, PACKET_MAGIC, true);
    this.#view.setUint16(at + 2, this.#waitsToTell ? PacketFlag.WAITS_FOR_MEMORY : 0, true);
    this.#view.setUint32(at + 4, this.receivedCount, true);
    this.#view.setUint32(at + 8, freedCount, true);
    for (let i = 0; i < freedCount; i++) {
      this.#view.setUint32(at + PACKET_HEADER_BYTES + 4 * i, this.#landing.freed[i], true);
    }
    this.#landing.told(freedCount);
    this.#openTells = freedCount > 0;
    if (freedCount > 0 && this.#landing.freedCount === 0) this.peerWaits = false;
    this.#waitsToTell = false;
    this.#toldCount = this.receivedCount;
    this.#open = packet;
    this.#bodyAt = at + PACKET_HEADER_BYTES + 4 * freedCount;
    this.#end = this.#bodyAt;
    this.#openRequests = 1;
    this.#openTokens = 0;
    this.#openUnanswered = 0;
    return true;
  }

  #seal(): void {
    const packet = this.#open;
    const at = this.#firstPacket + packet * PACKET_BYTES;
    this.#view.setUint32(at + 12, this.#end - this.#bodyAt, true);
    if (this.#waitsToTell) {
      this.#view.setUint16(at + 2, PacketFlag.WAITS_FOR_MEMORY, true);
      this.#waitsToTell = false;
    }
    this.#link.addSend(FIRST_SEND_ID + packet, this.#landing.packetAddress + at, this.#end - at);
    this.#requests[packet] = this.#openRequests;
    this.#tokenCounts[packet] = this.#openTokens;
    this.#unansweredCounts[packet] = this.#openUnanswered;
    this.#requestCount++;
    this.#sentCount++;
    this.#open = -1;
  }

  /** Whether the first frame is wholly in packets now. */
  #putFirst(): boolean {
    const queue = this.#queue;
    const limit = this.#firstPacket + (this.#open + 1) * PACKET_BYTES;
    if (this.#copiedBytes < 0) {
      if (limit - this.#end < RECORD_BYTES) return false;
      const placement = this.#place();
      if (placement < 0) return false;
      queue.copyHeader(this.#packets, this.#end);
      this.#view.setUint32(this.#end + HEADER_BYTES, placement, true);
      this.#end += RECORD_BYTES;
      if (placement !== IN_BAND) return true;
      this.#copiedBytes = 0;
    }
    const left = queue.payloadLength - this.#copiedBytes;
    const count = Math.min(left, limit - this.#end);
    if (count > 0) {
      this.#packets.set(queue.payload!.subarray(this.#copiedBytes, this.#copiedBytes + count), this.#end);
      this.#end += count;
      this.#copiedBytes += count;
    }
    return count === left;
  }

  /** Where the first frame's payload goes: written to the peer's memory, or in band; -1 when it has to wait. */
  #place(): number {
    const { address, payloadLength: lengthBytes, token } = this.#queue;
    if (lengthBytes <= IN_BAND_BYTES || address === 0) return IN_BAND;
    if (this.#requestCount + 2 >= SEND_REQUEST_COUNT) {
      this.#isBlocked = true;
      return -1;
    }
    const page = this.#pages.take(Math.ceil(lengthBytes / PAGE_BYTES));
    if (page < 0) {
      if (!this.#waits) this.#waitsToTell = true;
      this.#waits = true;
      this.#isBlocked = true;
      return -1;
    }
    this.#link.addWrite(address, lengthBytes, page);
    this.#requestCount++;
    this.#openRequests++;
    if (token >= 0) {
      this.#tokens[(this.#tokenHead + this.#tokenCount++) % SEND_REQUEST_COUNT] = token;
      this.#openTokens++;
      if (this.#queue.type !== MessageType.WRITE) {
        this.#openUnanswered++;
        this.#unansweredCount++;
      }
    }
    return page;
  }

  #dropFirst(): void {
    // What was copied into packets is not needed any more.
    if (this.#copiedBytes >= 0 && this.#queue.token >= 0) this.#sentAtOnce(this.#queue.token);
    this.#copiedBytes = -1;
    this.#queue.drop();
  }

  #takeToken(): number {
    const token = this.#tokens[this.#tokenHead];
    this.#tokenHead = (this.#tokenHead + 1) % SEND_REQUEST_COUNT;
    this.#tokenCount--;
    return token;
  }
}
