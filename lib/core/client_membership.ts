/**
 * Who is in: assembling a pool (greet, claim, establish, reconcile), changing the in-sync set by epochs, admitting legs to resync.
 *
 * One epoch proposal is under way at a time; a newer one supersedes it. A proposal is sent to every active leg that is not lost, and is in
 * force when all of them have confirmed it. Requests that wait for a dropped leg complete only then.
 *
 * When fewer legs than the minimum remain, nothing is dropped: all links are closed, requests are held, and the pool is assembled
 * anew from what the legs themselves have on record. The client's memory is never trusted over theirs.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { LegEntry, SharedEpoch } from "../disk_format/records.ts";
import type { Grant, Refusal, ResyncReport } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { lostText } from "./care_rules.ts";
import { Admission, type AdmissionHost, isOfTable } from "./admission.ts";
import { AssemblyClock } from "./assembly_clock.ts";
import { ClaimRound, NO_ANSWER_TEXT } from "./claim_round.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import type { ClientIo } from "./client_io.ts";
import { foundingRecord, planStart, type Proposal, withLegsLeft } from "./epoch_changes.ts";
import { grantsOf, noteSpread, objectionTo, refusalsOf, stepAfterGreeting, tellForced } from "./greeting.ts";
import { checkMasks, isSureOf, noteRecordOf, noteServed, tellChanges, tooFewText } from "./leg_masks.ts";
import { LegTableChanges, type LegTableHost } from "./leg_table_changes.ts";
import { OwnHistory, SUPERSEDED_TEXT } from "./own_history.ts";
import { epochRequestId } from "./request_table.ts";
import { ReconcileRound } from "./reconcile_round.ts";
import { forgetResync, ResyncSessions } from "./resync_orders.ts";
import { dropSlowConfirmers } from "./slow_legs.ts";
import type { RefusalCode } from "./snapshot.ts";
import { indicesOf, maySetChange } from "./start_rule.ts";
import { followTable, learnLegs } from "./table_links.ts";

const MOST_ADMIT_BACKOFF_MS = 10_000;
/** A leg that is to greet anew is connected to after this, at the latest. */
const REGREET_MS = 50;

/** See the module comment. */
export class ClientMembership implements LegTableHost, AdmissionHost {
  /** Changes of the leg table. */
  readonly changes: LegTableChanges;
  readonly #pool: ClientContext;
  readonly #io: ClientIo;
  readonly #closeLink: (link: LegLink, reason: string) => void;
  readonly #claims: ClaimRound;
  readonly #sessions = new ResyncSessions();
  readonly #admission: Admission;
  #proposal: Proposal | null = null;
  /** The newest record we have sent or taken over. */
  #latest: SharedEpoch | null = null;
  readonly #clock: AssemblyClock;
  #retryAtMs = 0;
  /** A leg that is claimed is held for another client. */
  #isHeld = false;
  readonly #reconcile: ReconcileRound;
  readonly #own: OwnHistory;
  /** A leg that is being dropped because the leg table is to change, not for having failed; as a mask. */
  #leavingMask = 0;
  /** The set of the newest record as a record of our own, which the members that are here get before fewer are in the set. */
  #spread: SharedEpoch | null = null;

  constructor(pool: ClientContext, io: ClientIo, closeLink: (link: LegLink, reason: string) => void) {
    this.#pool = pool;
    this.#own = new OwnHistory(pool);
    this.#clock = new AssemblyClock(pool.options.assembleTimeoutMs);
    this.#io = io;
    this.#claims = new ClaimRound(pool);
    this.#reconcile = new ReconcileRound(pool, this.#sessions);
    this.#closeLink = closeLink;
    this.changes = new LegTableChanges(pool, this);
    this.#admission = new Admission(pool, io, this.#sessions, this);
  }

  /** Begins to assemble the pool. */
  start(): void {
    this.#pool.phase = "greet";
    this.#clock.begin(this.#pool.nowMs);
    this.#retryAtMs = 0;
  }

