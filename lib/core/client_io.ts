/**
 * The requests of an attached pool: overlap, order, who must answer, completion.
 *
 * Two overlapping requests are never in flight together if one of them writes. A write completes when every leg in its `waitMask` has answered;
 * a leg leaves that mask by its answer, or when an epoch without it is durable on all others (`epochCommitted`). Reads go to the
 * in-sync leg with the fewest in flight and are tried elsewhere when they fail.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { RequestFlag, RequestKind } from "./request_kind.ts";
import { type Message, MessageFlag, MessageType } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { OutputKind } from "./output.ts";
import { RangeCounter } from "./range_counter.ts";
import { RequestState, RequestTable } from "./request_table.ts";
import { SequenceWindow } from "./sequence_window.ts";
import { slowLegs } from "./slow_legs.ts";
import { bitCount } from "./start_rule.ts";

const EIO = -5;
const EINVAL = -22;
/** Tag of requests that no frontend asked for. */
const INTERNAL_TAG = -1;
/** Requests kept back for the client's own flushes. */
const RESERVED = 4;
const MESSAGE_TYPE = [MessageType.READ, MessageType.WRITE, MessageType.WRITE_ZEROES, MessageType.DISCARD];

/** What the I/O path asks of the membership. */
export interface LegFailure {
  /** This leg has failed: it must leave the active legs. */
  failLeg(legIndex: number, reason: string): void;
  /** The last in-sync leg has failed a write, which legs under resync may have done. */
  writeFailed(): void;
}

/** The requests of one client. */
export class ClientIo {
  readonly #pool: ClientContext;
  readonly #requests: RequestTable;
  readonly #readers = new RangeCounter();
  readonly #writers = new RangeCounter();
  readonly #waitingRanges = new RangeCounter();
  #waiting: number[] = [];
  readonly #held: number[] = [];
  readonly #window = new SequenceWindow();
  #writeBytesInFlight = 0;
  #flushInFlight = false;
  #wantsFlush = false;
  #flushFailed = false;
  #lastFlushMs = 0;
  #lastRead = 0;
  #failure: LegFailure | null = null;

  constructor(pool: ClientContext) {
    this.#pool = pool;
    this.#requests = new RequestTable(pool.options.maxRequests ?? 512);
  }

  /** Whom to tell about failing legs. Set once, at construction of the whole. */
  set failure(failure: LegFailure) {
    this.#failure = failure;
  }

  /** Whether `submit` may be called. */
  get canSubmit(): boolean {
    return this.#requests.freeCount > RESERVED;
  }

  get count(): number {
    return this.#requests.count;
  }

  get waitingCount(): number {
    return this.#waiting.length + this.#held.length;
  }

  /** Every write up to here is complete. */
  get stableSequence(): number {
    return this.#window.stable;
  }

  /** A request of an application. Completed exactly once by output COMPLETE. */
  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    const pool = this.#pool;
    if (kind !== RequestKind.FLUSH && !this.#isInRange(kind, offset, lengthBytes)) {
      this.#complete(tag, EINVAL);
      return;
    }
    if (kind === RequestKind.READ) {
      pool.counters.reads++;
      pool.counters.readBytes += lengthBytes;
    } else if (kind === RequestKind.FLUSH) pool.counters.flushes++;
    else {
      pool.counters.writes++;
      pool.counters.writtenBytes += lengthBytes;
    }
    const request = this.#newRequest(kind, flags, offset, lengthBytes, slot, tag);
    if (pool.phase !== "ready") {
      this.#hold(request);
      return;
    }
    if (this.#mustQueue(request)) this.#wait(request);
    else this.#issue(request);
  }

