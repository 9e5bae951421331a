/**
 * The requests of an attached pool: overlap, order, who must answer, completion.
 *
 * Two overlapping requests are never in flight together if one of them writes. A write completes when every leg in its `waitMask` has answered;
 * a leg leaves that mask by its answer, or when an epoch without it is durable on all others (`epochCommitted`). Reads go to the
 * in-sync leg with the fewest in flight and are tried elsewhere when they fail. What a leg could not read is written back to it from the
 * answer of another: the read becomes an ordinary write of what it has read, to all legs, before anything that overlaps it may follow.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { COMPARE_KIND, COPY_KIND, RequestFlag, RequestKind } from "./request_kind.ts";
import type { Message } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { OutputKind } from "./output.ts";
import { OwnFlush } from "./own_flush.ts";
import { Overlap } from "./overlap.ts";
import {
  chooseReader,
  isInRange,
  isUnreadable,
  isWriteKind,
  noteRepaired,
  sendFlush,
  sendHash,
  sendRead,
  sendWrite,
  tellWatermark,
} from "./request_frames.ts";
import { resend } from "./request_resend.ts";
import { activeInOrder, checkRequests, RequestState, RequestTable } from "./request_table.ts";
import { ReadConfirmation } from "./read_confirmation.ts";
import { SequenceWindow } from "./sequence_window.ts";
import { dropSlowLegs, type LegFailure, owingLegs } from "./slow_legs.ts";
import type { ClientLoad } from "./snapshot.ts";
import { type VerifyIo, VerifyRound } from "./verify_round.ts";
import type { WaitingLine } from "./waiting_line.ts";

const EIO = -5;
const EINVAL = -22;
/** Tag of requests that no frontend asked for. */
const INTERNAL_TAG = -1;
/** Requests kept back for the client's own flushes and its verify. */
const RESERVED = 4;

/** The requests of one client. */
export class ClientIo implements VerifyIo {
  readonly verify: VerifyRound;
  readonly ownFlush: OwnFlush;
  readonly #pool: ClientContext;
  readonly #requests: RequestTable;
  readonly #overlap: Overlap;
  readonly #waiting: WaitingLine;
  readonly #confirmation: ReadConfirmation;
  readonly #held: number[] = [];
  readonly #window = new SequenceWindow();
  #lastRead = 0;
  /** The requests of a verify: its comparison, and under its lock its copy from one leg to all; -1 when there is none. */
  #compareRequest = -1;
  #copyRequest = -1;
  #failure: LegFailure | null = null;

