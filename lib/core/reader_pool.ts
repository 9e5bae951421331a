/**
 * A pool that is attached read-only: it claims nothing, so there may be any number of these, beside a client that writes or without one.
 *
 * **What is told is true.** A read asks one member for the data and all members for a hash of the range. It counts if all of them have answered
 * alike, and under one record, whose members are exactly those asked. Then
 *
 * - nothing that was acked before the read began is missing: a later record in force would be held by at least one of those asked, and a leg's
 *   record never goes back; under this record an acked write is on every member;
 * - nothing is told that may be taken back: a write of which the value is told is on every member, so whichever of them the others are made
 *   equal to after an unclean end, it stays; and the record is on the members' disks, so that no other legs can be asked instead.
 *
 * Where members differ, a write is under way, and the read is tried again. Where one is out of reach it waits: until the client that writes has
 * dropped it, until it is back, or until the time limit.
 *
 * Same interface for drivers as `ClientPool` (`PoolCore`).
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import type { Refusal, Welcome } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { ClientContext, type ClientPoolOptions, type LegLink } from "./client_context.ts";
import type { ForceOrder } from "./forced_start.ts";
import { refusalsOf } from "./greeting.ts";
import type { LegChange } from "./leg_table_changes.ts";
import { pathInUse } from "./link_paths.ts";
import { type Output, OutputKind } from "./output.ts";
import { ReaderAgreement } from "./reader_agreement.ts";
import { ReaderLinks, type ReaderView } from "./reader_links.ts";
import { isInRange, isUnreadable } from "./request_frames.ts";
import { COMPARE_KIND, RequestKind } from "./request_kind.ts";
import { RequestState, RequestTable } from "./request_table.ts";
import type { ClientLoad, ClientSnapshot, RefusalCode } from "./snapshot.ts";
import { indicesOf } from "./start_rule.ts";
import { NO_VERIFY } from "./verify_round.ts";

const EPERM = -1;
const EIO = -5;
const EINVAL = -22;
const TICK_MS = 100;
/** Pause before a read is tried again on which the members differ; doubles up to the second. */
const AGAIN_MS = 2;
const MOST_AGAIN_MS = 100;
const READ_ONLY_TEXT = "The pool is attached read-only here; ask where it is attached for writing";
/** How long legs may take to become equal before an attach is refused. */
const EQUAL_LIMIT_MS = 20_000;
/** Tag of the read by which the pool finds out whether it can be read at all. */
const PROBE_TAG = -1;

/** One pool, attached read-only. */
export class ReaderPool {
  readonly #pool: ClientContext;
  readonly #requests: RequestTable;
  readonly #links: ReaderLinks;
  readonly #agreement: ReaderAgreement;
  readonly #startedMs: number;
  #nextTickMs: number;
  #lastTickMs: number;
  #nextReader = 0;
  /** Requests that wait for a view, or for their next try, in order of submission. */
  readonly #held: number[] = [];
  readonly #againAtMs: Float64Array;
  readonly #againMs: Float64Array;

  constructor(options: ClientPoolOptions) {
    this.#pool = new ClientContext(options);
    this.#links = new ReaderLinks(this.#pool);
    const capacity = options.maxRequests ?? 512;
    this.#requests = new RequestTable(capacity);
    this.#agreement = new ReaderAgreement(capacity);
    this.#againAtMs = new Float64Array(capacity);
    this.#againMs = new Float64Array(capacity);
    this.#startedMs = options.nowMs;
    this.#nextTickMs = options.nowMs;
    this.#lastTickMs = options.nowMs;
  }

  /** Begins to look for the pool's legs. */
  start(_options?: { readonly takeover: boolean; readonly force?: ForceOrder }): void {
    this.#pool.phase = "greet";
    this.#newRequest(COMPARE_KIND, 0, this.#pool.options.logicalBlockBytes, -1, PROBE_TAG);
    this.#links.connect();
  }