  /** ACK of a write or flush. */
  handleAck(link: LegLink, message: Message): void {
    const requests = this.#requests;
    const request = requests.find(message.requestId);
    const bit = 1 << link.legIndex;
    if (request < 0 || (requests.waitMask[request] & bit) === 0) return;
    if (message.status !== 0) {
      const isLast = (this.#pool.inSyncMask & ~this.#pool.lostMask) === bit;
      if (!isLast) {
        this.#failure?.failLeg(link.legIndex, `it answered a write with error ${message.status}`);
        return;
      }
      // The last good copy is never given up: the request fails instead.
      requests.status[request] = EIO;
      if (requests.kind[request] !== RequestKind.FLUSH) this.#failure?.writeFailed();
      // That may have ended the session: then the request is held, and sent again under the next one.
      if (requests.find(message.requestId) !== request) return;
    }
    requests.waitMask[request] &= ~bit;
    if (requests.waitMask[request] === 0) this.#finish(request);
  }

  /** DATA: the payload is in the request's slot already. */
  handleData(link: LegLink, message: Message): void {
    const requests = this.#requests;
    const request = requests.find(message.requestId);
    if (request < 0 || requests.readLeg[request] < 0 || requests.readConnection[request] !== link.connection) return;
    link.readsInFlight--;
    requests.readLeg[request] = -1;
    if (message.status === 0 && message.payloadLength === requests.lengthBytes[request]) {
      this.#finish(request);
      return;
    }
    requests.triedMask[request] |= 1 << link.legIndex;
    this.#pool.event(
      "warning",
      "read-failed",
      `A read failed (${message.status}); another leg is tried`,
      link.legIndex,
    );
    if (!this.#sendRead(request)) {
      requests.status[request] = EIO;
      this.#finish(request);
    }
  }

  /** WANT_FLUSH: a leg's intent log is nearly full. */
  handleWantFlush(): void {
    this.#wantsFlush = true;
    this.#maybeFlush();
  }

  /** Where the payload of a DATA belongs: the slot of its request; -1 when there is none or the length is not what was asked. */
  slotFor(link: LegLink, message: Message): number {
    const request = this.#requests.find(message.requestId);
    if (request < 0 || this.#requests.readConnection[request] !== link.connection) return -1;
    if (this.#requests.readLeg[request] < 0) return -1;
    return this.#requests.lengthBytes[request] === message.payloadLength ? this.#requests.slot[request] : -1;
  }

  /** Nothing more will come on `connection`: reads that were sent on it go elsewhere. */
  connectionLost(connection: number): void {
    const requests = this.#requests;
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] !== RequestState.ACTIVE || requests.readLeg[request] < 0) continue;
      if (requests.readConnection[request] !== connection) continue;
      requests.readLeg[request] = -1;
      requests.renew(request);
      if (!this.#isServing || !this.#sendRead(request)) this.#unissue(request);
    }
  }