  constructor(pool: ClientContext) {
    this.#pool = pool;
    this.#requests = new RequestTable(pool.options.maxRequests ?? 512);
    this.#overlap = new Overlap(this.#requests, pool);
    this.#waiting = this.#overlap.waiting;
    this.#confirmation = new ReadConfirmation(pool, this.#requests.capacity);
    this.ownFlush = new OwnFlush(pool.options.flushIntervalMs);
    this.verify = new VerifyRound(pool, this);
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

  get load(): ClientLoad {
    const waiting = this.#waiting.count + this.#held.length;
    return { requests: this.#requests.count, waiting, writeBytes: this.#overlap.writeBytes };
  }

  /** A request of an application. Completed exactly once by output COMPLETE. */
  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    const pool = this.#pool;
    if (kind !== RequestKind.FLUSH && !isInRange(pool, kind, offset, lengthBytes)) {
      this.#complete(tag, EINVAL);
      return;
    }
    pool.count(kind, lengthBytes);
    const request = this.#newRequest(kind, flags, offset, lengthBytes, slot, tag);
    if (pool.phase !== "ready") this.#hold(request);
    else this.#issueOrQueue(request);
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
      // The last good copy is never given up: the request fails instead. What a repair is for has been read all the same.
      if (requests.isRepair[request] === 0) requests.status[request] = EIO;
      // It may be the flush that failed, which was for what was acknowledged before as well.
      if ((requests.flags[request] & RequestFlag.FUA) !== 0) this.ownFlush.lost();
      this.#failure?.writeFailed();
      // That may have ended the session: then the request is held, and sent again under the next one.
      if (requests.find(message.requestId) !== request) return;
    }
    requests.waitMask[request] &= ~bit;
    if (requests.waitMask[request] === 0) this.#finish(request);
    if (this.#overlap.holdsWrites) this.#failure?.writeDone();
  }

  /** DATA: the payload is in the request's slot already. */
  handleData(link: LegLink, message: Message): void {
    const requests = this.#requests;
    const request = requests.find(message.requestId);
    if (request < 0 || requests.readLeg[request] < 0 || requests.readConnection[request] !== link.connection) return;
    link.readsInFlight--;
    requests.readLeg[request] = -1;
    if (message.status === 0 && message.payloadLength === requests.lengthBytes[request]) {
      const repairMask = requests.unreadableMask[request] & this.#pool.inSyncMask & ~this.#pool.lostMask;
      if (request === this.#copyRequest) return this.#writeBack(request);
      // Another read of the same place may be in flight, and wait at a leg that is to write: then a later one mends it, or the verify.
      if (repairMask !== 0 && !this.#overlap.isShared(request)) return this.#writeBack(request);
      // No write that overlaps it is under way: it stays true while nobody else serves the pool.
      if (this.#confirmation.isConfirmed(request)) return this.#finish(request);
      requests.isUnconfirmed[request] = 1;
      return;
    }
    requests.triedMask[request] |= 1 << link.legIndex;
    if (isUnreadable(message.status)) {
      link.readErrors++;
      requests.unreadableMask[request] |= 1 << link.legIndex;
    }
    this.#pool.event(
      "warning",
      "read-failed",
      `A read failed (${message.status}); another leg is tried`,
      link.legIndex,
    );
    if (request === this.#copyRequest || !this.#sendOrPark(request)) this.#fail(request);
  }

  /** A leg has said that it is ours. */
  handlePong(link: LegLink, requestId: number): void {
    for (const request of this.#confirmation.answered(link, requestId)) this.#finish(request);
  }

  /** HASH_DATA: a leg's hashes of the range that a verify compares. */
  handleHashes(link: LegLink, message: Message, words: Uint32Array | null): void {
    const request = this.#requests.find(message.requestId);
    const bit = 1 << link.legIndex;
    if (request < 0 || request !== this.#compareRequest || (this.#requests.waitMask[request] & bit) === 0) return;
    this.verify.answered(link.legIndex, message.status, words);
    this.#requests.waitMask[request] &= ~bit;
    if (this.#requests.waitMask[request] === 0) this.verify.compared();
  }

  compare(offset: number, lengthBytes: number): void {
    this.#compareRequest = this.#newRequest(COMPARE_KIND, 0, offset, lengthBytes, -1, INTERNAL_TAG);
    this.#issueOrQueue(this.#compareRequest);
  }

  copy(offset: number, lengthBytes: number, legIndex: number, slot: number): void {
    this.#copyRequest = this.#newRequest(COPY_KIND, 0, offset, lengthBytes, slot, INTERNAL_TAG);
    this.#requests.triedMask[this.#copyRequest] = ~(1 << legIndex);
    this.#issueOrQueue(this.#copyRequest);
  }

  unlock(): void {
    if (this.#compareRequest >= 0) this.#finish(this.#compareRequest);
  }

  /** No further write is let through for the sake of these legs; none: they are again. Returns which have yet to do one in flight. */
  holdWrites(legMask: number): number {
    const wereHeld = this.#overlap.holdsWrites;
    this.#overlap.holdsWrites = legMask !== 0;
    if (wereHeld && legMask === 0) this.#retryWaiting();
    return legMask === 0 ? 0 : owingLegs(this.#requests, legMask);
  }

  /** WANT_FLUSH: a leg's intent log is nearly full. */
  handleWantFlush(): void {
    this.ownFlush.isWanted = true;
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
    for (const request of requests.readsOn(connection)) {
      requests.readLeg[request] = -1;
      requests.renew(request);
      // Legs that it has not tried are none that it could wait for: it fails rather than hang.
      if (!this.#isServing) this.#unissue(request);
      else if (request === this.#copyRequest || !this.#sendOrPark(request)) this.#fail(request);
    }
  }

  /** A leg is reached by another path, and has these writes under way: what else it has not answered is sent again. */
  pathChanged(link: LegLink, underWay: readonly number[]): void {
    resend(this.#pool, this.#requests, link, underWay);
  }

  /** A leg changes its path no more: reads that waited for it are sent, to it or to others. */
  retryParked(): void {
    const requests = this.#requests;
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] !== RequestState.ACTIVE || requests.isParked[request] === 0) continue;
      requests.isParked[request] = 0;
      if (!this.#sendOrPark(request)) this.#fail(request);
    }
  }

  /** An epoch is in force: legs outside the active legs need not answer any more. */
  epochCommitted(): void {
    const requests = this.#requests;
    const active = this.#pool.activeMask;
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] !== RequestState.ACTIVE || requests.waitMask[request] === 0) continue;
      requests.waitMask[request] &= active;
      if (requests.waitMask[request] !== 0) continue;
      if (request === this.#compareRequest) this.verify.compared();
      else this.#finish(request);
    }
  }

  /** The pool is not served any more: everything in flight is held and will be sent again. */
  suspend(): void {
    const requests = this.#requests;
    this.#confirmation.reset();
    this.#overlap.holdsWrites = false;
    this.#dropVerify();
    const active = activeInOrder(requests);
    const waiting = this.#waiting.take();
    const heldBefore = this.#held.splice(0);
    for (const request of active) this.#unissue(request);
    for (const request of waiting) this.#hold(request);
    this.#held.push(...heldBefore);
    for (const link of this.#pool.links) if (link !== null) link.readsInFlight = 0;
    if (this.#pool.watermark > 0) this.ownFlush.suspended(this.#pool.sequence > this.#pool.watermark);
    // Legs take a watermark above 0 as the word that all is equal: not before `resume`.
    this.#pool.sequence = 1;
    this.#pool.watermark = 0;
  }

  /**
   * The pool is served again, under a new generation: sequences start over, what was held is sent. `isSure`: one of its legs surely holds all
   * that it ever acknowledged.
   */
  resume(isSure: boolean): void {
    const pool = this.#pool;
    this.ownFlush.resumed(isSure);
    pool.sequence = 1;
    pool.watermark = 1;
    this.#window.reset();
    this.ownFlush.reset(pool.nowMs);
    for (const request of this.#held.splice(0)) {
      if (this.#requests.tag[request] === INTERNAL_TAG) this.#requests.free(request);
      else this.#issueOrQueue(request);
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
      dropSlowLegs(pool, this.#requests, this.#failure);
      this.#maybeFlush();
      this.verify.pump();
      this.#confirmation.tick();
    } else {
      const { submittedMs } = this.#requests;
      const count = this.#held.findIndex((each) => pool.nowMs - submittedMs[each] <= pool.ioTimeoutMs);
      this.#failOverdue(this.#held.splice(0, count < 0 ? this.#held.length : count));
    }
  }

  #failOverdue(overdue: readonly number[]): void {
    if (overdue.length === 0) return;
    const text = `${overdue.length} requests have waited ${this.#pool.ioTimeoutMs} ms for legs, and fail`;
    this.#pool.event("error", "io-failed", text);
    for (const request of overdue) {
      this.#requests.status[request] = EIO;
      this.#end(request);
    }
  }

  /** A flush of the client's own, if there is anything to flush. Returns whether one is in flight. */
  flushAll(): boolean {
    if (this.ownFlush.inFlight) return true;
    if (this.#window.stable <= this.#pool.watermark) return false;
    this.#internalFlush();
    return true;
  }

  /** What has failed is past: the next flush decides. */
  forgetFailedFlush(): void {
    this.ownFlush.hasFailed = false;
  }

  /** Asserts what must hold between inputs. */
  checkInvariants(): void {
    checkRequests(this.#requests, this.#compareRequest, this.#isServing);
    assert(this.#pool.watermark <= this.#pool.sequence, "The watermark follows the sequence");
  }

  get #isServing(): boolean {
    return this.#pool.phase === "ready" || this.#pool.phase === "detaching";
  }

  #newRequest(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): number {
    return this.#requests.begin(kind, flags, offset, lengthBytes, slot, tag, this.#pool.nowMs);
  }

  #issueOrQueue(request: number): void {
    if (this.#overlap.mustWait(request, this.#window.isFull(this.#pool.sequence))) this.#waiting.add(request);
    else this.#issue(request);
  }

  #issue(request: number): void {
    const requests = this.#requests;
    const pool = this.#pool;
    const kind = requests.kind[request];
    requests.state[request] = RequestState.ACTIVE;
    requests.issuedMs[request] = pool.nowMs;
    if (kind !== RequestKind.FLUSH) this.#overlap.enter(request);
    if (kind === RequestKind.READ) {
      requests.triedMask[request] = 0;
      if (!this.#sendOrPark(request)) this.#unissue(request);
      return;
    }
    if (kind === COMPARE_KIND) {
      requests.waitMask[request] = pool.inSyncMask & ~pool.lostMask;
      sendHash(pool, requests, request, requests.waitMask[request]);
      return;
    }
    if (kind === COPY_KIND) {
      const link = chooseReader(pool, requests.triedMask[request], 0);
      // A leg that has left the set meanwhile was not compared as it is now, even if it is back.
      if (link === null || !this.verify.isOfThisEpoch) this.#fail(request);
      else sendRead(pool, requests, request, link);
      return;
    }
    requests.waitMask[request] = pool.activeMask;
    if (kind === RequestKind.FLUSH) {
      requests.sequence[request] = this.#window.stable;
      sendFlush(pool, requests, request);
      return;
    }
    requests.sequence[request] = ++pool.sequence;
    sendWrite(pool, requests, request);
  }

  /** A read has found what another leg could not read, or a verify what others lack: it becomes a write of that to all legs. */
  #writeBack(request: number): void {
    const requests = this.#requests;
    this.#overlap.leave(request);
    requests.renew(request);
    requests.kind[request] = RequestKind.WRITE;
    requests.flags[request] = 0;
    requests.isRepair[request] = 1;
    this.#issue(request);
  }

  /** The pool is not served any more: the lock of a verify goes, and what it has under way. */
  #dropVerify(): void {
    const requests = this.#requests;
    for (const request of [this.#copyRequest, this.#compareRequest]) {
      if (request < 0) continue;
      if (requests.state[request] === RequestState.ACTIVE) this.#overlap.leave(request);
      else this.#waiting.take().forEach((each) => each === request || this.#waiting.add(each));
      requests.free(request);
    }
    this.#copyRequest = this.#compareRequest = -1;
    this.verify.aborted();
  }

  /** Sends a read to the best leg that has not failed it. False when there is none. */
  #sendRead(request: number): boolean {
    this.#lastRead = (this.#lastRead + 1) & 7;
    const link = chooseReader(this.#pool, this.#requests.triedMask[request], this.#lastRead);
    if (link === null) return false;
    // First: a leg answers in the order in which it is asked.
    this.#confirmation.begin(request);
    sendRead(this.#pool, this.#requests, request, link);
    return true;
  }

  /** Where no leg can be asked now, but one may be soon, the read waits. */
  #sendOrPark(request: number): boolean {
    if (this.#sendRead(request)) return true;
    if (this.#pool.changingMask !== 0) this.#requests.isParked[request] = 1;
    return this.#pool.changingMask !== 0;
  }

  #fail(request: number): void {
    this.#requests.status[request] = EIO;
    this.#finish(request);
  }

  #finish(request: number): void {
    const requests = this.#requests;
    const kind = requests.kind[request];
    if (kind === RequestKind.FLUSH) {
      const isOwn = requests.tag[request] === INTERNAL_TAG;
      if (requests.status[request] === 0) {
        this.#pool.watermark = Math.max(this.#pool.watermark, requests.sequence[request]);
      }
      // What was lost before a later one may pass over: whoever asks next is told.
      if (!isOwn && this.ownFlush.takeUntold()) requests.status[request] = EIO;
      this.ownFlush.ended(requests.status[request], isOwn, this.#pool.nowMs);
      // Writes wait at a leg for what this watermark lets it forget: there may be no other frame to carry it.
      if (isOwn && this.ownFlush.isForLeg && requests.status[request] === 0) tellWatermark(this.#pool);
    } else this.#overlap.leave(request);
    if (isWriteKind(kind)) this.#window.markDone(requests.sequence[request]);
    if (this.ownFlush.isWanted) this.#maybeFlush();
    if (requests.isRepair[request] === 1) noteRepaired(this.#pool, requests, request);
    const status = requests.status[request];
    this.#end(request);
    if (request === this.#copyRequest) {
      this.#copyRequest = -1;
      this.verify.repairDone(status);
    } else if (request === this.#compareRequest) {
      this.#compareRequest = -1;
      this.verify.pump();
    }
    if (this.#waiting.count > 0) this.#retryWaiting();
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

  #hold(request: number): void {
    this.#requests.state[request] = RequestState.HELD;
    this.#held.push(request);
  }

  /** An active request becomes a held one. */
  #unissue(request: number): void {
    const requests = this.#requests;
    if (requests.kind[request] !== RequestKind.FLUSH) this.#overlap.leave(request);
    requests.undo(request);
    this.#hold(request);
  }

  /** In order: none overtakes an earlier one that overlaps it. */
  #retryWaiting(): void {
    for (const request of this.#waiting.take()) {
      if (this.#isServing) this.#issueOrQueue(request);
      else this.#hold(request);
    }
  }

  #maybeFlush(): void {
    const pool = this.#pool;
    if (this.#isServing && this.#window.stable > pool.watermark && this.ownFlush.isDue(pool.nowMs)) {
      this.#internalFlush();
    }
  }

  #internalFlush(): void {
    if (this.#requests.freeCount === 0) return;
    this.ownFlush.begin(this.#pool.nowMs);
    this.#issue(this.#newRequest(RequestKind.FLUSH, 0, 0, 0, -1, INTERNAL_TAG));
  }
}
