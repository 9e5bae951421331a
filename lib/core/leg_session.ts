/**
 * Who may use a leg: greeting, claims (fencing), epoch records, and the end of a session.
 *
 * A claim is granted only when nothing of the session before can still happen: its connection is closed, its waiting
 * operations are discarded, those on the disk have ended, the disk is flushed, and the promise is durable. Only one claim is under way.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";
import { type Claim, type EpochChange, type Hello, type Return, SESSION_SILENCE_MS } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { answerOffer, Feature } from "../wire/negotiate.ts";
import { claimantOf, heldText, rightOf } from "./claimants.ts";
import type { LegContext, Session } from "./leg_context.ts";
import type { LegIo } from "./leg_io.ts";
import { type LegMetadata, PURPOSE_NOBODY_WAITS } from "./leg_metadata.ts";
import { coverByPages, type PendingEpoch } from "./pending_epoch.ts";
import { RecordConditions } from "./record_conditions.ts";
import type { ResyncTarget } from "./resync_target.ts";
import { SessionFlushes } from "./session_flushes.ts";

/** A claim under way. */
interface PendingClaim {
  readonly connection: number;
  readonly requestId: number;
  readonly claim: Claim;
  stage: "drain" | "flush" | "record";
  /** Of the record write that makes the promise durable: that of a claim before it says nothing of this one. */
  readonly purpose: number;
}

/** The session rules of one leg. */
export class LegSession {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #io: LegIo;
  readonly #target: ResyncTarget;
  #pendingClaim: PendingClaim | null = null;
  readonly #pendingEpochs: PendingEpoch[] = [];
  /** Suspicions came with records that were refused, and may not be on the disk. */
  #owesPages = false;
  #nextPurpose = 1;
  #detach: { connection: number; requestId: number; stage: "flush" | "pages" | "intents" } | null = null;
  #flushAfterLoss = false;
  readonly #flushes: SessionFlushes;
  readonly #conditions: RecordConditions;