  /** An epoch is in force: legs outside the active legs need not answer any more. */
  epochCommitted(): void {
    const requests = this.#requests;
    const active = this.#pool.activeMask;
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] !== RequestState.ACTIVE || requests.waitMask[request] === 0) continue;
      requests.waitMask[request] &= active;
      if (requests.waitMask[request] === 0) this.#finish(request);
    }
  }

  /** The pool is not served any more: everything in flight is held and will be sent again. */
  suspend(): void {
    const requests = this.#requests;
    const active: number[] = [];
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] === RequestState.ACTIVE) active.push(request);
    }
    active.sort((a, b) =>
      requests.submittedMs[a] - requests.submittedMs[b] || requests.sequence[a] - requests.sequence[b]
    );
    const waiting = this.#takeWaiting();
    const heldBefore = this.#held.splice(0);
    for (const request of active) this.#unissue(request);
    for (const request of waiting) this.#hold(request);
    this.#held.push(...heldBefore);
    for (const link of this.#pool.links) if (link !== null) link.readsInFlight = 0;
    // Legs take a watermark above 0 as the word that all is equal: not before `resume`.
    this.#pool.sequence = 1;
    this.#pool.watermark = 0;
  }

  /** The pool is served again, under a new generation: sequences start over, what was held is sent. */
  resume(): void {
    const pool = this.#pool;
    pool.sequence = 1;
    pool.watermark = 1;
    this.#window.reset();
    this.#flushInFlight = false;
    this.#wantsFlush = false;
    this.#lastFlushMs = pool.nowMs;
    for (const request of this.#held.splice(0)) {
      if (this.#requests.tag[request] === INTERNAL_TAG) {
        this.#requests.free(request);
      } else if (this.#mustQueue(request)) this.#wait(request);
      else this.#issue(request);
    }
  }

  /** Fails everything that is held. */
  failHeld(status: number): void {
    for (const request of this.#held.splice(0)) {
      this.#requests.status[request] = status;
      this.#end(request);
    }
  }

  /** Time passes. */
  tick(): void {
    const pool = this.#pool;
    if (this.#isServing) {
      this.#dropSlowLegs();
      this.#maybeFlush();
    } else {
      const limitMs = pool.options.ioTimeoutMs ?? pool.record?.ioTimeoutMs ?? 30_000;
      while (this.#held.length > 0 && pool.nowMs - this.#requests.submittedMs[this.#held[0]] > limitMs) {
        const request = this.#held.shift() as number;
        this.#requests.status[request] = EIO;
        this.#end(request);
      }
    }
  }

  /** A flush of the client's own, if there is anything to flush. Returns whether one is in flight. */
  flushAll(): boolean {
    if (this.#flushInFlight) return true;
    if (this.#window.stable <= this.#pool.watermark) return false;
    this.#internalFlush();
    return true;
  }

  /** Whether the client's last flush of its own failed on every leg. */
  get flushFailed(): boolean {
    return this.#flushFailed;
  }

  /** Asserts what must hold between inputs. */
  checkInvariants(): void {
    const requests = this.#requests;
    let used = 0;
    for (let request = 0; request < requests.capacity; request++) {
      const state = requests.state[request];
      if (state === RequestState.FREE) continue;
      used++;
      if (state !== RequestState.ACTIVE) continue;
      const isRead = requests.kind[request] === RequestKind.READ;
      assert(
        isRead ? requests.readLeg[request] >= 0 : requests.waitMask[request] !== 0,
        "Active requests wait",
        request,
      );
      assert(
        this.#pool.phase === "ready" || this.#pool.phase === "detaching",
        "Only a served pool has active requests",
      );
    }
    assert(used === requests.count, "Requests are counted", used, requests.count);
    assert(this.#pool.watermark <= this.#pool.sequence, "The watermark follows the sequence");
  }

  get #isServing(): boolean {
    return this.#pool.phase === "ready" || this.#pool.phase === "detaching";
  }

  #newRequest(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): number {
    const requests = this.#requests;
    const request = requests.allocate();
    requests.kind[request] = kind;
    requests.flags[request] = flags;
    requests.offset[request] = offset;
    requests.lengthBytes[request] = lengthBytes;
    requests.slot[request] = slot;
    requests.tag[request] = tag;
    requests.submittedMs[request] = this.#pool.nowMs;
    return request;
  }

  #mustQueue(request: number): boolean {
    const requests = this.#requests;
    const kind = requests.kind[request];
    if (kind === RequestKind.FLUSH) return false;
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    if (this.#waiting.length > 0 && this.#waitingRanges.any(offset, lengthBytes)) return true;
    if (this.#writers.any(offset, lengthBytes)) return true;
    if (kind === RequestKind.READ) return false;
    return this.#readers.any(offset, lengthBytes) ||
      this.#window.isFull(this.#pool.sequence) ||
      (requests.slot[request] >= 0 && this.#writeBytesInFlight > 0 &&
        this.#writeBytesInFlight + lengthBytes > (this.#pool.options.maxWriteBytes ?? 32 * 1024 * 1024));
  }

  #issue(request: number): void {
    const requests = this.#requests;
    const pool = this.#pool;
    const kind = requests.kind[request];
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    requests.state[request] = RequestState.ACTIVE;
    requests.issuedMs[request] = pool.nowMs;
    if (kind === RequestKind.READ) {
      this.#readers.add(offset, lengthBytes);
      requests.triedMask[request] = 0;
      if (!this.#sendRead(request)) this.#unissue(request);
      return;
    }
    requests.waitMask[request] = pool.activeMask;
    if (kind === RequestKind.FLUSH) {
      requests.sequence[request] = this.#window.stable;
      for (let mask = pool.activeMask & ~pool.lostMask; mask !== 0; mask &= mask - 1) {
        const link = pool.links[31 - Math.clz32(mask & -mask)] as LegLink;
        pool.send(link, MessageType.FLUSH, requests.requestId(request)).message.sequence = this.#window.stable;
      }
      return;
    }
    this.#writers.add(offset, lengthBytes);
    if (requests.slot[request] >= 0) this.#writeBytesInFlight += lengthBytes;
    requests.sequence[request] = ++pool.sequence;
    const skipMask = pool.configuredMask & ~(pool.activeMask & ~pool.lostMask);
    let flags = 0;
    if ((requests.flags[request] & RequestFlag.FUA) !== 0) flags |= MessageFlag.FUA;
    if ((requests.flags[request] & RequestFlag.NO_HOLE) !== 0) flags |= MessageFlag.NO_HOLE;
    for (let mask = pool.activeMask & ~pool.lostMask; mask !== 0; mask &= mask - 1) {
      const link = pool.links[31 - Math.clz32(mask & -mask)] as LegLink;
      const output = pool.send(link, MESSAGE_TYPE[kind], requests.requestId(request));
      const message = output.message;
      message.flags = flags;
      message.sequence = requests.sequence[request];
      message.offset = offset;
      message.length = lengthBytes;
      message.mask = skipMask;
      if (kind === RequestKind.WRITE) {
        message.payloadLength = lengthBytes;
        output.slot = requests.slot[request];
        output.tag = requests.tag[request];
      }
    }
  }

  /** Sends a read to the best leg that has not failed it. False when there is none. */
  #sendRead(request: number): boolean {
    const pool = this.#pool;
    const requests = this.#requests;
    const usable = ~requests.triedMask[request] & ~pool.lostMask;
    let candidates = pool.inSyncMask & usable;
    // A leg under resync fetches what it lacks before it answers.
    if (candidates === 0) candidates = pool.activeMask & usable;
    let best: LegLink | null = null;
    this.#lastRead = (this.#lastRead + 1) & 7;
    for (let step = 0; step < 8; step++) {
      const index = (this.#lastRead + step) & 7;
      if ((candidates & (1 << index)) === 0) continue;
      const link = pool.links[index];
      if (link !== null && link.state === "claimed" && (best === null || link.readsInFlight < best.readsInFlight)) {
        best = link;
      }
    }
    if (best === null) return false;
    best.readsInFlight++;
    requests.readLeg[request] = best.legIndex;
    requests.readConnection[request] = best.connection;
    const message = pool.send(best, MessageType.READ, requests.requestId(request)).message;
    message.offset = requests.offset[request];
    message.length = requests.lengthBytes[request];
    return true;
  }

  #finish(request: number): void {
    const requests = this.#requests;
    const kind = requests.kind[request];
    if (kind === RequestKind.FLUSH) {
      if (requests.status[request] === 0) {
        this.#pool.watermark = Math.max(this.#pool.watermark, requests.sequence[request]);
      }
      if (requests.tag[request] === INTERNAL_TAG) {
        this.#flushInFlight = false;
        this.#flushFailed = requests.status[request] !== 0;
      }
    } else this.#release(request);
    if (kind !== RequestKind.FLUSH && kind !== RequestKind.READ) this.#window.markDone(requests.sequence[request]);
    this.#end(request);
    if (this.#waiting.length > 0) this.#retryWaiting();
  }

  /** Takes a request off the counters that keep overlapping ones away. */
  #release(request: number): void {
    const requests = this.#requests;
    const offset = requests.offset[request];
    const lengthBytes = requests.lengthBytes[request];
    if (requests.kind[request] === RequestKind.READ) this.#readers.remove(offset, lengthBytes);
    else {
      this.#writers.remove(offset, lengthBytes);
      if (requests.slot[request] >= 0) this.#writeBytesInFlight -= lengthBytes;
    }
  }

  #end(request: number): void {
    const tag = this.#requests.tag[request];
    const status = this.#requests.status[request];
    this.#requests.free(request);
    if (tag !== INTERNAL_TAG) this.#complete(tag, status);
  }

  #complete(tag: number, status: number): void {
    if (status !== 0) this.#pool.counters.failed++;
    const output = this.#pool.outputs.push(OutputKind.COMPLETE);
    output.tag = tag;
    output.status = status;
  }

  #wait(request: number): void {
    this.#requests.state[request] = RequestState.WAITING;
    this.#waitingRanges.add(this.#requests.offset[request], this.#requests.lengthBytes[request]);
    this.#waiting.push(request);
  }

  #hold(request: number): void {
    this.#requests.state[request] = RequestState.HELD;
    this.#held.push(request);
  }

  /** An active request becomes a held one. */
  #unissue(request: number): void {
    const requests = this.#requests;
    if (requests.kind[request] !== RequestKind.FLUSH) this.#release(request);
    requests.waitMask[request] = 0;
    requests.readLeg[request] = -1;
    requests.status[request] = 0;
    requests.renew(request);
    this.#hold(request);
  }

  #takeWaiting(): number[] {
    const requests = this.#requests;
    for (const request of this.#waiting) {
      this.#waitingRanges.remove(requests.offset[request], requests.lengthBytes[request]);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** In order: none overtakes an earlier one that overlaps it. */
  #retryWaiting(): void {
    for (const request of this.#takeWaiting()) {
      if (!this.#isServing) this.#hold(request);
      else if (this.#mustQueue(request)) this.#wait(request);
      else this.#issue(request);
    }
  }

  #maybeFlush(): void {
    const pool = this.#pool;
    if (!this.#isServing || this.#flushInFlight || this.#window.stable <= pool.watermark) return;
    const isDue = pool.nowMs - this.#lastFlushMs >= (pool.options.flushIntervalMs ?? 2000);
    if (isDue || this.#wantsFlush) this.#internalFlush();
  }

  #internalFlush(): void {
    if (this.#requests.freeCount === 0) return;
    this.#flushInFlight = true;
    this.#wantsFlush = false;
    this.#lastFlushMs = this.#pool.nowMs;
    this.#issue(this.#newRequest(RequestKind.FLUSH, 0, 0, 0, -1, INTERNAL_TAG));
  }

  /** A leg that keeps a request for too long is dropped, as long as others remain. */
  #dropSlowLegs(): void {
    const pool = this.#pool;
    const limitMs = pool.options.legTimeoutMs ?? 20_000;
    const slowMask = slowLegs(this.#requests, pool.nowMs - limitMs) & ~pool.lostMask;
    for (let mask = slowMask; mask !== 0; mask &= mask - 1) {
      const index = 31 - Math.clz32(mask & -mask);
      const remaining = bitCount(pool.inSyncMask & ~pool.lostMask & ~(1 << index));
      if (remaining < Math.max(1, pool.record?.minInSync ?? 1)) continue;
      this.#failure?.failLeg(index, `it has not answered for ${limitMs} ms`);
    }
  }

  #isInRange(kind: number, offset: number, lengthBytes: number): boolean {
    const options = this.#pool.options;
    const block = options.logicalBlockBytes;
    const most = kind === RequestKind.READ || kind === RequestKind.WRITE ? 1 << 20 : this.#pool.maxRangeBytes;
    return lengthBytes > 0 && lengthBytes <= most && offset >= 0 && offset % block === 0 && lengthBytes % block === 0 &&
      offset + lengthBytes <= options.sizeBytes;
  }
}
