/**
 * The state of one resync at its target, shared by the parts that carry it out: what is to be had from whom, and where each chunk stands.
 *
 * @module
 */

import { SparseBitmap } from "../base/sparse_bitmap.ts";
import type { ResyncOrder } from "../wire/bodies.ts";
import type { LegContext } from "./leg_context.ts";
import { PeerLinks } from "./peer_links.ts";
import { PullTable } from "./pull_table.ts";
import { ResyncProgress } from "./resync_progress.ts";
import { ResyncThrottle } from "./resync_throttle.ts";

/** Where a resync stands. */
export type ResyncPhase = "off" | "record" | "map" | "pull" | "maps" | "save" | "done";

/** One resync, or none (`phase` "off"). */
export class ResyncJob {
  readonly leg: LegContext;
  readonly links = new PeerLinks();
  readonly pulls: PullTable;
  readonly throttle: ResyncThrottle;
  progress: ResyncProgress;
  phase: ResyncPhase = "off";
  mode: ResyncOrder["mode"] = "dirty";
  session = 0;
  /** Number of the order under way: one session may be ordered anew while disk I/O of the former order is in flight. */
  run = 0;
  sources: number[] = [];
  /** The source in use. */
  source = -1;
  isPaused = false;
  /** Bytes that clients have moved at the source, as it told last. */
  sourceForegroundBytes = 0;
  /** What clients' I/O takes at the source, in microseconds, as it last told; 0 when unknown. */
  sourceServiceUs = 0;
  /** Nothing is asked of the source before this time: it has said "not yet". */
  waitUntilMs = 0;
  /** For people: the last thing that went wrong. */
  message = "";
  /** Resync operations on the disk, of this and of earlier resyncs. */
  busyOperations = 0;

  /** Chunks that must not be trusted. */
  todo: SparseBitmap;
  /** Chunks of the map that have not been handed to `cleaned`. */
  tracked: SparseBitmap;
  /** Chunks asked for, or being written. */
  busy: SparseBitmap;
  /** Chunks being written by resync, also of an order that is over: until they have landed nothing newer may be written. */
  readonly writing: SparseBitmap;
  /** Chunks that are good here and still dirty at the sources. */
  cleaned: SparseBitmap;
  /** Chunks to be pulled one at a time, after an error in a longer run. */
  singles: SparseBitmap;
  /** Chunks that the source could not read. */
  failed: SparseBitmap;
  /** The source that could not read a chunk, -1 for none. */
  unreadableLeg = -1;
  /** Reconcile: compared, and found different. */
  differing: SparseBitmap;

  constructor(leg: LegContext) {
    this.leg = leg;
    this.pulls = new PullTable(leg.options.pullsInFlight ?? 64);
    this.throttle = new ResyncThrottle(leg.nowMs);
    this.progress = new ResyncProgress(leg.nowMs);
    const none = new SparseBitmap(leg.chunkCount);
    this.todo =
      this.tracked =
      this.busy =
      this.writing =
        none;
    this.cleaned =
      this.singles =
      this.failed =
      this.differing =
        none;
  }

  /** Whether a resync is under way, or done and not yet confirmed by an epoch. */
  get isActive(): boolean {
    return this.phase !== "off";
  }

  /** Takes up an order. In mode "dirty" every chunk is mistrusted until the map is known. */
  begin(order: ResyncOrder): void {
    const leg = this.leg;
    const isReconcile = order.mode === "reconcile";
    this.mode = order.mode;
    this.session = order.resyncSession;
    this.run++;
    this.source = this.sources[0];
    this.waitUntilMs = 0;
    this.sourceForegroundBytes = 0;
    this.sourceServiceUs = 0;
    this.message = "";
    this.unreadableLeg = -1;
    this.progress = new ResyncProgress(leg.nowMs);
    this.todo = new SparseBitmap(leg.chunkCount, !isReconcile);
    this.tracked = new SparseBitmap(leg.chunkCount, !isReconcile);
    this.busy = new SparseBitmap(leg.chunkCount);
    this.cleaned = new SparseBitmap(leg.chunkCount);
    this.singles = new SparseBitmap(leg.chunkCount);
    this.failed = new SparseBitmap(leg.chunkCount);
    this.differing = new SparseBitmap(leg.chunkCount);
    for (const extent of order.extents) {
      const first = Math.floor(extent * leg.chunksPerExtent);
      if (first >= leg.chunkCount) continue;
      this.todo.set(first, Math.max(1, Math.min(leg.chunksPerExtent, leg.chunkCount - first)));
    }
  }

  /** It is over: what was known of chunks is of no use any more, but for what is being written. */
  end(): void {
    this.phase = "off";
    this.pulls.clear();
    for (
      const chunks of [this.todo, this.tracked, this.busy, this.cleaned, this.singles, this.failed, this.differing]
    ) {
      chunks.clearAll();
    }
  }

  /** Goes on to the next source in turn that is up, if there is one; the same again when it is the only one. */
  nextSource(): void {
    const { sources, links } = this;
    const at = sources.indexOf(this.source);
    for (let step = 1; step <= sources.length; step++) {
      const next = sources[(at + step) % sources.length];
      if (!links.isUp(next)) continue;
      this.source = next;
      return;
    }
  }

  /** Whether there is another source to turn to. */
  get hasOtherSource(): boolean {
    return this.sources.some((index) => index !== this.source && this.links.isUp(index));
  }

  /** Whether `operation` belongs to the order under way. */
  owns(operation: number): boolean {
    return this.isActive && this.leg.operations.session[operation] === this.run;
  }

  /** These chunks are good on this leg's disk, if not yet stable. */
  markCleaned(first: number, count: number): void {
    this.tracked.clear(first, count);
    this.cleaned.set(first, count);
  }

  /**
   * Whether this leg lacks nothing any more. What a client has overwritten is not pulled, but until that write is on the disk the leg lacks
   * what was there before: if it joined and lost power then, an older write that all others have flushed would be gone with it.
   */
  get isComplete(): boolean {
    if (this.todo.count > 0 || this.pulls.count > 0) return false;
    return this.mode === "reconcile" || this.tracked.count === 0;
  }

  /**
   * Whether all writes that may be in what was pulled have landed here, too, so that this leg's own intent log knows them. It joins only
   * then: a start without the leg that it pulled from could not tell otherwise that a write which never became complete is here alone.
   */
  get hasWhatWasPulled(): boolean {
    const { operations, receivedSequence, pulledSequence } = this.leg;
    return receivedSequence >= pulledSequence && !operations.hasWriteUpTo(pulledSequence);
  }

  /** Connection to the source in use. */
  get sourceConnection(): number {
    return this.links.connectionOf(this.source);
  }

  /** Bytes of a run of chunks; the last chunk of the pool may be short. */
  bytesOf(chunk: number, count: number): number {
    const start = chunk * this.leg.chunkBytes;
    return Math.min(count * this.leg.chunkBytes, this.leg.superblock.sizeBytes - start);
  }

  /** One past the last chunk that a byte range covers fully. */
  fullEnd(offset: number, lengthBytes: number): number {
    const end = offset + lengthBytes;
    return end === this.leg.superblock.sizeBytes ? this.leg.chunkCount : Math.floor(end / this.leg.chunkBytes);
  }

  /** Bytes that are known to be missing. */
  get missingBytes(): number {
    return this.phase === "record" || this.phase === "map" ? 0 : this.todo.count * this.leg.chunkBytes;
  }
}
