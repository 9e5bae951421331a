/**
 * The target side of resync: a leg that pulls what it lacks from its peers.
 *
 * The algorithm. The client admits this leg at a position of its write stream (JOIN at the others, RESYNC here); from there on
 * this leg gets every write. `todo` is the set of chunks it must not trust. It begins as *everything* and becomes the
 * dirty map that a source tells, less what the client has overwritten meanwhile. Runs of `todo` are pulled; a run is written only
 * if all its chunks are still in `todo` when the data arrives, and leaves `todo` when the write has ended. The client's own
 * writes take chunks out of `todo` when they cover them fully; while a chunk is being written by resync, or is covered only partly,
 * or is read, the client's operation waits (and the chunk is pulled first).
 *
 * What has left `todo` is `cleaned`; after a flush it is told to every source (CLEAR), batch by batch, so that a crash
 * repeats little. At the end the maps of all other absent legs are fetched and saved too, for this leg may be the last survivor
 * next time; then it reports done, under the epoch it has seen. It stays active until an epoch record has it in the in-sync set.
 *
 * Mode "reconcile" (after an unclean end) compares hashes first and pulls only chunks that differ; no client I/O runs then.
 *
 * The parts: resync_job.ts (state), resync_map.ts, resync_pull.ts, resync_clear.ts, resync_report.ts. This file has the order of things.
 *
 * @module
 */

import type { Refusal, ResyncOrder, Welcome } from "../wire/bodies.ts";
import { type Message, MessageType } from "../wire/message.ts";
import { checkAnswer } from "../wire/negotiate.ts";
import type { LegContext } from "./leg_context.ts";
import { type LegMetadata, PURPOSE_NOBODY_WAITS } from "./leg_metadata.ts";
import { pathsOf } from "./leg_addresses.ts";
import { OperationKind } from "./operation_table.ts";
import { OutputKind } from "./output.ts";
import { ResyncClear } from "./resync_clear.ts";
import { ResyncJob } from "./resync_job.ts";
import { ResyncMap } from "./resync_map.ts";
import { ResyncPull } from "./resync_pull.ts";
import { reportOf, snapshotOf } from "./resync_report.ts";
import { ResyncStall } from "./resync_stall.ts";
import type { ResyncSnapshot } from "./snapshot.ts";

/** How often the client is told. */
const REPORT_MS = 250;
/** How often a resync looks after itself. */
const TICK_MS = 100;

/** The operations of the client that wait for chunks: asked of the I/O path. */
export interface AwaitedChunks {
  readonly awaitedCount: number;
  forEachAwaited(call: (offset: number, lengthBytes: number) => void): void;
}

/** The target side of one leg. */
export class ResyncTarget {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #job: ResyncJob;
  readonly #map: ResyncMap;
  readonly #pull: ResyncPull;
  readonly #clear: ResyncClear;
  readonly #stall: ResyncStall;
  #clientConnection = -1;
  /** Whether the record on the disk may be of another history than what this leg is made equal to. */
  #isForeign = false;
  #lastReportMs = 0;
  #nextTickMs = 0;