  /** Output CONNECT has succeeded. */
  handleConnected(legIndex: number, connection: number, attempt?: number): void {
    this.#links.connected(legIndex, connection, attempt, !this.#isOver);
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(legIndex: number, attempt?: number): void {
    this.#links.connectFailed(legIndex, attempt);
  }

  /** A connection is gone: nothing of an answer can arrive on it any more. */
  handleConnectionClosed(connection: number): void {
    const legIndex = this.#links.closed(connection);
    if (legIndex < 0) return;
    const bit = 1 << legIndex;
    for (let request = 0; request < this.#requests.capacity; request++) {
      if (this.#requests.state[request] !== RequestState.ACTIVE) continue;
      if ((this.#requests.waitMask[request] & bit) === 0) continue;
      this.#agreement.spoil(request);
      this.#answeredBy(request, bit);
    }
    this.#retryHeld();
  }

  /** A frame from a leg. `body` has passed `parseBody`. */
  handleMessage(connection: number, message: Message, _slot: number, body: unknown): void {
    const link = this.#links.find(connection);
    if (link === null) return;
    link.lastHeardMs = this.#pool.nowMs;
    switch (message.type) {
      case MessageType.DATA:
      case MessageType.HASH_DATA:
        this.#handleAnswer(link, message);
        return;
      case MessageType.WELCOME:
        this.#links.welcome(link, body as Welcome);
        this.#retryHeld();
        return;
      case MessageType.REFUSE:
        link.lastRefusal = (body as Refusal).message;
        this.#links.close(link, link.lastRefusal);
        return;
      case MessageType.PONG:
        return;
      default:
        this.#links.close(link, `it sent a frame of type ${message.type}`);
    }
  }

  /** A request of an application; only while `canSubmit`. Completed exactly once by output COMPLETE with `tag`. */
  submit(kind: number, _flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    const pool = this.#pool;
    // There is nothing to flush.
    if (kind === RequestKind.FLUSH) return this.#complete(tag, 0);
    if (kind !== RequestKind.READ) return this.#complete(tag, EPERM);
    if (!isInRange(pool, kind, offset, lengthBytes)) return this.#complete(tag, EINVAL);
    pool.count(kind, lengthBytes);
    this.#newRequest(kind, offset, lengthBytes, slot, tag);
  }

  /** Nothing changes through a reader. */
  changeLegs(_change: LegChange, token: number): void {
    const output = this.#pool.outputs.push(OutputKind.CHANGE_DONE);
    output.token = token;
    output.body = READ_ONLY_TEXT;
  }

  /** Nobody writes here. */
  tookOver(): void {}
  /** It serves under no claim of its own, and what waits at a device that is only read is never written. */
  readonly generation: number = 0;
  readonly servedBefore: number = 0;

  /** Legs are compared by who has them locked. Returns why that cannot be. */
  startVerify(_options: { readonly repair: boolean; readonly rateBytesPerSecond: number }): string {
    return READ_ONLY_TEXT;
  }

  /** There is none to stop. */
  stopVerify(): void {}

  /** It wants no slots. */
  handleSlot(_slot: number): void {
    assert(false, "A reader asks for no slot");
  }

  /** Whether there is room for another request. */
  get canSubmit(): boolean {
    return this.#requests.freeCount > 1 && this.#pool.phase !== "detaching" && !this.#isOver;
  }

  /** Most bytes of one reading request. */
  get maxPayloadBytes(): number {
    return this.#pool.maxPayloadBytes;
  }

  /** Most bytes of one zeroing or discarding request. */
  get maxRangeBytes(): number {
    return this.#pool.maxRangeBytes;
  }

  /** Lets go of the pool, once what is under way has ended. */
  detach(): void {
    if (this.#isOver || this.#pool.phase === "detaching") return;
    this.#pool.phase = "detaching";
    this.#advanceDetach();
  }

  /** Time passes. */
  handleTick(nowMs: number): void {
    const pool = this.#pool;
    pool.nowMs = nowMs;
    if (nowMs < this.nextDeadlineMs) return;
    // While we ourselves are stopped, silence says nothing about the legs.
    const sinceTickMs = nowMs - this.#lastTickMs;
    const stoppedMs = sinceTickMs > pool.heartbeatLimitMs / 2 ? sinceTickMs : 0;
    this.#lastTickMs = nowMs;
    this.#nextTickMs = nowMs + TICK_MS;
    if (this.#isOver) return;
    this.#links.tick(stoppedMs);
    this.#links.closeSlow(this.#requests);
    this.#retryHeld();
    this.#expire();
    this.#advanceDetach();
  }

  /** When `handleTick` wants to be called, at the latest. */
  get nextDeadlineMs(): number {
    if (this.#isOver) return Infinity;
    let next = this.#nextTickMs;
    if (this.#links.view !== null) {
      for (const request of this.#held) {
        next = Math.min(next, this.#againAtMs[request]);
      }
    }
    return next;
  }

  /** The next thing to do, or null. */
  poll(): Output | null {
    return this.#pool.outputs.poll();
  }

  /** Whether `poll` has something. */
  get hasOutputs(): boolean {
    return this.#pool.outputs.length > 0;
  }

  /** For caretakers only. */
  get foundAllWell(): boolean {
    return false;
  }

  /** Where the pool stands. */
  get state(): "assembling" | "ready" | "waiting" | "refused" | "detaching" | "detached" {
    const { phase, wasReady } = this.#pool;
    if (phase === "refused" || phase === "detaching" || phase === "detached") return phase;
    if (phase !== "ready") return wasReady ? "waiting" : "assembling";
    return this.#links.view === null ? "waiting" : "ready";
  }

  /** Why the attach was refused, in plain words. */
  get refusal(): string {
    return this.#pool.refusal;
  }

  /** The same for programs; "" when it was not. */
  get refusalCode(): RefusalCode {
    return this.#pool.refusalCode;
  }

  /** The slot for the payload of a DATA frame on `connection`, or -1 when nobody waits for it. */
  slotFor(connection: number, message: Message): number {
    const link = this.#links.find(connection);
    const request = this.#requests.find(message.requestId);
    if (link === null || request < 0) return -1;
    if (this.#requests.readLeg[request] !== link.legIndex) return -1;
    return this.#requests.lengthBytes[request] === message.payloadLength ? this.#requests.slot[request] : -1;
  }

  /** For status. */
  snapshot(): ClientSnapshot {
    const pool = this.#pool;
    const shared = this.#links.view?.shared ?? null;
    return {
      poolUuid: pool.options.poolUuid,
      poolName: pool.options.poolName,
      state: this.state,
      refusal: pool.refusal,
      refusalCode: pool.refusalCode,
      isReadOnly: true,
      generation: shared?.generation ?? 0,
      epoch: shared?.epoch ?? 0,
      inSyncMask: this.#links.view?.memberMask ?? 0,
      minInSync: shared?.minInSync ?? 0,
      legs: pool.links.filter((link) => link !== null).map((link) => ({
        legIndex: link.legIndex,
        legUuid: link.legUuid,
        address: link.address,
        paths: link.paths,
        path: link.connection < 0 ? "" : pathInUse(link),
        state: link.state !== "greeted"
          ? "away"
          : ((this.#links.view?.memberMask ?? 0) & (1 << link.legIndex)) !== 0
          ? "in-sync"
          : "stale",
        inFlight: link.readsInFlight,
        isDrained: shared?.legs[link.legIndex]?.isDrained ?? false,
        readErrors: link.readErrors,
        repairedBytes: 0,
        resync: null,
      })),
      inFlight: this.#requests.count,
      waiting: this.#held.length,
      sequence: 0,
      watermark: 0,
      counters: { ...pool.counters },
      verify: NO_VERIFY,
    };
  }

  /** How much waits here: for the simulator. */
  load(): ClientLoad {
    return { requests: this.#requests.count, waiting: this.#held.length, writeBytes: 0 };
  }

  /** Asserts what must hold between inputs. For tests and the simulator. */
  checkInvariants(): void {
    const requests = this.#requests;
    let used = 0;
    for (let request = 0; request < requests.capacity; request++) {
      if (requests.state[request] === RequestState.FREE) continue;
      used++;
      const isActive = requests.state[request] === RequestState.ACTIVE;
      assert(isActive === (requests.waitMask[request] !== 0), "Active requests wait for legs", request);
      assert(isActive || this.#held.includes(request), "Requests are active or held", request);
    }
    assert(used === requests.count, "Requests are counted", used, requests.count);
    assert(this.#links.view === null || this.#links.view.memberMask !== 0, "A view has members");
  }

  get #isOver(): boolean {
    return this.#pool.phase === "refused" || this.#pool.phase === "detached" || this.#pool.phase === "idle";
  }

  #newRequest(kind: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    const request = this.#requests.begin(kind, 0, offset, lengthBytes, slot, tag, this.#pool.nowMs);
    this.#againMs[request] = AGAIN_MS;
    this.#hold(request, 0);
    if (this.#links.view !== null) this.#retryHeld();
  }

  #hold(request: number, afterMs: number): void {
    this.#requests.state[request] = RequestState.HELD;
    this.#againAtMs[request] = this.#pool.nowMs + afterMs;
    this.#held.push(request);
  }

  /** Sends what is due. */
  #retryHeld(): void {
    const nowMs = this.#pool.nowMs;
    for (const request of this.#held.splice(0)) {
      const isDue = this.#againAtMs[request] <= nowMs && !this.#isOverdue(request);
      if (this.#links.view !== null && isDue) this.#send(request, this.#links.view);
      else this.#held.push(request);
    }
  }

  /** Asks one member for the data and the others for a hash. */
  #send(request: number, view: ReaderView): void {
    const pool = this.#pool;
    const requests = this.#requests;
    const isData = requests.kind[request] === RequestKind.READ;
    const reader = isData ? this.#chooseReader(view.memberMask & ~requests.triedMask[request]) : -1;
    if (isData && reader < 0) return this.#end(request, EIO);
    requests.state[request] = RequestState.ACTIVE;
    requests.issuedMs[request] = pool.nowMs;
    requests.waitMask[request] = view.memberMask;
    requests.readLeg[request] = reader;
    this.#agreement.ask(request, view);
    for (const index of indicesOf(view.memberMask)) {
      const link = pool.links[index] as LegLink;
      link.readsInFlight++;
      const type = index === reader ? MessageType.READ : MessageType.HASH;
      const { message } = pool.send(link, type, requests.requestId(request));
      message.offset = requests.offset[request];
      message.length = requests.lengthBytes[request];
    }
  }

  /** Members take turns. */
  #chooseReader(candidates: number): number {
    for (let step = 1; step <= MAX_LEGS; step++) {
      const index = (this.#nextReader + step) % MAX_LEGS;
      if ((candidates & (1 << index)) === 0) continue;
      this.#nextReader = index;
      return index;
    }
    return -1;
  }

  /** DATA or HASH_DATA. The payload is in the request's slot already. */
  #handleAnswer(link: LegLink, message: Message): void {
    const requests = this.#requests;
    const agreement = this.#agreement;
    const request = requests.find(message.requestId);
    const bit = 1 << link.legIndex;
    if (request < 0 || (requests.waitMask[request] & bit) === 0) return;
    link.readsInFlight--;
    const isReader = requests.readLeg[request] === link.legIndex;
    const isWhole = !isReader || message.payloadLength === requests.lengthBytes[request];
    if (isReader) requests.readLeg[request] = -1;
    if (message.status === 0 && isWhole) agreement.hear(request, message);
    else {
      agreement.spoil(request);
      if (isUnreadable(message.status)) {
        link.readErrors++;
        requests.triedMask[request] |= bit;
      }
    }
    const asked = agreement.view(request);
    const isSameRecord = agreement.isSameRecord(request, message);
    this.#answeredBy(request, bit);
    // The set may have changed: the legs will say.
    if (!isSameRecord && asked === this.#links.view) this.#links.regreet();
  }

  /** One leg fewer to wait for. Only when nothing more can arrive is the request over, or tried again: its slot is in use until then. */
  #answeredBy(request: number, bit: number): void {
    const requests = this.#requests;
    requests.waitMask[request] &= ~bit;
    if (requests.waitMask[request] !== 0) return;
    requests.readLeg[request] = -1;
    requests.renew(request);
    if (this.#agreement.isWhole(request)) return this.#end(request, 0);
    this.#hold(request, this.#againMs[request]);
    this.#againMs[request] = Math.min(MOST_AGAIN_MS, this.#againMs[request] * 2);
  }

  #end(request: number, status: number): void {
    const tag = this.#requests.tag[request];
    this.#requests.free(request);
    if (tag !== PROBE_TAG) this.#complete(tag, status);
    else if (status === 0) this.#becomeReady();
    else this.#refuse(`The legs cannot be read: ${this.#links.reason}`);
    this.#advanceDetach();
  }

  #becomeReady(): void {
    const pool = this.#pool;
    pool.wasReady = true;
    if (pool.phase === "greet") pool.phase = "ready";
    const legs = indicesOf(this.#links.view?.memberMask ?? 0).join(", ");
    pool.event("info", "ready", `The pool can be read from legs ${legs}`);
  }

  /** What has waited too long fails; so does the attach, if it is the probe. */
  #expire(): void {
    const pool = this.#pool;
    const requests = this.#requests;
    for (const request of [...this.#held]) {
      if (!this.#isOverdue(request)) continue;
      const isProbe = requests.tag[request] === PROBE_TAG;
      this.#held.splice(this.#held.indexOf(request), 1);
      if (!isProbe) this.#end(request, EIO);
      else {
        requests.free(request);
        const why = this.#links.view === null
          ? this.#links.reason
          : "the legs are not equal yet, and nobody makes them so";
        this.#refuse(`The pool cannot be read: ${why}.${refusalsOf(pool)}`);
        return;
      }
    }
  }

  /** Whether the time for a request, or for the attach, is over: then it is not tried again. */
  #isOverdue(request: number): boolean {
    const { nowMs, options } = this.#pool;
    if (this.#requests.tag[request] === PROBE_TAG) return nowMs - this.#startedMs > this.#assembleLimitMs;
    return nowMs - this.#requests.submittedMs[request] > (options.ioTimeoutMs ?? this.#links.ioTimeoutMs);
  }

  /** Legs that are all there may need some seconds to make themselves equal after a client has died. */
  get #assembleLimitMs(): number {
    return this.#links.view === null ? this.#pool.options.assembleTimeoutMs ?? 5000 : EQUAL_LIMIT_MS;
  }

  #complete(tag: number, status: number): void {
    if (status !== 0) this.#pool.counters.failed++;
    const output = this.#pool.outputs.push(OutputKind.COMPLETE);
    output.tag = tag;
    output.status = status;
  }

  #advanceDetach(): void {
    const pool = this.#pool;
    if (pool.phase !== "detaching") return;
    for (const request of this.#held.splice(0)) {
      const tag = this.#requests.tag[request];
      this.#requests.free(request);
      if (tag !== PROBE_TAG) this.#complete(tag, EIO);
    }
    if (this.#requests.count > 0) return;
    pool.phase = "detached";
    for (const link of pool.links) if (link !== null) this.#links.close(link, "detached");
  }

  /** The attach is refused, for good. */
  #refuse(reason: string): void {
    const pool = this.#pool;
    pool.phase = "refused";
    pool.refusal = reason;
    pool.refusalCode = "unreadable";
    for (const request of this.#held.splice(0)) this.#end(request, EIO);
    for (const link of pool.links) if (link !== null && link.connection >= 0) this.#links.close(link, reason);
    pool.event("error", "refused", reason);
  }
}