  /** A leg has greeted us. */
  handleWelcome(link: LegLink): void {
    const pool = this.#pool;
    this.#claims.notePromise(link.welcome?.record?.promisedGeneration ?? 0);
    if (pool.phase === "greet") {
      const gone = this.#own.greeted(link);
      if (gone !== "") return this.#refuse("other-history", gone);
      learnLegs(pool, this.#closeLink);
      this.#maybeClaim();
    } else if (pool.phase === "ready") this.#claimLate(link);
  }

  /** A claim is granted. */
  handleGrant(link: LegLink, grant: Grant): void {
    const pool = this.#pool;
    if (link.state !== "claiming" || grant.generation !== pool.generation) return;
    if (this.#own.hasRival(grant.record.shared as SharedEpoch)) {
      this.#closeLink(link, "it has come to hold another history since it greeted");
      return;
    }
    link.state = "claimed";
    link.grant = grant;
    link.hasGranted = true;
    noteRecordOf(pool, grant.record.shared as SharedEpoch);
    this.#claims.settle(link);
    if (pool.phase === "claim") this.#maybeEstablish();
    else if (pool.phase === "ready") this.#admission.admitAll();
  }

  /** A control frame is refused. */
  handleRefusal(link: LegLink, message: Message, refusal: Refusal): void {
    const pool = this.#pool;
    link.lastRefusal = refusal.message;
    this.#claims.notePromise(refusal.generation ?? 0);
    if (link.state === "claiming") {
      if (refusal.code === "held" && (!pool.wasReady || pool.isCaretaker)) {
        this.#refuse("held", `Leg ${link.legIndex} (${link.address}): ${refusal.message}`);
        return;
      }
      // Who has served the pool does without the leg meanwhile: the other may be dead, and the leg not know. One that lives tells by its record.
      if (refusal.code === "held" && pool.phase === "claim") this.#isHeld = true;
      if (refusal.code === "stale-generation" && pool.phase !== "ready") {
        this.#restart(`leg ${link.legIndex} has promised a newer generation`);
        return;
      }
      this.#closeLink(link, refusal.message);
      return;
    }
    if ((message.requestId & 0xff000000) >>> 0 === epochRequestId(0) && this.#isActive(link)) {
      if (refusal.code === "stale-generation") this.#restart(`leg ${link.legIndex} is claimed by another client`);
      else this.failLeg(link.legIndex, refusal.message);
      return;
    }
    if (link.state === "greeting" || link.state === "greeted") this.#closeLink(link, refusal.message);
  }

  /** EPOCH_DONE. */
  handleEpochDone(link: LegLink, requestId: number): void {
    const proposal = this.#proposal;
    if (proposal === null || requestId !== epochRequestId(proposal.shared.epoch)) return;
    proposal.waitMask &= ~(1 << link.legIndex);
    if (proposal.waitMask === 0) this.#commit(proposal);
  }

  /** RESYNC_REPORT. */
  handleReport(link: LegLink, report: ResyncReport): void {
    if (link.resyncSession === 0 || report.resyncSession !== link.resyncSession) return;
    link.report = report;
    if (report.state === "failed") {
      this.#pool.event("warning", "resync-failed", report.message ?? "The resync failed", link.legIndex);
      if (this.#pool.phase === "reconcile") {
        const pauseMs = this.#reconcile.failed(link, report.unreadableLeg ?? -1);
        const stuck = this.#pool.wasReady || this.#pool.force !== null
          ? ""
          : this.#reconcile.stuckText(report.message ?? "");
        if (stuck !== "") return this.#refuse("no-start", stuck);
        this.#restart(`leg ${link.legIndex} could not be reconciled`, pauseMs);
      } else this.failLeg(link.legIndex, report.message ?? "its resync failed");
      return;
    }
    if (report.state !== "done") return;
    if (this.#pool.phase === "reconcile") {
      if (this.#reconcile.isSettledBy(link)) this.#becomeReady();
      return;
    }
    link.doneEpoch = report.epoch;
    this.#admission.maybeJoin();
  }

  /** A link is down. */
  linkLost(link: LegLink): void {
    const pool = this.#pool;
    const bit = 1 << link.legIndex;
    forgetResync(link);
    link.grant = null;
    this.#claims.settle(link);
    if (pool.phase === "greet") this.#maybeClaim();
    else if (pool.phase === "claim") this.#maybeEstablish();
    else if ((pool.phase === "establish" || pool.phase === "reconcile") && (pool.activeMask & bit) !== 0) {
      this.#restart(`leg ${link.legIndex} was lost while the pool was being assembled`);
    } else if (pool.phase === "ready" || pool.phase === "detaching") {
      if ((pool.activeMask & ~pool.lostMask & bit) !== 0) this.dropWhenSettled(bit);
    }
  }

  /** Legs are lost for good, or none: they leave when no leg changes its path any more. */
  dropWhenSettled(mask: number): void {
    const pool = this.#pool;
    const failedMask = pool.failedMask |= mask;
    if (failedMask === 0 || pool.changingMask !== 0) return;
    pool.failedMask = 0;
    this.#drop(failedMask);
  }

  /** An active leg has failed: it leaves the active legs. */
  failLeg(legIndex: number, reason: string): void {
    const link = this.#pool.links[legIndex];
    if (link === null || (this.#pool.lostMask & (1 << legIndex)) !== 0) return;
    link.admitAtMs = this.#pool.nowMs + link.admitBackoffMs;
    link.admitBackoffMs = Math.min(MOST_ADMIT_BACKOFF_MS, link.admitBackoffMs * 2);
    this.#closeLink(link, reason);
  }

  /** Time passes. */
  tick(): void {
    const pool = this.#pool;
    if (pool.phase === "greet") this.#maybeClaim();
    else if (pool.phase === "claim") {
      for (const link of this.#claims.overdue()) this.#closeLink(link, NO_ANSWER_TEXT);
    } else if (pool.phase === "ready") {
      this.#admission.admitAll();
      this.#admission.maybeJoin();
    } else this.#io.holdWrites(0);
    if (this.#proposal !== null) dropSlowConfirmers(pool, this.#proposal, this);
    const wasChanging = !this.changes.isIdle;
    this.changes.advance();
    // A leg that greeted while another change was under way may be taken in only now.
    if (wasChanging && this.changes.isIdle && pool.phase === "ready") this.#takeWaiting();
  }

  /** The newest record sent or taken over. */
  get latest(): SharedEpoch | null {
    return this.#latest;
  }

  get isSettled(): boolean {
    return this.#pool.phase === "ready" && !this.isProposing && this.#pool.lostMask === 0;
  }

  /** Whether the pool is served, with no record on its way. */
  get isSteady(): boolean {
    return (this.#pool.phase === "ready" || this.#pool.phase === "detaching") && this.#proposal === null;
  }

  get isProposing(): boolean {
    return this.#proposal !== null || this.#pool.unreachableMask !== 0;
  }

  propose(shared: SharedEpoch, suspectExtents: number[] = []): void {
    this.#send(shared, 0, suspectExtents);
  }

  /** The record that drops the leg is made from the newest one: its entry goes along. */
  dropLeg(legIndex: number, entry: LegEntry, reason: string): void {
    const latest = this.#latest as SharedEpoch;
    this.#latest = { ...latest, legs: latest.legs.map((each, index) => index === legIndex ? entry : each) };
    this.#leavingMask = 1 << legIndex;
    this.failLeg(legIndex, reason);
    this.#leavingMask = 0;
  }

  get epoch(): number {
    return this.#latest?.epoch ?? 0;
  }

  /** The last in-sync leg has failed a write or flush: legs under resync may have done it, so they begin again from what that leg knows. */
  writeFailed(): void {
    const pool = this.#pool;
    const isServing = pool.phase === "ready" || pool.phase === "detaching";
    if (isServing && pool.activeMask !== pool.inSyncMask) this.#drop(0);
  }

  writeDone(): void {
    this.#admission.maybeJoin();
  }

  /** Asserts what must hold between inputs. */
  checkInvariants(): void {
    checkMasks(this.#pool, this.#proposal !== null);
  }

  #maybeClaim(): void {
    const pool = this.#pool;
    if (pool.nowMs < this.#retryAtMs) return;
    const step = stepAfterGreeting(pool, this.#own, this.#clock);
    if (step.next === "refuse") return this.#refuse(step.code, step.reason);
    if (step.next === "ask-again") return this.#maybeAskAgain();
    if (step.next === "wait") return;
    pool.phase = "claim";
    this.#claims.begin();
  }

  /** Nothing can be decided. What the legs have said may be old; nothing is while they are asked again, one by one. */
  #maybeAskAgain(): void {
    const { isCaretaker, nowMs, links } = this.#pool;
    if (isCaretaker || !this.#clock.beginsAnew(nowMs)) return;
    this.#retryAtMs = nowMs + 20;
    for (const link of links) if (link?.state === "greeted") this.#closeToGreet(link, "it is asked again");
  }

  /** It is expected to greet again: it may know of a newer record. */
  #closeToGreet(link: LegLink, reason: string): void {
    if (link.connection >= 0) {
      this.#closeLink(link, reason);
      link.retryAtMs = Math.min(link.retryAtMs, this.#pool.nowMs + REGREET_MS);
    }
    link.hasFailed = false;
  }

  /** A leg that greets while the pool is being served: claim it for our generation, then resync it. */
  #claimLate(link: LegLink): void {
    const pool = this.#pool;
    if (link.state !== "greeted" || this.#latest === null) return;
    if (!isOfTable(link, this.#latest) && this.changes.mayAdopt(link)) return;
    const objection = objectionTo(pool, link, this.#latest);
    if (objection === "foreign") this.#closeLink(link, "its UUID is not in the leg table");
    if (objection !== null) return;
    const promised = link.welcome?.record?.promisedGeneration ?? 0;
    const isOurs = link.welcome?.record?.promisedTo === pool.options.clientUuid;
    if (promised > pool.generation || (promised === pool.generation && !isOurs)) {
      // Another client may have claimed our number where we were not heard: only a higher one settles it.
      this.#restart(`leg ${link.legIndex} has promised generation ${promised} to another client`);
      return;
    }
    this.#claims.send(link, true);
  }

  #maybeEstablish(): void {
    const pool = this.#pool;
    if (!this.#claims.isOver) return;
    const plan = planStart(grantsOf(pool), this.#reconcile.distrustMask, pool.extentCount, pool.force, this.#spread);
    if (!plan.ok) {
      const pauseMs = this.#claims.failed(this.#isHeld);
      const isHopeless = this.#claims.isHopeless && !pool.wasReady && !pool.isCaretaker;
      if (isHopeless) return this.#refuse("no-start", `${plan.reason}.${plan.risk ?? ""}${refusalsOf(pool)}`);
      return this.#restart(plan.reason, pauseMs);
    }
    this.#claims.succeeded();
    if (this.#own.isSupersededBy(plan.record)) return this.#refuse("superseded", SUPERSEDED_TEXT);
    if (this.#own.isOutlived(plan.record)) return this.#restart("the legs of its history are gone again");
    pool.phase = "establish";
    pool.inSyncMask = plan.memberMask;
    pool.activeMask = plan.memberMask;
    pool.lostMask = 0;
    // Who has been given the newest record is no better a source for it.
    const sourceIndex = plan.isOnlySpread ? this.#reconcile.source : this.#reconcile.plan(plan.suspects);
    const shared = foundingRecord(plan, pool.generation, pool.isCaretaker, sourceIndex);
    if (plan.isOnlySpread) this.#spread = shared;
    else if (this.#spread !== null) {
      // They have just been told to be in the set: they begin anew as what they are.
      for (const index of indicesOf(plan.doubtMask)) this.#closeLink(pool.links[index] as LegLink, "it is left out");
    }
    if (plan.forced !== null) {
      tellForced(pool, plan, plan.forced.isMixture, shared.minInSync);
      // It may be on legs now: if the pool is assembled anew from others, what they found by force is not to pass for the same history.
      pool.force = null;
    }
    for (const link of pool.links) {
      const entry = link === null ? null : shared.legs[link.legIndex];
      if (link !== null && entry) link.legUuid = entry.uuid;
    }
    this.#send(shared, plan.record.inSyncMask & ~shared.inSyncMask, plan.suspects);
  }

  /** Sends a record to every active leg that is not lost. */
  #send(shared: SharedEpoch, droppedMask: number, suspectExtents: number[]): void {
    const pool = this.#pool;
    assert(pool.unreachableMask === 0, "No record is made while a leg changes its path", pool.unreachableMask);
    this.#own.made(shared);
    const waitMask = pool.activeMask & ~pool.lostMask;
    this.#latest = shared;
    this.#proposal = { shared, droppedMask, waitMask, sentMs: pool.nowMs, suspectCount: suspectExtents.length };
    for (const index of indicesOf(waitMask)) {
      const link = pool.links[index] as LegLink;
      pool.send(link, MessageType.EPOCH, epochRequestId(shared.epoch)).body = { shared, droppedMask, suspectExtents };
    }
  }

  #commit(proposal: Proposal): void {
    const pool = this.#pool;
    this.#proposal = null;
    pool.record = proposal.shared;
    followTable(pool, proposal.shared, this.#closeLink);
    if (pool.phase === "establish") {
      if (proposal.shared === this.#spread) {
        noteSpread(pool, proposal.shared);
        return this.#maybeEstablish();
      }
      if (!this.#reconcile.begin(proposal.shared)) this.#becomeReady();
      return;
    }
    const joined = proposal.shared.inSyncMask & ~pool.inSyncMask;
    pool.inSyncMask = proposal.shared.inSyncMask;
    pool.activeMask &= ~proposal.droppedMask;
    pool.lostMask &= ~proposal.droppedMask;
    for (const index of indicesOf(joined)) {
      const link = pool.links[index] as LegLink;
      forgetResync(link);
      link.admitBackoffMs = 100;
    }
    tellChanges(pool, proposal.shared.epoch, joined, proposal.droppedMask);
    this.#io.epochCommitted();
    this.#admission.maybeJoin();
    this.changes.advance();
    this.#takeWaiting();
    this.#admission.admitAll();
  }

  /**
   * Legs that wait: they greeted before the pool was served, or before they were in the table, and are claimed now. Those that were claimed
   * when nobody knew yet which is the table and are not of it come into it, if they were made in place of one that is, or are let go.
   */
  #takeWaiting(): void {
    for (const link of this.#pool.links) {
      if (link?.state === "greeted") this.#claimLate(link);
      else if (link?.state === "claimed" && !isOfTable(link, this.#latest) && !this.changes.mayAdopt(link)) {
        this.#closeLink(link, "its UUID is not in the leg table");
      }
    }
  }

  #becomeReady(): void {
    const pool = this.#pool;
    for (const index of indicesOf(pool.inSyncMask)) {
      const link = pool.links[index] as LegLink;
      forgetResync(link);
      link.suspectedFrom = 0;
    }
    this.#reconcile.done();
    this.#spread = null;
    // Records to come tell of something else.
    if (this.#latest !== null) this.#latest = { ...this.#latest, sourceIndex: undefined };
    pool.phase = "ready";
    pool.wasReady = true;
    // It takes the pool over once: if another takes it from us later, we have lost it.
    pool.takeover = false;
    pool.force = null;
    pool.event("info", "ready", `The pool is served by legs ${indicesOf(pool.inSyncMask).join(", ")}`);
    this.#io.resume(isSureOf(pool));
    noteServed(pool);
    this.#takeWaiting();
    this.#admission.admitAll();
  }

  /** Active legs are lost (none: only resyncs begin again): a new epoch without them, or, if too few remain, assemble anew. */
  #drop(mask: number): void {
    const pool = this.#pool;
    const latest = this.#latest as SharedEpoch;
    if (pool.isCaretaker && (mask & pool.inSyncMask & ~this.#leavingMask) !== 0) {
      return this.#refuse("session-lost", lostText(mask));
    }
    pool.lostMask |= mask;
    if ((mask & ~this.#leavingMask) !== 0) pool.counters.legDrops++;
    // A leg whose joining is not confirmed yet is not in the set that serves; when resyncs begin again, its joining is taken back.
    const members = mask === 0 ? pool.inSyncMask : (this.#proposal?.shared ?? latest).inSyncMask;
    let inSyncMask = members & ~pool.lostMask;
    if (!maySetChange(pool.inSyncMask, inSyncMask, latest.minInSync)) inSyncMask &= pool.inSyncMask;
    if (!maySetChange(pool.inSyncMask, inSyncMask, latest.minInSync)) {
      return this.#restart(tooFewText(pool, latest.minInSync));
    }
    const restartMask = mask === 0 || (mask & pool.inSyncMask) !== 0
      ? pool.activeMask & ~pool.lostMask & ~inSyncMask
      : 0;
    pool.lostMask |= restartMask;
    this.#send(withLegsLeft(latest, inSyncMask, mask, pool.wallMs), pool.lostMask, []);
    this.#restartResyncs(restartMask);
  }

  /**
   * A member is lost. It may have failed or thrown away a write that no one has heard of yet, and a leg under resync may have pulled the
   * chunk from it since. All of these are in the unflushed sets of the members that stay, so every resync is dropped with it and begins
   * again under the new epoch, from what those know. It begins with a new claim, which throws away what waits at that leg: a write that
   * was answered by the others could reach its disk only after the chunk was pulled.
   */
  #restartResyncs(mask: number): void {
    for (const index of indicesOf(mask)) this.#closeLink(this.#pool.links[index] as LegLink, "its resync begins again");
  }

  /** Back to the beginning: what is in flight is held; the legs' own records decide. */
  #restart(reason: string, afterMs = 0): void {
    const pool = this.#pool;
    // One with orders may yet get what it wants: others may have been about to let go.
    if (pool.isCaretaker && (pool.wasReady || !pool.isOrdered)) return this.#refuse("session-lost", reason);
    const isDetaching = pool.phase === "detaching";
    pool.event("warning", "assembling", `The pool is assembled anew: ${reason}`);
    pool.phase = "greet";
    this.#proposal = null;
    this.#latest = null;
    this.#spread = null;
    this.#claims.abandon();
    this.#isHeld = false;
    this.#reconcile.abandon();
    pool.forgetLegs();
    this.#io.suspend();
    this.#clock.begin(pool.nowMs);
    this.#retryAtMs = pool.nowMs + afterMs + 20 + Math.floor(pool.options.nextRandom() * 200);
    for (const link of pool.links) {
      if (link === null) continue;
      link.suspectedFrom = -1;
      link.resyncSession = 0;
      this.#closeToGreet(link, "the pool is assembled anew");
    }
    if (isDetaching) {
      this.#io.failHeld(-5);
      pool.phase = "detached";
    }
  }

  /** The attach is refused, for good. */
  #refuse(code: RefusalCode, reason: string): void {
    const pool = this.#pool;
    pool.phase = "refused";
    pool.refusal = reason;
    pool.refusalCode = code;
    pool.forgetLegs();
    this.#proposal = null;
    this.#io.suspend();
    this.#io.failHeld(-5);
    for (const link of pool.links) if (link !== null && link.connection >= 0) this.#closeLink(link, reason);
    pool.event("error", "refused", reason);
  }

  #isActive(link: LegLink): boolean {
    return (this.#pool.activeMask & (1 << link.legIndex)) !== 0;
  }
}
