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
 * @module
 */

import { SparseBitmap } from "../base/sparse_bitmap.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import type { ResyncOrder } from "../wire/bodies.ts";
import { type Message, MessageType, PROTOCOL_VERSION } from "../wire/message.ts";
import type { LegContext } from "./leg_context.ts";
import type { LegMetadata } from "./leg_metadata.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";
import { PeerLinks } from "./peer_links.ts";
import { PullState, PullTable } from "./pull_table.ts";
import { ResyncProgress } from "./resync_progress.ts";
import { ResyncThrottle } from "./resync_throttle.ts";
import type { ResyncSnapshot } from "./snapshot.ts";

const EAGAIN = -11;
/** How long to leave a source alone that said "not yet". */
const AGAIN_MS = 5;
/** How often the client is told. */
const REPORT_MS = 250;
/** Cleaned chunks are flushed and cleared at the sources after this time or amount. */
const CLEAR_INTERVAL_MS = 1000;
const CLEAR_BYTES = 64 * 1024 * 1024;
/** Runs in one CLEAR frame. */
const RUNS_PER_CLEAR = 8192;
/** First pause before chunks that no source could read are tried again; doubles up to the second. */
const RETRY_FAILED_MS = 1000;
const RETRY_FAILED_MOST_MS = 30_000;

/** Purpose of a record write that nobody waits for. */
const PURPOSE_NOBODY_WAITS = -1;

/** Where a resync stands. */
type Phase = "off" | "map" | "pull" | "maps" | "save" | "done";

/** The operations of the client that wait for chunks: asked of the I/O path. */
export interface AwaitedChunks {
  readonly awaitedCount: number;
  forEachAwaited(call: (offset: number, lengthBytes: number) => void): void;
}

/** The target side of one leg. */
export class ResyncTarget {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #links: PeerLinks;
  readonly #pulls: PullTable;
  readonly #throttle: ResyncThrottle;
  #progress: ResyncProgress;
  #phase: Phase = "off";
  #mode: "dirty" | "reconcile" = "dirty";
  #session = 0;
  /** Number of the order under way: one session may be ordered anew while disk I/O of the former order is in flight. */
  #run = 0;
  #clientConnection = -1;
  #sources: number[] = [];
  #source = -1;
  #paused = false;
  #todo: SparseBitmap;
  /** Chunks of the map not yet handed to `cleaned`. */
  #tracked: SparseBitmap;
  #busy: SparseBitmap;
  /** Pulled chunks being written, also those of an order that is over: until they have landed nothing newer may be written. */
  #writing: SparseBitmap;
  #cleaned: SparseBitmap;
  /** Being flushed or cleared now. */
  #clearing: SparseBitmap;
  /** To be pulled one chunk at a time, after an error in a longer run. */
  #singles: SparseBitmap;
  /** No source could read them. */
  #failed: SparseBitmap;
  /** Reconcile: compared and found different. */
  #differing: SparseBitmap;
  #fetched: SparseBitmap | null = null;
  #mapRequest = 0;
  #mapLeg = -1;
  #cursor = 0;
  #flushOperation = -1;
  #clearsOutstanding = 0;
  #lastClearMs = 0;
  #lastReportMs = 0;
  #pausedUntilMs = 0;
  #retryFailedMs = RETRY_FAILED_MS;
  #retryFailedAtMs = 0;
  #busyOperations = 0;
  #message = "";