  constructor(leg: LegContext, metadata: LegMetadata) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#job = new ResyncJob(leg);
    this.#map = new ResyncMap(this.#job);
    this.#pull = new ResyncPull(this.#job);
    this.#clear = new ResyncClear(this.#job);
    this.#stall = new ResyncStall(this.#job);
  }

  /** Whether a resync is under way (or done and not yet confirmed by an epoch). */
  get isActive(): boolean {
    return this.#job.isActive;
  }

  /** Resync operations on the disk. A claim waits for them. */
  get busyCount(): number {
    return this.#job.busyOperations;
  }

  /** RESYNC from the client. */
  start(connection: number, order: ResyncOrder): void {
    const leg = this.#leg;
    const job = this.#job;
    this.abort("a new order arrived");
    this.#clientConnection = connection;
    job.sources = order.sources.filter((index) => index !== leg.legIndex && order.shared.legs[index] !== null);
    job.session = order.resyncSession;
    if (job.sources.length === 0) {
      job.message = "No source to pull from";
      this.#report("failed");
      return;
    }
    job.begin(order);
    this.#map.reset();
    this.#pull.begin();
    this.#clear.reset();
    this.#nextTickMs = leg.nowMs;
    leg.adoptIncarnations(order.shared, true);
    for (const index of job.sources) {
      job.links.want(
        index,
        pathsOf(order.shared.legs[index]?.address ?? "", order.addresses?.[index] ?? [], leg.reach),
      );
    }
    if (order.mode === "reconcile") {
      leg.ownSuspects.addAll(job.todo);
      leg.ownSuspects.beginCheckpoint();
      this.#enterPull();
      return;
    }
    // A leg of another history may be in sync by its own record: nothing of this one is written to it before that is over on the disk too.
    this.#isForeign ||= leg.record.historyId !== order.shared.historyId;
    // The record in force does not have us in the in-sync set: from now on we know it ourselves.
    leg.record = order.shared;
    // Writes follow that are not flushed: after a loss of power it must not say that it has all it ever acked.
    leg.isStable = false;
    this.#metadata.writeRecord(PURPOSE_NOBODY_WAITS);
    job.phase = this.#isForeign ? "record" : "map";
  }

  /** Ends whatever is under way. Disk I/O in flight ends by itself. */
  abort(reason: string): void {
    const job = this.#job;
    if (job.phase === "off") return;
    if (job.phase !== "done") this.#leg.event("info", "resync-stopped", `The resync stops: ${reason}`);
    this.last = this.snapshot();
    job.end();
    this.#clear.reset();
    this.#map.reset();
    job.links.closeAll((connection) => {
      this.#leg.peers.delete(connection);
      this.#leg.close(connection);
    });
  }

  /** How the resync before ended; null before the first one. */
  last: ResyncSnapshot | null = null;

  /** Pauses, resumes, limits. */
  setResync(paused: boolean | undefined, limitBytesPerSecond: number | undefined): void {
    if (paused !== undefined) this.#job.isPaused = paused;
    if (limitBytesPerSecond !== undefined) this.#job.throttle.limitBytesPerSecond = limitBytesPerSecond;
  }

  /**
   * Whether a client's operation must wait for chunks. A write that need not wait takes the chunks it covers fully out of `todo`: call
   * it exactly when the operation is submitted if the answer is no.
   */
  mustWait(operation: number): boolean {
    const job = this.#job;
    const isWriting = job.writing.count > 0;
    if (!isWriting && (job.phase === "off" || job.phase === "done")) return false;
    const leg = this.#leg;
    const operations = leg.operations;
    const offset = operations.offset[operation];
    const lengthBytes = operations.lengthBytes[operation];
    const first = leg.chunkOf(offset);
    const count = leg.chunksOf(offset, lengthBytes);
    const isRead = operations.kind[operation] === OperationKind.READ;
    if (isWriting && !isRead && job.writing.any(first, count)) return true;
    if (job.phase === "off" || job.phase === "done") return false;
    if (job.phase === "record") return true;
    if (isRead) return job.todo.any(first, count);
    if (!job.todo.any(first, count)) return false;
    const fullFirst = Math.ceil(offset / leg.chunkBytes);
    const fullEnd = job.fullEnd(offset, lengthBytes);
    if (fullFirst > first && job.todo.test(first)) return true;
    if (fullEnd < first + count && job.todo.test(first + count - 1)) return true;
    const overwritten = job.todo.clear(fullFirst, Math.max(0, fullEnd - fullFirst));
    job.progress.skipped += overwritten * leg.chunkBytes;
    return false;
  }

  /** A client's write has ended on this leg's disk. */
  writeDone(offset: number, lengthBytes: number, result: number): void {
    const job = this.#job;
    if (job.phase === "off" || result < 0 || job.mode !== "dirty") return;
    const first = Math.ceil(offset / this.#leg.chunkBytes);
    const end = job.fullEnd(offset, lengthBytes);
    if (end > first && job.tracked.any(first, end - first)) job.markCleaned(first, end - first);
  }

  /** Output CONNECT has succeeded. */
  handleConnected(legIndex: number, connection: number): void {
    const leg = this.#leg;
    if (!this.isActive || !this.#job.links.connected(legIndex, connection, leg.nowMs)) {
      leg.close(connection);
      return;
    }
    leg.peers.set(connection, { role: "peer", legIndex, canReturn: false });
    leg.send(connection, MessageType.HELLO, 0).body = {
      protocol: leg.dialect.newestProtocol,
      features: leg.dialect.features,
      role: "peer",
      poolUuid: leg.superblock.poolUuid,
      legIndex,
      senderUuid: leg.superblock.legUuid,
      senderLegIndex: leg.legIndex,
    };
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(legIndex: number): void {
    const { links } = this.#job;
    links.connectFailed(legIndex, this.#leg.nowMs);
    if (!links.isUp(legIndex)) this.#leaveSource(legIndex);
  }

  /** A connection of ours to a peer is gone. */
  handleClosed(connection: number): void {
    const legIndex = this.#job.links.indexOf(connection);
    if (legIndex < 0) return;
    this.#job.links.lost(legIndex, this.#leg.nowMs);
    if (!this.isActive) return;
    this.#sourceGone(legIndex);
  }

  /** A frame from a peer that we connected to. True when it was ours; then `slot` is taken over. */
  handleMessage(connection: number, message: Message, slot: number, body: unknown): boolean {
    const job = this.#job;
    const legIndex = job.links.indexOf(connection);
    if (legIndex >= 0) job.links.heard(legIndex, this.#leg.nowMs);
    if (legIndex < 0 || !this.isActive) return false;
    if (message.type === MessageType.PULL_DATA) {
      this.#pull.handleData(message, slot);
      return true;
    }
    switch (message.type) {
      case MessageType.WELCOME:
        this.#handleWelcome(legIndex, connection, body as Welcome);
        break;
      case MessageType.REFUSE:
        this.#giveUpLink(legIndex, connection, (body as Refusal).message);
        break;
      case MessageType.MAP_PART:
        this.#mapPart(message, body as Uint32Array | null);
        break;
      case MessageType.HASH_DATA:
        this.#pull.handleHashes(message, body as Uint32Array | null);
        break;
      case MessageType.ACK:
        if (this.#clear.handleAck(legIndex)) this.#cleared();
        break;
      default:
        return false;
    }
    this.#leg.freeSlot(slot);
    return true;
  }

  /** Disk I/O of one of our operations has ended. */
  diskDone(operation: number, result: number, slot: number): void {
    const job = this.#job;
    job.busyOperations--;
    const kind = this.#leg.operations.kind[operation];
    if (kind === OperationKind.OWN_HASH) this.#pull.ownRead(operation, result, slot);
    else if (kind === OperationKind.RESYNC_WRITE) {
      if (!this.#pull.written(operation, result)) this.#fail(`Data could not be written (${result})`);
    } else {
      const isOurs = job.owns(operation) && this.#clear.isFlush(operation);
      this.#leg.operations.free(operation);
      if (!isOurs) return;
      if (result < 0) this.#fail(`The disk could not be flushed (${result})`);
      else if (this.#clear.flushed()) this.#cleared();
    }
  }

  /** The leg's record could not be written. */
  recordFailed(result: number): void {
    if (this.isActive && this.#job.phase !== "done") this.#fail(`The record could not be written (${result})`);
  }

  /** A dirty page could not be written that a checkpoint waits for: of another leg's map, or (`isOwn`) of what may differ here. */
  pageFailed(result: number, isOwn: boolean): void {
    const job = this.#job;
    const isWaiting = isOwn
      ? job.phase === "pull" && job.mode === "reconcile" && !this.#leg.ownSuspects.isCheckpointDone
      : job.phase === "save";
    if (isWaiting) this.#fail(`What legs may lack could not be recorded (${result})`);
  }

  /** Our own data is hashed. */
  hashed(operation: number, words: Uint32Array): void {
    this.#pull.ownHashed(operation, words);
  }

  /** An epoch record has been taken over. */
  handleEpoch(): void {
    const job = this.#job;
    if (!this.isActive) return;
    if (job.mode === "dirty" && this.#leg.isInSync) {
      this.abort("it is complete");
      return;
    }
    // Legs may have left since we fetched the others' maps: fetch them again, and report under the new epoch.
    if (job.phase === "maps" || job.phase === "save" || job.phase === "done") this.#enterMaps();
  }

  /** Starts what may be started. Called after every input. */
  pump(awaited: AwaitedChunks): void {
    const job = this.#job;
    if (job.phase === "off") return;
    this.#connect();
    if (job.phase === "record" && this.#metadata.isRecordSaved) {
      this.#isForeign = false;
      job.phase = "map";
    }
    if (job.phase === "map") {
      if (this.#map.canAsk) this.#map.askOwn();
    } else if (job.phase === "pull") {
      if (job.mode === "reconcile" && !this.#leg.ownSuspects.isCheckpointDone) {
        // Before anything is overwritten, that it may differ is on disk.
        this.#metadata.savePages();
        return;
      }
      if (awaited.awaitedCount > 0) {
        awaited.forEachAwaited((offset, lengthBytes) => this.#pull.pullUrgent(offset, lengthBytes));
      }
      // Nothing is served meanwhile: the client is to choose another source rather than wait until this one can be read.
      if (job.mode === "reconcile" && job.unreadableLeg >= 0) return this.#fail(job.message);
      this.#pull.pullMore();
      this.#clear.maybeStart(false);
      if (job.isComplete) {
        // Reconciled data must be stable before it is served; after a resync the last flush follows the saved maps.
        if (job.mode === "reconcile") this.#clear.maybeStart(true);
        else this.#enterMaps();
      }
    } else if (job.phase === "maps") {
      if (this.#map.canAsk && !this.#map.askNext()) {
        job.phase = "save";
        for (const map of this.#leg.maps) map?.beginCheckpoint();
      }
    }
    if (job.phase === "save") {
      this.#metadata.savePages();
      const isSaved = this.#leg.maps.every((map) => map === null || map.isCheckpointDone);
      // What it acks from when it joins may be lost with its cache: that must be on its disk before anyone counts on it.
      if (isSaved && job.hasWhatWasPulled && this.#metadata.isRecordSaved) this.#clear.maybeStart(true);
    }
  }

  /** Time passes. */
  tick(): void {
    const leg = this.#leg;
    const job = this.#job;
    if (job.phase === "off") return;
    this.#nextTickMs = leg.nowMs + TICK_MS;
    this.#watchPeers();
    const own = {
      bytes: leg.counters.writtenBytes + leg.counters.readBytes,
      serviceUs: leg.serviceTime.meanUs(leg.nowMs),
    };
    job.throttle.observe(leg.nowMs, own, { bytes: job.sourceForegroundBytes, serviceUs: job.sourceServiceUs });
    job.progress.tick(leg.nowMs);
    const stall = this.#stall.tick();
    // The client is to do without whoever it is that does not answer.
    if (stall !== null && job.mode === "reconcile") return this.#fail(stall.text);
    const isRetryDue = job.phase === "pull" && this.#pull.isRetryDue;
    if (isRetryDue) job.failed.clearAll();
    if (isRetryDue || stall?.isOfSource) this.#leaveSource(job.source);
    if (leg.nowMs - this.#lastReportMs >= REPORT_MS && job.phase !== "done") {
      this.#report(job.isPaused ? "paused" : "running");
    }
  }

  /** A connection between legs may fall silent without closing; what was asked over it would never be answered. */
  #watchPeers(): void {
    const leg = this.#leg;
    this.#job.links.watch(
      leg.nowMs,
      (connection) => leg.send(connection, MessageType.PING, 0),
      (connection) => {
        leg.close(connection);
        leg.peers.delete(connection);
        this.handleClosed(connection);
      },
    );
  }

  /** When `tick` or `pump` wants to be called next. */
  get nextDeadlineMs(): number {
    const job = this.#job;
    if (job.phase === "off") return Infinity;
    const now = this.#leg.nowMs;
    let next = this.#nextTickMs;
    if (job.phase === "pull" && !job.isPaused && job.throttle.rate(now) !== Infinity) {
      next = Math.min(next, now + job.throttle.waitMs(now));
    }
    if (job.waitUntilMs > now) next = Math.min(next, job.waitUntilMs);
    return next;
  }

  /** For status. */
  snapshot(): ResyncSnapshot | null {
    return snapshotOf(this.#job);
  }

  #connect(): void {
    const leg = this.#leg;
    const job = this.#job;
    for (const index of job.sources) {
      if (!job.links.mayConnect(index, leg.nowMs)) continue;
      const output = leg.outputs.push(OutputKind.CONNECT);
      output.legIndex = index;
      output.address = job.links.connecting(index, leg.nowMs);
    }
    if (job.links.isUp(job.source)) return;
    const up = job.sources.find((index) => job.links.isUp(index));
    if (up !== undefined) job.source = up;
  }

  /** The source `legIndex` is no good now: what was asked of it is asked of another, if one is up. */
  #leaveSource(legIndex: number): void {
    const job = this.#job;
    if (!this.isActive || legIndex !== job.source) return;
    this.#pull.giveUpAsked();
    this.#map.reset();
    job.nextSource();
  }

  #handleWelcome(legIndex: number, connection: number, welcome: Welcome): void {
    const agreement = checkAnswer(this.#leg.dialect, welcome);
    if (agreement.ok) this.#job.links.greeted(legIndex);
    else this.#giveUpLink(legIndex, connection, agreement.message);
  }

  /** Nothing is to be had from this leg over this connection. It is tried again later. */
  #giveUpLink(legIndex: number, connection: number, reason: string): void {
    this.#job.message = `Leg ${legIndex} is no source: ${reason}`;
    this.#job.links.lost(legIndex, this.#leg.nowMs);
    this.#leg.peers.delete(connection);
    this.#leg.close(connection);
    this.#sourceGone(legIndex);
  }

  /** Nothing more comes from this source: neither what it was asked for nor its word that it has cleared. */
  #sourceGone(legIndex: number): void {
    if (this.#clear.sourceLost(legIndex)) this.#cleared();
    this.#leaveSource(legIndex);
  }

  #mapPart(message: Message, runs: Uint32Array | null): void {
    const job = this.#job;
    const progress = this.#map.handlePart(message, runs);
    if (progress === "more") return;
    if (progress === "bad") this.#leaveSource(job.source);
    else if (job.phase === "map") {
      job.todo.keepOnly(progress.chunks);
      job.tracked.keepOnly(progress.chunks);
      job.cleaned.keepOnly(progress.chunks);
      this.#enterPull();
    } else this.#leg.maps[progress.legIndex]?.addAll(progress.chunks);
  }

  #enterPull(): void {
    const job = this.#job;
    job.phase = "pull";
    job.progress.total = job.missingBytes;
    job.progress.skipped = 0;
    this.#report("running");
  }

  #enterMaps(): void {
    this.#job.phase = "maps";
    this.#map.reset();
    this.#clear.expectMore();
  }

  /** A batch of clears is over. */
  #cleared(): void {
    const job = this.#job;
    if (!this.#clear.isLast || job.todo.count > 0 || job.cleaned.count > 0) return;
    job.phase = "done";
    this.#report("done");
    if (job.mode === "reconcile") this.abort("it is complete");
  }

  #fail(message: string): void {
    this.#job.message = message;
    this.#report("failed");
    this.abort(message);
  }

  #report(state: "running" | "paused" | "done" | "failed"): void {
    const leg = this.#leg;
    this.#lastReportMs = leg.nowMs;
    if (this.#clientConnection < 0 || leg.session?.connection !== this.#clientConnection) return;
    leg.send(this.#clientConnection, MessageType.RESYNC_REPORT, 0).body = reportOf(this.#job, state);
  }
}
