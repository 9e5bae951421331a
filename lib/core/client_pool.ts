/**
 * The protocol of an attached pool, as a state machine without I/O: requests, frames and time in, things to do out.
 *
 * This file routes. The rules are in the parts: leg_links.ts (connections), client_io.ts (requests), client_membership.ts (assembling,
 * epochs, resync), start_rule.ts; client_context.ts is the state they share.
 *
 * Connections are numbers that the driver never uses twice. `handleConnectionClosed` is called once for each, also for those closed by
 * output CLOSE, and only when nothing more can arrive on it and no payload is being placed from it.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";
import type { Grant, Refusal, ResyncReport, Returned, Welcome } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { checkAnswer } from "../wire/negotiate.ts";
import { isCareDone } from "./care_rules.ts";
import { ClientContext, type ClientPoolOptions, type LegLink } from "./client_context.ts";
import { ClientIo } from "./client_io.ts";
import { ClientMembership } from "./client_membership.ts";
import type { ForceOrder } from "./forced_start.ts";
import { LegLinks } from "./leg_links.ts";
import type { LegChange } from "./leg_table_changes.ts";
import { giveUpOverdue, pathInUse } from "./link_paths.ts";
import { type Output, OutputKind } from "./output.ts";
import { PathChanges } from "./path_changes.ts";
import { CONTROL_REQUEST_IDS } from "./request_table.ts";
import type { ClientLegSnapshot, ClientLoad, ClientSnapshot, LegState, RefusalCode } from "./snapshot.ts";
import { indicesOf } from "./start_rule.ts";

export type { ClientPoolOptions } from "./client_context.ts";

const TICK_MS = 100;
/** Request id of DETACH; those of EPOCH are in client_membership.ts. */
const DETACH_ID = CONTROL_REQUEST_IDS + 2;

/** What drives an attached pool, for writing or not. */
export type PoolCore = Pick<ClientPool, keyof ClientPool>;

/** One attached pool. */
export class ClientPool {
  readonly #pool: ClientContext;
  readonly #io: ClientIo;
  readonly #membership: ClientMembership;
  readonly #changes: PathChanges;
  readonly #links: LegLinks;
  #nextTickMs: number;
  #detachMask = 0;
  #detachSent = false;