  constructor(leg: LegContext, metadata: LegMetadata, io: LegIo, target: ResyncTarget) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#io = io;
    this.#flushes = new SessionFlushes(io);
    this.#target = target;
    this.#conditions = new RecordConditions(
      leg,
      metadata,
      io,
      (purpose, result) => this.recordWritten(purpose, result),
      () => this.#takenBack(),
    );
  }

  /** First frame of a connection that names this leg. */
  handleHello(connection: number, requestId: number, hello: Hello): void {
    const leg = this.#leg;
    const agreement = answerOffer(leg.dialect, hello);
    if (!agreement.ok) {
      leg.refuse(connection, requestId, agreement.code, agreement.message);
      return;
    }
    if (hello.role === "peer") {
      const index = hello.senderLegIndex ?? -1;
      const entry = leg.record.legs[index] ?? null;
      if (index === leg.legIndex || entry === null || entry.uuid !== hello.senderUuid) {
        leg.refuse(connection, requestId, "unknown-leg", `Leg ${index} of the caller is not in the leg table`);
        return;
      }
      leg.peers.set(connection, { role: "peer", legIndex: index, canReturn: false });
    } else if (hello.role !== "control") {
      const canReturn = hello.role === "client" && (agreement.features & Feature.RETURN) !== 0;
      leg.peers.set(connection, { role: hello.role, legIndex: -1, canReturn });
    } else {
      leg.refuse(connection, requestId, "bad-request", "Only clients, readers and peers speak to a leg");
      return;
    }
    leg.send(connection, MessageType.WELCOME, requestId).body = {
      protocol: agreement.protocol,
      features: agreement.features,
      instance: leg.options.instance,
      legUuid: leg.superblock.legUuid,
      replacesUuid: leg.superblock.replacesUuid,
      record: this.#recordBody(),
      creditRequests: leg.creditRequests,
      creditBytes: leg.creditBytes,
      addresses: leg.options.addresses?.length ? [...leg.options.addresses] : undefined,
      heldBy: leg.session === null || leg.session.lostMs >= 0 ? undefined : leg.session.clientName,
      unclean: leg.intentsLost || leg.suspectedExtents().length > 0 ? true : undefined,
      whole: leg.isWhole || (!leg.intentsLost && leg.suspectedExtents().length === 0),
    };
  }

  /** Client: CLAIM. */
  handleClaim(connection: number, requestId: number, claim: Claim): void {
    const leg = this.#leg;
    if (this.#pendingClaim !== null) {
      leg.refuse(connection, requestId, "busy", "Another claim is under way; try again");
      return;
    }
    const sameClient = claim.clientUuid === leg.promisedTo;
    if (
      claim.generation < leg.promisedGeneration ||
      (claim.generation === leg.promisedGeneration && !sameClient)
    ) {
      const text = `Generation ${leg.promisedGeneration} is promised already`;
      leg.refuse(connection, requestId, "stale-generation", text, leg.promisedGeneration);
      return;
    }
    const old = leg.session;
    const isCaretaker = claim.caretaker === true;
    const right = rightOf(claimantOf(claim));
    // Who has lost its connection has no better right to the pool than before there was a way back, but for caretakers.
    const isLost = old !== null && old.lostMs >= 0 && right > 0;
    const givesWay = old === null || isLost || old.clientUuid === claim.clientUuid || rightOf(old) < right;
    if (!givesWay && (!claim.takeover || isCaretaker)) {
      leg.refuse(connection, requestId, "held", heldText(old));
      return;
    }
    this.#endSession();
    if (old !== null && old.connection !== connection) {
      leg.event(
        old.isCaretaker ? "info" : "warning",
        "session-ended",
        `The session of ${old.clientName} ends: ${claim.clientName} claims the pool`,
      );
      leg.peers.delete(old.connection);
      leg.close(old.connection);
    }
    this.#pendingClaim = { connection, requestId, claim, stage: "drain", purpose: this.#nextPurpose++ };
    this.#advanceClaim();
  }

  /** Client: EPOCH. The suspicion comes first, in memory; the record follows it. */
  handleEpoch(connection: number, requestId: number, change: EpochChange): void {
    const leg = this.#leg;
    const shared = change.shared;
    if (!this.#holdsSession(connection) || shared.generation !== leg.session?.generation) {
      leg.refuse(connection, requestId, "stale-generation", "Only the session in force may change the epoch");
      return;
    }
    if (shared.epoch <= leg.record.epoch && shared.generation === leg.record.generation) {
      leg.refuse(connection, requestId, "bad-request", `Epoch ${shared.epoch} is not after ${leg.record.epoch}`);
      return;
    }
    if (shared.legs[leg.legIndex]?.uuid !== leg.superblock.legUuid) {
      leg.refuse(connection, requestId, "unknown-leg", "The leg table of the record does not know this leg");
      return;
    }
    for (let index = 0; index < MAX_LEGS; index++) {
      const map = leg.maps[index];
      if (map === null) continue;
      const isDropped = (change.droppedMask & (1 << index)) !== 0;
      if (isDropped) leg.joins[index] = 0;
      if ((shared.inSyncMask & (1 << index)) !== 0) leg.joins[index] = 0;
    }
    const isDoubtful = leg.adoptIncarnations(shared);
    // A leg that is not in the table any more gets nothing more from here.
    for (let index = 0; index < MAX_LEGS; index++) if (leg.maps[index] === null) leg.joins[index] = 0;
    for (let index = 0; index < MAX_LEGS; index++) {
      const map = leg.maps[index];
      if (map === null) continue;
      if ((shared.inSyncMask & (1 << index)) !== 0) {
        // A record that was never in force may have had it out of sync here, and may have left suspicions behind.
        map.clear(0, leg.chunkCount);
        continue;
      }
      if ((change.droppedMask & (1 << index)) !== 0) leg.unflushed.forEach((chunks) => map.addAll(chunks));
      for (const extent of change.suspectExtents) leg.suspectExtent(map, extent);
    }
    const losesMember = leg.isMember && (leg.record.inSyncMask & ~shared.inSyncMask) !== 0;
    leg.record = shared;
    // A leg that joins from a resync has all that was acked; the watermark may have told so while it was none of the members' business.
    if (leg.isInSync && !leg.isMember && this.#target.isActive) {
      leg.isWhole = true;
      leg.becameEqual();
      this.#metadata.writeIntents(true);
    }
    if (leg.session !== null) leg.session.isMember = leg.isInSync;
    // Writes may follow.
    leg.isStable = false;
    this.#target.handleEpoch();
    const purpose = this.#nextPurpose++;
    const isDropping = leg.maps.some((map, index) => map !== null && (change.droppedMask & (1 << index)) !== 0);
    // Writes that wait for room are in no intent yet, and the dropped leg may have done them.
    const isUncovered = isDropping && this.#io.hasWritesWithoutRoom;
    const needsPages = isDoubtful || change.suspectExtents.length > 0 || this.#owesPages || isUncovered;
    if (needsPages) { for (const map of leg.maps) map?.beginCheckpoint(); }
    const additions = isDropping ? leg.intents.additions() : null;
    this.#pendingEpochs.push({ purpose, connection, requestId, isWritten: false, needsPages, additions });
    if (isDropping) this.#metadata.writeIntents(false);
    if (losesMember) this.#conditions.flushFirst();
    if (isDoubtful) this.#conditions.savePagesFirst();
    this.#metadata.writeRecord(purpose);
  }

  /** Client: DETACH. The client has drained and flushed everything everywhere. */
  handleDetach(connection: number, requestId: number): void {
    const leg = this.#leg;
    if (!this.#holdsSession(connection)) {
      leg.send(connection, MessageType.ACK, requestId, -1);
      return;
    }
    // Answered once: the first is under way.
    if (this.#detach !== null) return;
    this.#target.abort("the client detaches");
    this.#detach = { connection, requestId, stage: "flush" };
    this.#flushes.begin();
  }

  /** A record write has ended. */
  recordWritten(purpose: number, result: number): void {
    const leg = this.#leg;
    if (purpose === this.#pendingClaim?.purpose) {
      if (result < 0) this.#failClaim("io-error", `The claim could not be recorded on the disk (${result})`);
      else this.#grant();
      return;
    }
    const at = this.#pendingEpochs.findIndex((pending) => pending.purpose === purpose);
    if (at < 0) return;
    const pending = this.#pendingEpochs[at];
    pending.isWritten = true;
    if (result < 0) {
      this.#pendingEpochs.splice(at, 1);
      leg.refuse(pending.connection, pending.requestId, "io-error", `The epoch could not be recorded (${result})`);
    } else this.#confirmEpochs();
  }

  /**
   * A dirty page could not be written (`result`); `isAwaited`: one that a checkpoint of another leg's map waits for. What is not on the disk
   * cannot be confirmed: the client goes on without this leg. Only the last leg in sync keeps it waiting until the page can be written, as
   * long as no other record waits behind.
   */
  pageFailed(result: number, isAwaited: boolean): void {
    const leg = this.#leg;
    if (this.#detach?.stage === "pages") this.#endDetach(result);
    // A client that claims is told; it goes on without this leg, or says why it cannot.
    if (isAwaited && this.#pendingClaim !== null) this.#conditions.pageFailed(result);
    if (!isAwaited || this.#pendingEpochs.length === 0 || !this.#pendingEpochs[0].needsPages) return;
    const isLast = leg.record.inSyncMask === 1 << leg.legIndex;
    if (isLast && this.#pendingEpochs.length === 1) return;
    // A later record vouches for the suspicions of an earlier one.
    this.#owesPages = true;
    for (const { connection, requestId } of this.#pendingEpochs.splice(0)) {
      leg.refuse(connection, requestId, "io-error", `What other legs may lack could not be recorded (${result})`);
    }
  }

  /** A block of the intent log could not be written. */
  intentsFailed(result: number): void {
    if (this.#detach?.stage === "intents") this.#endDetach(result);
    coverByPages(this.#pendingEpochs, this.#leg);
  }

  /** Confirms epochs in the order in which they came: a later one vouches for the suspicions of an earlier one. */
  #confirmEpochs(): void {
    const leg = this.#leg;
    while (this.#pendingEpochs.length > 0 && this.#pendingEpochs[0].isWritten) {
      const pending = this.#pendingEpochs[0];
      if (pending.additions !== null && !leg.intents.areDurable(pending.additions)) {
        return this.#metadata.writeIntents(true);
      }
      if (pending.needsPages) {
        this.#metadata.savePages();
        if (leg.maps.some((map) => map !== null && !map.isCheckpointDone)) return;
      }
      this.#pendingEpochs.shift();
      leg.send(pending.connection, MessageType.EPOCH_DONE, pending.requestId);
    }
  }

  /** A flush that a record waits for is done, or one of a claim or at a session's end. */
  sessionFlushed(operation: number, result: number): void {
    if (result < 0) this.#io.noteFailedFlush(result);
    if (this.#conditions.flushed(operation)) return;
    if (!this.#flushes.ended(operation)) return;
    const claim = this.#pendingClaim;
    if (claim?.stage === "flush") {
      if (result < 0) this.#failClaim("io-error", `The disk could not be flushed (${result})`);
      else {
        this.#leg.isStable = this.#leg.isSound;
        this.#leg.promisedGeneration = claim.claim.generation;
        this.#leg.promisedTo = claim.claim.clientUuid;
        claim.stage = "record";
        this.#metadata.writeRecord(claim.purpose);
      }
    } else if (this.#detach?.stage === "flush") {
      if (result < 0) this.#endDetach(result);
      else {
        this.#detach.stage = "pages";
        this.advance();
      }
    } else if (result === 0 && this.#leg.session === null && this.#leg.isSound && !this.#leg.isStable) {
      this.#leg.isStable = true;
      this.#metadata.writeRecord(PURPOSE_NOBODY_WAITS);
    }
  }

  /** Records on their way to the disk for clients that wait for them. */
  get pendingEpochCount(): number {
    return this.#pendingEpochs.length;
  }

  /** Goes on with what waits for operations or metadata to end. Called after every input. */
  advance(): void {
    const leg = this.#leg;
    if (this.#pendingClaim?.stage === "drain") this.#advanceClaim();
    this.#conditions.advance();
    if (this.#pendingEpochs.length > 0) this.#confirmEpochs();
    const detach = this.#detach;
    if (detach?.stage === "pages" && !this.#metadata.savePages()) {
      this.#io.forgetIntents(Infinity, Infinity, false);
      detach.stage = "intents";
      this.#metadata.writeIntents(true);
    }
    if (detach?.stage === "intents") {
      if (leg.intents.isSaved) this.#endDetach(0);
      else this.#metadata.writeIntents(true);
    }
    if (this.#flushAfterLoss && this.#pendingClaim === null && leg.clientOperations === 0) {
      this.#flushAfterLoss = false;
      this.#flushes.begin();
    }
  }

  /** A connection is gone. */
  handleClosed(connection: number): void {
    const leg = this.#leg;
    leg.peers.delete(connection);
    if (this.#pendingClaim?.connection === connection) {
      // It has ended the session before it, and what that wrote is not flushed yet.
      if (this.#pendingClaim.stage !== "record") this.#flushAfterLoss = true;
      this.#pendingClaim = null;
    }
    const { session } = leg;
    if (session === null || session.connection !== connection || session.lostMs >= 0) return;
    if (session.returnMs > 0 && session.isMember && this.#detach === null) session.lostMs = leg.nowMs;
    else this.#sessionLost(session);
  }

  /** What the client has sent since relies on a record that has been taken back. */
  #takenBack(): void {
    const { session } = this.#leg;
    if (session !== null) this.#sessionLost(session);
  }

  #sessionLost({ clientName }: Session): void {
    this.#leg.event("info", "session-lost", `The session of ${clientName} is gone`);
    this.#endSession();
    // What it acked becomes stable soon, so that less depends on this leg's staying up.
    this.#flushAfterLoss = true;
  }

  /**
   * Client: RETURN. The client goes on here with what it has begun on another connection, of which nothing more is taken: what has arrived on
   * that has arrived whole, and is done as if nothing had happened; what has not will be sent again. What is under way is answered here.
   * Not once the disk has failed something: that the client must know, and may not.
   * Nothing that is told to others depends on which connection it is, and the record and the session are what they were.
   */
  handleReturn(connection: number, requestId: number, { generation, clientUuid, epoch }: Return): void {
    const leg = this.#leg;
    const { session, record } = leg;
    const isSame = session !== null && session.clientUuid === clientUuid && session.generation === generation &&
      session.isMember && record.generation === generation && record.epoch === epoch;
    // Reads of before are under way still: with those that come again there may be no room for what the client was granted.
    const hasRoom = leg.operations.freeCount >= leg.creditRequests;
    const isQuiet = this.#pendingClaim === null && this.#detach === null && this.#pendingEpochs.length === 0 && hasRoom;
    if (!isSame || !isQuiet || session.returnMs === 0 || session.hasFailed) {
      const text = session?.hasFailed ? "The disk has failed a request of the session" : "The session is over";
      return leg.refuse(connection, requestId, "not-in-sync", `${text} that the client returns to`);
    }
    const former = session.connection;
    if (former !== connection && session.lostMs < 0) {
      leg.peers.delete(former);
      leg.close(former);
    }
    session.connection = connection;
    session.lostMs = -1;
    session.lastHeardMs = leg.nowMs;
    leg.askedFlushAt = -1;
    const underWay = this.#io.moveOperations(former, connection);
    leg.send(connection, MessageType.RETURNED, requestId).body = { underWay };
    leg.event("info", "session-moved", `${session.clientName} is back by another path`);
  }

  /** Time passes: the connection of a client that has been silent too long is lost, and a client that does not return is gone. */
  tick(): void {
    const session = this.#leg.session;
    const limitMs = this.#leg.options.sessionSilenceMs ?? SESSION_SILENCE_MS;
    if (session !== null && session.lostMs >= 0) {
      if (this.#leg.nowMs - session.lostMs > session.returnMs) this.#sessionLost(session);
    } else if (session !== null && this.#leg.nowMs - session.lastHeardMs > limitMs) {
      const { connection } = session;
      this.#leg.event("warning", "session-silent", `${session.clientName} has been silent for ${limitMs} ms`);
      // It may live, take longer than that to notice, and be back by another path.
      this.handleClosed(connection);
      this.#leg.close(connection);
    }
  }

  /** Whether `connection` belongs to the session in force. */
  #holdsSession(connection: number): boolean {
    return this.#leg.session !== null && this.#leg.session.connection === connection;
  }

  #advanceClaim(): void {
    const claim = this.#pendingClaim;
    if (claim === null || this.#leg.clientOperations > 0 || this.#target.busyCount > 0) return;
    claim.stage = "flush";
    this.#flushes.begin();
  }

  #grant(): void {
    const leg = this.#leg;
    const claim = this.#pendingClaim as PendingClaim;
    this.#pendingClaim = null;
    this.#flushAfterLoss = false;
    this.#owesPages = false;
    leg.sessionCount++;
    leg.hasDetached = false;
    leg.session = {
      ...claimantOf(claim.claim),
      connection: claim.connection,
      returnMs: leg.peers.get(claim.connection)?.canReturn ? claim.claim.returnMs ?? 0 : 0,
      lostMs: -1,
      generation: claim.claim.generation,
      clientUuid: claim.claim.clientUuid,
      clientName: claim.claim.clientName,
      lastHeardMs: leg.nowMs,
      isMember: false,
      hasFailed: false,
    };
    // Sequence 1 stands for all that was before: the client's watermark reaches it when the legs are equal again.
    leg.receivedSequence = 1;
    leg.pulledSequence = 1;
    leg.watermark = 0;
    leg.flushBarrier = 0;
    leg.failedBarrier = 0;
    leg.askedFlushAt = -1;
    leg.joins.fill(0);
    leg.unflushed.reset();
    leg.intents.restartSequences(1);
    leg.send(claim.connection, MessageType.GRANT, claim.requestId).body = {
      generation: claim.claim.generation,
      record: this.#recordBody(),
      intents: leg.suspectedExtents(),
      intentsLost: leg.intentsLost,
      unbroken: leg.isWhole,
      flushFailed: leg.hasFailedFlush ? true : undefined,
      bootId: leg.options.bootId === "" ? undefined : leg.options.bootId,
    };
  }

  #failClaim(code: string, text: string): void {
    const claim = this.#pendingClaim as PendingClaim;
    this.#pendingClaim = null;
    this.#leg.refuse(claim.connection, claim.requestId, code, text);
  }

  #endSession(): void {
    const leg = this.#leg;
    if (leg.session === null && this.#pendingEpochs.length === 0) {
      this.#io.discardWaiting();
      return;
    }
    leg.session = null;
    this.#detach = null;
    this.#pendingEpochs.length = 0;
    this.#target.abort("the session ended");
    // What is thrown away now, peers must not pull around: from here on this leg is no source.
    leg.joins.fill(0);
    this.#io.discardWaiting();
  }

  #endDetach(result: number): void {
    const detach = this.#detach;
    if (detach === null) return;
    this.#detach = null;
    this.#leg.session = null;
    this.#leg.hasDetached = result === 0;
    // What a client sends after DETACH and that still waits has nobody left to wait for it.
    this.#io.discardWaiting();
    this.#leg.send(detach.connection, MessageType.ACK, detach.requestId, result);
  }

  #recordBody() {
    const leg = this.#leg;
    return { shared: leg.record, promisedGeneration: leg.promisedGeneration, promisedTo: leg.promisedTo };
  }
}

/** Types of frames that belong to a session rather than to data. */
export function isSessionMessage(message: Message): boolean {
  return message.type === MessageType.CLAIM || message.type === MessageType.EPOCH ||
    message.type === MessageType.DETACH;
}