  constructor(leg: LegContext, metadata: LegMetadata) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#links = new PeerLinks();
    this.#pulls = new PullTable(leg.options.pullsInFlight ?? 64);
    this.#throttle = new ResyncThrottle(leg.nowMs);
    this.#progress = new ResyncProgress(leg.nowMs);
    const empty = new SparseBitmap(leg.chunkCount);
    this.#todo =
      this.#tracked =
      this.#busy =
      this.#cleaned =
        empty;
    this.#writing = new SparseBitmap(leg.chunkCount);
    this.#clearing =
      this.#singles =
      this.#failed =
      this.#differing =
        empty;
  }

  /** Whether a resync is under way (or done and not yet confirmed by an epoch). */
  get isActive(): boolean {
    return this.#phase !== "off";
  }

  /** Resync operations on the disk. A claim waits for them. */
  get busyCount(): number {
    return this.#busyOperations;
  }

  /** RESYNC from the client. */
  start(connection: number, order: ResyncOrder): void {
    const leg = this.#leg;
    this.abort("a new order arrived");
    this.#clientConnection = connection;
    this.#session = order.resyncSession;
    this.#run++;
    this.#mode = order.mode;
    this.#sources = order.sources.filter((index) => index !== leg.legIndex && order.shared.legs[index] !== null);
    if (this.#sources.length === 0) {
      this.#message = "No source to pull from";
      this.#report("failed");
      return;
    }
    this.#source = this.#sources[0];
    const isReconcile = order.mode === "reconcile";
    this.#todo = new SparseBitmap(leg.chunkCount, !isReconcile);
    this.#tracked = new SparseBitmap(leg.chunkCount, !isReconcile);
    this.#busy = new SparseBitmap(leg.chunkCount);
    this.#cleaned = new SparseBitmap(leg.chunkCount);
    this.#clearing = new SparseBitmap(leg.chunkCount);
    this.#singles = new SparseBitmap(leg.chunkCount);
    this.#failed = new SparseBitmap(leg.chunkCount);
    this.#differing = new SparseBitmap(leg.chunkCount);
    this.#fetched = null;
    this.#mapRequest = 0;
    this.#mapLeg = -1;
    this.#pausedUntilMs = 0;
    this.#cursor = 0;
    this.#message = "";
    this.#lastClearMs = leg.nowMs;
    this.#retryFailedMs = RETRY_FAILED_MS;
    this.#progress = new ResyncProgress(leg.nowMs);
    leg.adoptIncarnations(order.shared);
    if (!isReconcile) {
      // The record in force does not have us in the in-sync set: from now on we know it ourselves.
      leg.record = order.shared;
      this.#metadata.writeRecord(PURPOSE_NOBODY_WAITS);
    }
    for (const index of this.#sources) this.#links.want(index, order.shared.legs[index]?.address ?? "");
    if (isReconcile) {
      for (const extent of order.extents) {
        const first = Math.floor(extent * leg.chunksPerExtent);
        if (first < leg.chunkCount) {
          this.#todo.set(first, Math.max(1, Math.min(leg.chunksPerExtent, leg.chunkCount - first)));
        }
      }
      this.#enterPull();
    } else this.#phase = "map";
  }

  /** Ends whatever is under way. Disk I/O in flight ends by itself. */
  abort(reason: string): void {
    if (this.#phase === "off") return;
    if (this.#phase !== "done") this.#leg.event("info", "resync-stopped", `The resync stops: ${reason}`);
    this.#phase = "off";
    this.#pulls.clear();
    this.#flushOperation = -1;
    this.#clearsOutstanding = 0;
    this.#fetched = null;
    this.#links.closeAll((connection) => {
      this.#leg.peers.delete(connection);
      this.#leg.close(connection);
    });
  }

  /** Pauses, resumes, limits. */
  setResync(paused: boolean | undefined, limitBytesPerSecond: number | undefined): void {
    if (paused !== undefined) this.#paused = paused;
    if (limitBytesPerSecond !== undefined) this.#throttle.limitBytesPerSecond = limitBytesPerSecond;
  }

  /**
   * Whether a client's operation must wait for chunks. A write that need not wait takes the chunks it covers fully out of `todo`: call
   * it exactly when the operation is submitted if the answer is no.
   */
  mustWait(operation: number): boolean {
    const leg = this.#leg;
    const operations = leg.operations;
    const offset = operations.offset[operation];
    const lengthBytes = operations.lengthBytes[operation];
    const first = leg.chunkOf(offset);
    const count = leg.chunksOf(offset, lengthBytes);
    const isRead = operations.kind[operation] === OperationKind.READ;
    if (!isRead && this.#writing.any(first, count)) return true;
    if (this.#phase === "off" || this.#phase === "done") return false;
    if (isRead) return this.#todo.any(first, count);
    if (!this.#todo.any(first, count)) return false;
    const fullFirst = Math.ceil(offset / leg.chunkBytes);
    const fullEnd = this.#fullEnd(offset, lengthBytes);
    if (fullFirst > first && this.#todo.test(first)) return true;
    if (fullEnd < first + count && this.#todo.test(first + count - 1)) return true;
    const overwritten = this.#todo.clear(fullFirst, Math.max(0, fullEnd - fullFirst));
    this.#progress.skipped += overwritten * leg.chunkBytes;
    return false;
  }

  /** A client's write has ended on this leg's disk. */
  writeDone(offset: number, lengthBytes: number, result: number): void {
    if (this.#phase === "off" || result < 0 || this.#mode !== "dirty") return;
    const first = Math.ceil(offset / this.#leg.chunkBytes);
    const end = this.#fullEnd(offset, lengthBytes);
    if (end > first && this.#tracked.any(first, end - first)) this.#markCleaned(first, end - first);
  }

  /** Output CONNECT has succeeded. */
  handleConnected(legIndex: number, connection: number): void {
    const leg = this.#leg;
    if (!this.isActive || !this.#links.connected(legIndex, connection)) {
      leg.close(connection);
      return;
    }
    leg.peers.set(connection, { role: "peer", legIndex });
    leg.send(connection, MessageType.HELLO, 0).body = {
      protocol: PROTOCOL_VERSION,
      features: 0,
      role: "peer",
      poolUuid: leg.superblock.poolUuid,
      legIndex,
      senderUuid: leg.superblock.legUuid,
      senderLegIndex: leg.legIndex,
    };
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(legIndex: number): void {
    this.#links.lost(legIndex, this.#leg.nowMs);
    this.#rotateSource(legIndex);
  }

  /** A connection of ours to a peer is gone. */
  handleClosed(connection: number): void {
    const legIndex = this.#links.indexOf(connection);
    if (legIndex < 0) return;
    this.#links.lost(legIndex, this.#leg.nowMs);
    if (!this.isActive) return;
    if (this.#clearsOutstanding > 0) this.#endClear();
    this.#rotateSource(legIndex);
  }

  /** A frame from a peer that we connected to. True when it was ours. */
  handleMessage(connection: number, message: Message, slot: number, body: unknown): boolean {
    const legIndex = this.#links.indexOf(connection);
    if (legIndex < 0 || !this.isActive) return false;
    switch (message.type) {
      case MessageType.WELCOME:
        this.#links.greeted(legIndex);
        break;
      case MessageType.REFUSE:
        this.#message = `Leg ${legIndex} refuses: ${(body as { message: string }).message}`;
        this.#links.lost(legIndex, this.#leg.nowMs);
        this.#leg.peers.delete(connection);
        this.#leg.close(connection);
        this.#rotateSource(legIndex);
        break;
      case MessageType.MAP_PART:
        this.#mapPart(message, body as Uint32Array);
        break;
      case MessageType.PULL_DATA:
        this.#pullData(message, slot);
        return true;
      case MessageType.HASH_DATA:
        this.#peerHashed(message, body as Uint32Array);
        break;
      case MessageType.ACK:
        if (this.#clearsOutstanding > 0 && --this.#clearsOutstanding === 0) this.#endClear();
        break;
      default:
        return false;
    }
    return true;
  }

  /** Disk I/O of one of our operations has ended. */
  diskDone(operation: number, result: number, slot: number): void {
    const leg = this.#leg;
    const operations = leg.operations;
    const kind = operations.kind[operation];
    const isOurs = this.isActive && operations.session[operation] === this.#run;
    this.#busyOperations--;
    if (kind === OperationKind.RESYNC_FLUSH) {
      operations.free(operation);
      if (!isOurs || operation !== this.#flushOperation) return;
      this.#flushOperation = -1;
      if (result < 0) this.#fail(`The disk could not be flushed (${result})`);
      else this.#flushed();
      return;
    }
    if (kind === OperationKind.OWN_HASH) {
      if (result < 0 || !isOurs) {
        leg.freeSlot(slot);
        operations.slot[operation] = -1;
        const requestId = operations.requestId[operation];
        operations.free(operation);
        // Our own copy cannot be read: whatever it is, it differs.
        if (isOurs) this.#compared(requestId, null);
        return;
      }
      this.#busyOperations++;
      operations.slot[operation] = slot;
      operations.state[operation] = OperationState.HASHING;
      const output = leg.outputs.push(OutputKind.HASH);
      output.token = operation;
      output.slot = slot;
      output.lengthBytes = operations.lengthBytes[operation];
      return;
    }
    leg.freeSlot(operations.slot[operation]);
    operations.slot[operation] = -1;
    const pull = operations.extra[operation];
    const first = leg.chunkOf(operations.offset[operation]);
    const count = leg.chunksOf(operations.offset[operation], operations.lengthBytes[operation]);
    operations.free(operation);
    this.#writing.clear(first, count);
    if (!isOurs) return;
    this.#pulls.free(pull);
    this.#busy.clear(first, count);
    if (result < 0) {
      this.#fail(`Data could not be written (${result})`);
      return;
    }
    this.#todo.clear(first, count);
    this.#differing.clear(first, count);
    if (this.#mode === "dirty") this.#markCleaned(first, count);
  }

  /** Our own data is hashed. */
  hashed(operation: number, words: Uint32Array): void {
    const operations = this.#leg.operations;
    const isOurs = this.isActive && operations.session[operation] === this.#run;
    this.#busyOperations--;
    this.#leg.freeSlot(operations.slot[operation]);
    operations.slot[operation] = -1;
    const requestId = operations.requestId[operation];
    operations.free(operation);
    if (isOurs) this.#compared(requestId, words);
  }

  /** An epoch record has been taken over. */
  handleEpoch(_droppedMask: number): void {
    if (!this.isActive) return;
    if (this.#mode === "dirty" && this.#leg.isInSync) {
      this.abort("it is complete");
      return;
    }
    // Legs may have left since we fetched the others' maps: fetch them again, and report under the new epoch.
    if (this.#phase === "maps" || this.#phase === "save" || this.#phase === "done") this.#enterMaps();
  }

  /** Starts what may be started. Called after every input. */
  pump(awaited: AwaitedChunks): void {
    if (this.#phase === "off") return;
    this.#connect();
    if (this.#phase === "map" || this.#phase === "maps") this.#fetchMap();
    else if (this.#phase === "pull") {
      if (awaited.awaitedCount > 0) {
        awaited.forEachAwaited((offset, lengthBytes) => this.#pullUrgent(offset, lengthBytes));
      }
      this.#pullMore();
      this.#maybeClear(false);
      this.#maybeFinishPull();
    } else if (this.#phase === "save") {
      this.#metadata.savePages();
      if (this.#leg.maps.every((map) => map === null || map.isCheckpointDone)) this.#maybeClear(true);
    }
  }

  /** Time passes. */
  tick(): void {
    const leg = this.#leg;
    if (this.#phase === "off") return;
    this.#throttle.observe(leg.nowMs, leg.counters.writtenBytes + leg.counters.readBytes);
    this.#progress.tick(leg.nowMs);
    if (this.#failed.count > 0 && leg.nowMs >= this.#retryFailedAtMs && this.#phase === "pull") {
      this.#failed.clearAll();
      this.#rotateSource(this.#source);
    }
    if (leg.nowMs - this.#lastReportMs >= REPORT_MS && this.#phase !== "done") {
      this.#report(this.#paused ? "paused" : "running");
    }
  }

  /** When `tick` or `pump` wants to be called next. */
  get nextDeadlineMs(): number {
    if (this.#phase === "off") return Infinity;
    const now = this.#leg.nowMs;
    let next = now + 100;
    if (this.#phase === "pull" && !this.#paused && this.#throttle.rate(now) !== Infinity) {
      next = Math.min(next, now + this.#throttle.waitMs(now));
    }
    if (this.#pausedUntilMs > now) next = Math.min(next, this.#pausedUntilMs);
    return next;
  }

  /** For status. */
  snapshot(): ResyncSnapshot | null {
    if (this.#phase === "off") return null;
    const missingBytes = this.#missingBytes();
    const rate = this.#progress.rateBytesPerSecond;
    return {
      resyncSession: this.#session,
      mode: this.#mode,
      state: this.#phase === "done" ? "done" : this.#paused ? "paused" : "running",
      missingBytes,
      totalBytes: Math.max(this.#progress.total, missingBytes),
      copiedBytes: this.#progress.copied,
      skippedBytes: this.#progress.skipped,
      rateBytesPerSecond: rate,
      etaMs: rate > 0 ? Math.round(missingBytes * 1000 / rate) : null,
      sourceLegIndex: this.#source,
      limitBytesPerSecond: this.#throttle.limitBytesPerSecond,
      message: this.#message,
    };
  }

  #connect(): void {
    const leg = this.#leg;
    for (const index of this.#sources) {
      if (!this.#links.mayConnect(index, leg.nowMs)) continue;
      const output = leg.outputs.push(OutputKind.CONNECT);
      output.legIndex = index;
      output.address = this.#links.connecting(index);
    }
    if (this.#links.isUp(this.#source)) return;
    const up = this.#sources.find((index) => this.#links.isUp(index));
    if (up !== undefined) this.#source = up;
  }

  /** The source `legIndex` is no good now: what was asked of it is asked of another. */
  #rotateSource(legIndex: number): void {
    if (!this.isActive || legIndex !== this.#source) return;
    this.#pulls.forEachAsked((pull) => {
      this.#busy.clear(this.#pulls.firstChunk[pull], this.#pulls.chunkCount[pull]);
    });
    this.#pulls.clearAsked();
    this.#mapRequest = 0;
    this.#fetched = null;
    this.#mapLeg = -1;
    const at = this.#sources.indexOf(legIndex);
    for (let step = 1; step <= this.#sources.length; step++) {
      const next = this.#sources[(at + step) % this.#sources.length];
      if (this.#links.isUp(next)) {
        this.#source = next;
        break;
      }
    }
  }

  #fetchMap(): void {
    const leg = this.#leg;
    if (this.#mapRequest !== 0 || !this.#links.isUp(this.#source) || leg.nowMs < this.#pausedUntilMs) return;
    if (this.#phase === "map") this.#mapLeg = leg.legIndex;
    else {
      this.#mapLeg = this.#nextAbsentLeg(this.#mapLeg);
      if (this.#mapLeg < 0) {
        this.#phase = "save";
        for (const map of leg.maps) map?.beginCheckpoint();
        return;
      }
    }
    this.#fetched = new SparseBitmap(leg.chunkCount);
    this.#askMap(0);
  }

  #nextAbsentLeg(after: number): number {
    const leg = this.#leg;
    for (let index = after + 1; index < MAX_LEGS; index++) {
      if (leg.maps[index] !== null && (leg.record.inSyncMask & (1 << index)) === 0) return index;
    }
    return -1;
  }

  #askMap(fromChunk: number): void {
    this.#mapRequest = this.#pulls.nextRequestId();
    const output = this.#leg.send(this.#links.connectionOf(this.#source), MessageType.MAP_FETCH, this.#mapRequest);
    output.message.legIndex = this.#mapLeg;
    output.message.sequence = fromChunk;
    output.message.resyncSession = this.#session;
  }

  #mapPart(message: Message, runs: Uint32Array | null): void {
    const leg = this.#leg;
    if (message.requestId !== this.#mapRequest || this.#fetched === null) return;
    this.#mapRequest = 0;
    if (message.status !== 0) {
      if (message.status !== EAGAIN) this.#message = `Leg ${this.#source} does not tell its map (${message.status})`;
      this.#pausedUntilMs = leg.nowMs + AGAIN_MS;
      if (this.#phase === "maps") this.#mapLeg = this.#mapLeg - 1;
      return;
    }
    for (let i = 0; runs !== null && i + 1 < runs.length; i += 2) {
      if (runs[i + 1] > 0 && runs[i] + runs[i + 1] <= leg.chunkCount) this.#fetched.set(runs[i], runs[i + 1]);
      else {
        this.#message = `Leg ${this.#source} told a map that does not fit the pool`;
        this.#rotateSource(this.#source);
        return;
      }
    }
    if (message.sequence > 0 && message.sequence < leg.chunkCount) {
      this.#askMap(message.sequence);
      return;
    }
    if (this.#phase === "map") {
      this.#todo.keepOnly(this.#fetched);
      this.#tracked.keepOnly(this.#fetched);
      this.#cleaned.keepOnly(this.#fetched);
      this.#enterPull();
    } else leg.maps[this.#mapLeg]?.addAll(this.#fetched);
    this.#fetched = null;
  }

  #enterPull(): void {
    this.#phase = "pull";
    this.#progress.total = this.#missingBytes();
    this.#progress.skipped = 0;
    this.#report("running");
  }

  #enterMaps(): void {
    this.#phase = "maps";
    this.#mapLeg = -1;
    this.#mapRequest = 0;
    this.#fetched = null;
  }

  #pullUrgent(offset: number, lengthBytes: number): void {
    const leg = this.#leg;
    const end = leg.chunkOf(offset) + leg.chunksOf(offset, lengthBytes);
    let chunk = this.#todo.next(leg.chunkOf(offset));
    while (chunk >= 0 && chunk < end) {
      if (!this.#busy.test(chunk) && !this.#failed.test(chunk)) {
        if (!this.#links.isUp(this.#source) || !this.#pulls.hasRoom) return;
        this.#ask(chunk, 1);
      }
      chunk = this.#todo.next(chunk + 1);
    }
  }

  #pullMore(): void {
    const leg = this.#leg;
    if (this.#paused || this.#todo.count === 0 || leg.nowMs < this.#pausedUntilMs) return;
    const most = Math.max(1, Math.floor((leg.options.pullBytes ?? 131072) / leg.chunkBytes));
    let wrapped = false;
    while (this.#links.isUp(this.#source) && this.#pulls.hasRoom) {
      const chunk = this.#todo.next(this.#cursor);
      if (chunk < 0) {
        if (wrapped) return;
        wrapped = true;
        this.#cursor = 0;
        continue;
      }
      if (this.#busy.test(chunk) || this.#failed.test(chunk)) {
        // Pulls in flight sit in front of the cursor only after it has wrapped; step over them.
        const over = Math.max(1, this.#busy.runLength(chunk, this.#todo.bitCount));
        this.#cursor = chunk + over;
        continue;
      }
      if (!this.#throttle.mayStart(leg.nowMs)) return;
      let count = this.#singles.test(chunk) ? 1 : this.#todo.runLength(chunk, most);
      const isDiffering = this.#differing.test(chunk);
      for (let i = 1; i < count; i++) {
        if (
          this.#busy.test(chunk + i) || this.#failed.test(chunk + i) || this.#singles.test(chunk + i) ||
          this.#differing.test(chunk + i) !== isDiffering
        ) count = i;
      }
      this.#throttle.spend(count * leg.chunkBytes);
      this.#ask(chunk, count);
      this.#cursor = chunk + count;
    }
  }

  #ask(chunk: number, count: number): void {
    const leg = this.#leg;
    const isCompare = this.#mode === "reconcile" && !this.#differing.test(chunk);
    const pull = this.#pulls.allocate(chunk, count, isCompare ? PullState.COMPARING : PullState.ASKED);
    this.#busy.set(chunk, count);
    const output = this.#leg.send(
      this.#links.connectionOf(this.#source),
      isCompare ? MessageType.HASH : MessageType.PULL,
      this.#pulls.requestId[pull],
    );
    output.message.offset = chunk * leg.chunkBytes;
    output.message.length = this.#bytesOf(chunk, count);
    output.message.resyncSession = this.#session;
    if (!isCompare) return;
    const operation = leg.operations.allocate(OperationKind.OWN_HASH, -1, output.message.offset, output.message.length);
    if (operation < 0) {
      this.#compared(this.#pulls.requestId[pull], null);
      return;
    }
    leg.operations.session[operation] = this.#run;
    leg.operations.requestId[operation] = this.#pulls.requestId[pull];
    this.#busyOperations++;
    const read = leg.outputs.push(OutputKind.DISK_READ);
    read.token = operation;
    read.offset = leg.operations.offset[operation];
    read.lengthBytes = leg.operations.lengthBytes[operation];
  }

  #pullData(message: Message, slot: number): void {
    const leg = this.#leg;
    const pull = this.#pulls.find(message.requestId);
    if (pull < 0 || this.#pulls.state[pull] !== PullState.ASKED) {
      leg.freeSlot(slot);
      return;
    }
    const first = this.#pulls.firstChunk[pull];
    const count = this.#pulls.chunkCount[pull];
    if (message.status !== 0 || slot < 0 || message.payloadLength !== this.#bytesOf(first, count)) {
      leg.freeSlot(slot);
      this.#pulls.free(pull);
      this.#busy.clear(first, count);
      this.#pullFailed(first, count, message.status);
      return;
    }
    if (this.#todo.runLength(first, count) < count || this.#writing.any(first, count)) {
      // The client has overwritten part of it since: that part is newer than what we hold, the rest is asked again. So is
      // what a former order is still writing, which would land on it.
      leg.freeSlot(slot);
      this.#pulls.free(pull);
      this.#busy.clear(first, count);
      if (this.#cursor > first) this.#cursor = first;
      return;
    }
    const operation = leg.operations.allocate(
      OperationKind.RESYNC_WRITE,
      -1,
      first * leg.chunkBytes,
      message.payloadLength,
    );
    if (operation < 0) {
      leg.freeSlot(slot);
      this.#pulls.free(pull);
      this.#busy.clear(first, count);
      return;
    }
    this.#progress.copied += message.payloadLength;
    this.#pulls.state[pull] = PullState.WRITING;
    this.#writing.set(first, count);
    leg.operations.slot[operation] = slot;
    leg.operations.session[operation] = this.#run;
    leg.operations.extra[operation] = pull;
    this.#busyOperations++;
    const output = leg.outputs.push(OutputKind.DISK_WRITE);
    output.token = operation;
    output.slot = slot;
    output.offset = leg.operations.offset[operation];
    output.lengthBytes = message.payloadLength;
  }

  #pullFailed(first: number, count: number, status: number): void {
    const leg = this.#leg;
    if (status === EAGAIN) {
      this.#pausedUntilMs = leg.nowMs + AGAIN_MS;
      if (this.#cursor > first) this.#cursor = first;
      return;
    }
    if (count > 1) {
      this.#singles.set(first, count);
      return;
    }
    this.#failed.set(first, count);
    this.#retryFailedAtMs = leg.nowMs + this.#retryFailedMs;
    this.#retryFailedMs = Math.min(RETRY_FAILED_MOST_MS, this.#retryFailedMs * 2);
    this.#message = `${
      this.#failed.count * leg.chunkBytes
    } bytes could not be read from leg ${this.#source} (${status})`;
    leg.event("warning", "resync-chunk-failed", this.#message, this.#source);
  }

  #peerHashed(message: Message, words: Uint32Array | null): void {
    const pull = this.#pulls.find(message.requestId);
    if (pull < 0 || this.#pulls.state[pull] !== PullState.COMPARING) return;
    const first = this.#pulls.firstChunk[pull];
    const count = this.#pulls.chunkCount[pull];
    if (message.status !== 0 || words === null || words.length !== 2 * count) {
      // The operation that hashes our own data finds its pull gone and ends by itself.
      this.#pulls.free(pull);
      this.#busy.clear(first, count);
      this.#pullFailed(first, count, message.status);
      return;
    }
    this.#pulls.theirs[pull] = words;
    this.#maybeCompare(pull);
  }

  #compared(requestId: number, words: Uint32Array | null): void {
    const pull = this.#pulls.find(requestId);
    if (pull < 0 || this.#pulls.state[pull] !== PullState.COMPARING) return;
    this.#pulls.ours[pull] = words ?? new Uint32Array(0);
    this.#maybeCompare(pull);
  }

  #maybeCompare(pull: number): void {
    const ours = this.#pulls.ours[pull];
    const theirs = this.#pulls.theirs[pull];
    if (ours === null || theirs === null) return;
    const first = this.#pulls.firstChunk[pull];
    const count = this.#pulls.chunkCount[pull];
    this.#pulls.free(pull);
    this.#busy.clear(first, count);
    for (let i = 0; i < count; i++) {
      if (ours.length === theirs.length && ours[2 * i] === theirs[2 * i] && ours[2 * i + 1] === theirs[2 * i + 1]) {
        this.#todo.clear(first + i, 1);
        this.#progress.skipped += this.#leg.chunkBytes;
      } else this.#differing.set(first + i, 1);
    }
  }

  #maybeClear(isLast: boolean): void {
    const leg = this.#leg;
    if (this.#flushOperation >= 0 || this.#clearsOutstanding > 0) return;
    const due = leg.nowMs - this.#lastClearMs >= CLEAR_INTERVAL_MS ||
      this.#cleaned.count * leg.chunkBytes >= CLEAR_BYTES;
    if (!isLast && (!due || this.#cleaned.count === 0)) return;
    const operation = leg.operations.allocate(OperationKind.RESYNC_FLUSH, -1, 0, 0);
    if (operation < 0) return;
    leg.operations.session[operation] = this.#run;
    this.#busyOperations++;
    this.#flushOperation = operation;
    const empty = this.#clearing;
    this.#clearing = this.#cleaned;
    this.#cleaned = empty;
    this.#lastClearMs = leg.nowMs;
    leg.outputs.push(OutputKind.DISK_FLUSH).token = operation;
  }

  #flushed(): void {
    if (this.#mode === "dirty" && this.#clearing.count > 0) {
      for (const index of this.#sources) {
        if (this.#links.isUp(index)) this.#tellClear(this.#links.connectionOf(index));
      }
    }
    if (this.#clearsOutstanding === 0) this.#endClear();
  }

  #tellClear(connection: number): void {
    const bits = this.#clearing;
    let runs: number[] = [];
    for (let chunk = bits.next(0); chunk >= 0;) {
      const length = bits.runLength(chunk, bits.bitCount);
      runs.push(chunk, length);
      chunk = bits.next(chunk + length);
      if (runs.length >= 2 * RUNS_PER_CLEAR || chunk < 0) {
        const output = this.#leg.send(connection, MessageType.CLEAR, this.#pulls.nextRequestId());
        output.message.legIndex = this.#leg.legIndex;
        output.message.resyncSession = this.#session;
        output.body = Uint32Array.from(runs);
        this.#clearsOutstanding++;
        runs = [];
      }
    }
  }

  #endClear(): void {
    this.#clearsOutstanding = 0;
    this.#clearing.clearAll();
    if (this.#phase === "save" && this.#cleaned.count === 0) this.#finish();
    else if (this.#phase === "pull" && this.#mode === "reconcile") this.#finish();
  }

  #maybeFinishPull(): void {
    if (this.#todo.count > 0 || this.#pulls.count > 0) return;
    // Reconciled data must be stable before it is served; after a resync the last flush follows the saved maps.
    if (this.#mode === "reconcile") this.#maybeClear(true);
    else this.#enterMaps();
  }

  #finish(): void {
    if (this.#todo.count > 0) return;
    this.#phase = "done";
    this.#report("done");
    if (this.#mode === "reconcile") this.abort("it is complete");
  }

  #fail(message: string): void {
    this.#message = message;
    this.#report("failed");
    this.abort(message);
  }

  #report(state: "running" | "paused" | "done" | "failed"): void {
    const leg = this.#leg;
    this.#lastReportMs = leg.nowMs;
    if (this.#clientConnection < 0 || leg.session?.connection !== this.#clientConnection) return;
    leg.send(this.#clientConnection, MessageType.RESYNC_REPORT, 0).body = {
      resyncSession: this.#session,
      epoch: leg.record.epoch,
      state,
      missingBytes: this.#missingBytes(),
      copiedBytes: this.#progress.copied,
      rateBytesPerSecond: this.#progress.rateBytesPerSecond,
      message: this.#message === "" ? undefined : this.#message,
    };
  }

  #markCleaned(first: number, count: number): void {
    this.#tracked.clear(first, count);
    this.#cleaned.set(first, count);
  }

  #missingBytes(): number {
    return this.#phase === "map" ? 0 : this.#todo.count * this.#leg.chunkBytes;
  }

  #bytesOf(chunk: number, count: number): number {
    const start = chunk * this.#leg.chunkBytes;
    return Math.min(count * this.#leg.chunkBytes, this.#leg.superblock.sizeBytes - start);
  }

  /** One past the last chunk that the range covers fully; the last chunk of the pool may be short. */
  #fullEnd(offset: number, lengthBytes: number): number {
    const end = offset + lengthBytes;
    return end === this.#leg.superblock.sizeBytes ? this.#leg.chunkCount : Math.floor(end / this.#leg.chunkBytes);
  }
}