  constructor(options: ClientPoolOptions) {
    this.#pool = new ClientContext(options);
    this.#links = new LegLinks(this.#pool, "client");
    this.#io = new ClientIo(this.#pool);
    this.#membership = new ClientMembership(this.#pool, this.#io, (link, reason) => this.#closeLink(link, reason));
    this.#io.failure = this.#membership;
    this.#changes = new PathChanges(this.#pool, {
      isSteady: () => this.#membership.isSteady && !this.#detachSent,
      epoch: () => this.#membership.epoch,
      lost: (link, reason) => this.#lost(link, reason),
      returned: (link, underWay) => {
        this.#io.pathChanged(link, underWay);
        this.#membership.dropWhenSettled(0);
        this.#io.retryParked();
        this.#advanceDetach();
      },
    });
    this.#nextTickMs = options.nowMs;
  }

  /** Begins to assemble the pool. `force`: goes on from what is here when the start rule refuses (see forced_start.ts). */
  start(options: { readonly takeover: boolean; readonly force?: ForceOrder }): void {
    this.#pool.takeover = options.takeover;
    this.#pool.force = options.force ?? null;
    this.#membership.start();
    this.#connect();
  }

  /** Output CONNECT has succeeded. */
  handleConnected(legIndex: number, connection: number, attempt?: number): void {
    this.#links.connected(legIndex, connection, attempt, !this.#isOver);
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(legIndex: number, attempt?: number): void {
    const link = this.#links.attempted(legIndex, attempt);
    if (link === null) return;
    if (link.changeUntilMs > 0) this.#changes.pathFailed(link);
    else this.#lost(link, link.lostReason);
    this.#connect();
  }

  /** A connection is gone. */
  handleConnectionClosed(connection: number): void {
    const link = this.#links.ended(connection);
    if (link === null) return;
    this.#tickSoon();
    if (link.connection === connection) {
      if (link.changeUntilMs > 0) this.#changes.pathFailed(link);
      else if (!this.#changes.begin(link)) this.#lost(link, "its connection has broken");
    }
    // Only now can nothing of a read's answer arrive any more.
    this.#io.connectionLost(connection);
    this.#advanceDetach();
  }

  /** A frame from a leg. `body` has passed `parseBody`. */
  handleMessage(connection: number, message: Message, _slot: number, body: unknown): void {
    const pool = this.#pool;
    const link = this.#links.find(connection);
    if (link === null) return;
    link.lastHeardMs = pool.nowMs;
    if (message.type !== MessageType.PONG) this.#tickSoon();
    switch (message.type) {
      case MessageType.ACK:
        if (message.requestId < CONTROL_REQUEST_IDS) this.#io.handleAck(link, message);
        else if (message.requestId === DETACH_ID) {
          if (message.status !== 0) this.#tellUnclean(`Leg ${link.legIndex} has not noted it (${message.status})`);
          this.#detachMask &= ~(1 << link.legIndex);
          this.#advanceDetach();
        } else if (message.status !== 0) {
          this.#membership.failLeg(link.legIndex, `it refused a join or resync (${message.status})`);
        }
        return;
      case MessageType.DATA:
        this.#io.handleData(link, message);
        return;
      case MessageType.HASH_DATA:
        this.#io.handleHashes(link, message, body as Uint32Array | null);
        return;
      case MessageType.WELCOME:
        this.#handleWelcome(link, body as Welcome);
        return;
      case MessageType.GRANT:
        this.#membership.handleGrant(link, body as Grant);
        if (link.state !== "claimed") return;
        this.#links.taken(link);
        pool.noteCredits();
        return;
      case MessageType.RETURNED:
        this.#changes.returned(link, body as Returned);
        return;
      case MessageType.REFUSE:
        if (link.changeUntilMs > 0) return this.#changes.end(link, (body as Refusal).message);
        this.#membership.handleRefusal(link, message, body as Refusal);
        return;
      case MessageType.EPOCH_DONE:
        this.#membership.handleEpochDone(link, message.requestId);
        return;
      case MessageType.RESYNC_REPORT:
        this.#membership.handleReport(link, body as ResyncReport);
        return;
      case MessageType.WANT_FLUSH:
        this.#io.handleWantFlush();
        return;
      case MessageType.PONG:
        if (message.status === 0) this.#io.handlePong(link, message.requestId);
        return;
      default:
        this.#closeLink(link, `it sent a frame of type ${message.type}`);
    }
  }

  /** A request of an application; only while `canSubmit`. Completed exactly once by output COMPLETE with `tag`. */
  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void {
    this.#tickSoon();
    this.#io.submit(kind, flags, offset, lengthBytes, slot, tag);
  }

  /** Asks for a change of the leg table; output CHANGE_DONE with `token` tells how it ends. */
  changeLegs(change: LegChange, token: number): void {
    this.#tickSoon();
    this.#membership.changes.request(change, token);
  }

  /** Begins to compare the in-sync legs. Returns why that cannot be, or "". `rateBytesPerSecond` 0: no limit. */
  startVerify(options: { readonly repair: boolean; readonly rateBytesPerSecond: number }): string {
    this.#tickSoon();
    return this.#io.verify.start(options.repair, options.rateBytesPerSecond);
  }

  /**
   * The pool is served to an application that a client before this one has served: its device was taken over. If what that client acknowledged may be
   * lost, the next flush fails.
   */
  tookOver(): void {
    this.#io.ownFlush.tookOver();
  }

  /** Ends a verify early. */
  stopVerify(): void {
    this.#io.verify.stop();
  }

  /** Answers output WANT_SLOT. */
  handleSlot(slot: number): void {
    this.#io.verify.handleSlot(slot);
  }

  /** The claim that this client holds, or has asked for. */
  get generation(): number {
    return this.#pool.generation;
  }

  /** The newest generation under which another client has served the pool before this one, as its legs have told; 0 for none. */
  get servedBefore(): number {
    return this.#pool.lastServed.byOthers;
  }

  /** Whether there is room for another request. */
  get canSubmit(): boolean {
    return this.#io.canSubmit && (this.#pool.phase !== "detaching") && !this.#isOver;
  }

  /** Most bytes of one reading or writing request: 1 MiB, or half of the intent log where that is less. */
  get maxPayloadBytes(): number {
    return this.#pool.maxPayloadBytes;
  }

  /** Most bytes of one zeroing or discarding request. */
  get maxRangeBytes(): number {
    return this.#pool.maxRangeBytes;
  }

  /** Lets go of the pool: waits for requests in flight, flushes, tells the legs. */
  detach(): void {
    const pool = this.#pool;
    if (this.#isOver || pool.phase === "detaching") return;
    this.#tickSoon();
    if (pool.phase === "ready") {
      pool.phase = "detaching";
      // If a flush has failed before: what was written since is to be on stable storage all the same.
      this.#io.forgetFailedFlush();
      this.#advanceDetach();
      return;
    }
    this.#io.suspend();
    this.#io.failHeld(-5);
    // First: the end of a link must not let the assembly go on with the others.
    pool.phase = "detached";
    this.#closeAll("detached");
  }

  /** Time passes. Cheap: may be called once a loop turn. */
  handleTick(nowMs: number): void {
    const pool = this.#pool;
    pool.nowMs = nowMs;
    if (nowMs < this.#nextTickMs) return;
    // While we ourselves are stopped, silence says nothing about the legs: that time does not count. What they were silent before still
    // does, or a client that is starved again and again would never notice.
    const lateMs = nowMs - this.#nextTickMs + TICK_MS;
    const stoppedMs = lateMs > pool.heartbeatLimitMs / 2 ? lateMs : 0;
    this.#nextTickMs = nowMs + TICK_MS;
    if (this.#isOver) return;
    for (const link of pool.links) {
      if (link === null) continue;
      if (giveUpOverdue(pool, link)) {
        if (link.changeUntilMs > 0) this.#changes.pathFailed(link);
        else this.#lost(link, link.lostReason);
      }
      this.#changes.tick(link, stoppedMs);
      if (link.connection >= 0 && this.#links.isSilent(link, stoppedMs)) this.#silent(link);
    }
    this.#connect();
    this.#membership.tick();
    this.#io.tick();
    const isDone = pool.isCaretaker && !pool.isOrdered && this.#membership.changes.isIdle && isCareDone(pool);
    if (isDone) this.detach();
    this.#advanceDetach();
    if (this.#isQuiet) this.#nextTickMs = Math.max(this.#nextTickMs, this.#nextHeartbeatMs);
  }

  /** When `handleTick` wants to be called, at the latest. */
  get nextDeadlineMs(): number {
    return this.#isOver ? Infinity : this.#nextTickMs;
  }

  /** The next thing to do, or null. */
  poll(): Output | null {
    return this.#pool.outputs.poll();
  }

  /** Whether `poll` has something. */
  get hasOutputs(): boolean {
    return this.#pool.outputs.length > 0;
  }

  /** Caretaker: whether its legs have told that there is nothing to do. */
  get foundAllWell(): boolean {
    return this.#pool.foundAllWell;
  }

  /** Where the pool stands. */
  get state(): "assembling" | "ready" | "waiting" | "refused" | "detaching" | "detached" {
    const phase = this.#pool.phase;
    if (phase === "ready" || phase === "refused" || phase === "detaching" || phase === "detached") return phase;
    return this.#pool.wasReady ? "waiting" : "assembling";
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
    return link === null ? -1 : this.#io.slotFor(link, message);
  }

  /** For status. */
  snapshot(): ClientSnapshot {
    const pool = this.#pool;
    const legs: ClientLegSnapshot[] = [];
    for (let index = 0; index < MAX_LEGS; index++) {
      const link = pool.links[index];
      if (link === null) continue;
      legs.push({
        legIndex: index,
        legUuid: link.legUuid,
        address: link.address,
        paths: link.paths,
        path: link.connection < 0 ? "" : pathInUse(link),
        state: this.#legState(link),
        inFlight: link.readsInFlight,
        isDrained: pool.record?.legs[index]?.isDrained ?? false,
        readErrors: link.readErrors,
        repairedBytes: link.repairedBytes,
        resync: link.report === null || link.resyncSession === 0 ? null : {
          missingBytes: link.report.missingBytes,
          copiedBytes: link.report.copiedBytes,
          rateBytesPerSecond: link.report.rateBytesPerSecond,
        },
      });
    }
    return {
      poolUuid: pool.options.poolUuid,
      poolName: pool.options.poolName,
      state: this.state,
      refusal: pool.refusal,
      refusalCode: pool.refusalCode,
      generation: pool.generation,
      epoch: this.#membership.epoch,
      inSyncMask: pool.inSyncMask & ~pool.lostMask,
      minInSync: pool.record?.minInSync ?? 0,
      legs,
      inFlight: this.#io.count,
      waiting: this.#io.load.waiting,
      sequence: pool.sequence,
      watermark: pool.watermark,
      counters: { ...pool.counters },
      verify: this.#io.verify.snapshot(),
    };
  }

  /** How much waits in this client: for the simulator, which holds each number to its bound. */
  load(): ClientLoad {
    return this.#io.load;
  }

  /** Asserts what must hold between inputs. For tests and the simulator. */
  checkInvariants(): void {
    this.#io.checkInvariants();
    this.#membership.checkInvariants();
  }

  /** Whether there is nothing that time alone could change, but for a leg's silence. */
  get #isQuiet(): boolean {
    const pool = this.#pool;
    if (pool.phase !== "ready" || pool.isCaretaker || this.#io.count > 0 || this.#io.verify.isRunning) return false;
    if (pool.watermark < pool.sequence || pool.inSyncMask !== pool.configuredMask) return false;
    return this.#membership.isSettled && this.#membership.changes.isIdle;
  }

  /** When the next heartbeat is due. */
  get #nextHeartbeatMs(): number {
    let nextMs = Infinity;
    for (const link of this.#pool.links) if (link !== null) nextMs = Math.min(nextMs, link.lastPingMs);
    return nextMs + this.#pool.pingMs;
  }

  /** Something happens: time may change something again. */
  #tickSoon(): void {
    const soonMs = this.#pool.nowMs + TICK_MS;
    if (soonMs < this.#nextTickMs) this.#nextTickMs = soonMs;
  }

  get #isOver(): boolean {
    return this.#pool.phase === "refused" || this.#pool.phase === "detached" || this.#pool.phase === "idle";
  }

  #legState(link: LegLink): LegState {
    const bit = 1 << link.legIndex;
    if ((this.#pool.changingMask & bit) !== 0) return "in-sync";
    if (link.connection < 0 || (this.#pool.lostMask & bit) !== 0) return "away";
    if ((this.#pool.inSyncMask & bit) !== 0) return "in-sync";
    return (this.#pool.activeMask & bit) !== 0 ? "resyncing" : "stale";
  }

  #connect(): void {
    if (!this.#isOver && this.#pool.phase !== "detaching") this.#links.connect();
  }

  #handleWelcome(link: LegLink, welcome: Welcome): void {
    if (link.state !== "greeting") return;
    if (link.changeUntilMs > 0 && checkAnswer(this.#pool.dialect, welcome).ok) {
      return this.#changes.greeted(link, welcome);
    }
    if (!this.#links.welcomed(link, welcome)) return this.#closeLink(link, link.lastRefusal);
    this.#membership.handleWelcome(link);
  }

  /** Ends a link ourselves. What is in flight on it is dealt with at once, but for reads (see handleConnectionClosed). */
  #closeLink(link: LegLink, reason: string): void {
    const pool = this.#pool;
    if (link.changeUntilMs > 0) return this.#changes.end(link, reason);
    if (link.connection < 0) return;
    const level = pool.phase === "detached" ? "info" : "warning";
    pool.event(level, "link-closed", `The connection to leg ${link.legIndex} is closed: ${reason}`, link.legIndex);
    pool.outputs.push(OutputKind.CLOSE).connection = link.connection;
    this.#lost(link, reason);
    this.#advanceDetach();
  }

  /** Nothing comes from a leg any more. */
  #silent(link: LegLink): void {
    const pool = this.#pool;
    const { connection } = link;
    if (link.changeUntilMs === 0 && this.#changes.begin(link)) {
      this.#changes.tick(link, 0);
      pool.outputs.push(OutputKind.CLOSE).connection = connection;
    } else this.#closeLink(link, `it has been silent for ${pool.heartbeatLimitMs} ms`);
  }

  /** A link is down, and its leg lost. */
  #lost(link: LegLink, reason: string): void {
    link.lostReason = reason;
    this.#detachMask &= ~(1 << link.legIndex);
    this.#links.down(link);
    this.#membership.linkLost(link);
    this.#pool.noteCredits();
    this.#io.retryParked();
    this.#advanceDetach();
  }

  #closeAll(reason: string): void {
    for (const link of this.#pool.links) if (link !== null) this.#closeLink(link, reason);
  }

  #tellUnclean(why: string): void {
    this.#pool.event("error", "unclean-detach", `${why}; the legs are compared at the next attach`);
  }

  #advanceDetach(): void {
    const pool = this.#pool;
    if (pool.phase !== "detaching") return;
    if (!this.#detachSent) {
      if (this.#io.count > 0) return;
      if (this.#io.ownFlush.hasFailed) {
        this.#tellUnclean("The last flush failed");
        pool.phase = "detached";
        this.#closeAll("detached");
        return;
      }
      if (this.#io.flushAll() || pool.unreachableMask !== 0) return;
      this.#detachSent = true;
      for (const index of indicesOf(pool.activeMask & ~pool.lostMask)) {
        this.#detachMask |= 1 << index;
        pool.send(pool.links[index] as LegLink, MessageType.DETACH, DETACH_ID);
      }
    }
    if (this.#detachMask !== 0) return;
    pool.phase = "detached";
    this.#closeAll("detached");
  }
}
