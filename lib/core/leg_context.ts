/**
 * The state of one leg that its parts share. One owner each: sessions (leg_session.ts) write the record and the session, the I/O path
 * (leg_io.ts) the operations and marks, metadata (leg_metadata.ts) what is on disk, the resync source and target theirs.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { PAGE_BITS } from "../base/sparse_bitmap.ts";
import { INTENT_SLOTS_PER_BLOCK } from "../disk_format/intent_block.ts";
import { type Layout, layoutOf } from "../disk_format/layout.ts";
import { CHUNKS_PER_MAP_PAGE } from "../disk_format/map_page.ts";
import {
  type EpochRecord,
  type LegEntry,
  MAX_LEGS,
  type SharedEpoch,
  type Superblock,
} from "../disk_format/records.ts";
import { MessageType } from "../wire/message.ts";
import { type Dialect, OUR_DIALECT } from "../wire/negotiate.ts";
import { DirtyMap } from "./dirty_map.ts";
import { FORCED_INCARNATIONS, latestIncarnation } from "./incarnations.ts";
import { IntentLog } from "./intent_log.ts";
import { type Reach, TCP_ONLY } from "./leg_addresses.ts";
import { OperationTable } from "./operation_table.ts";
import { type CoreEvent, type Output, OutputKind, OutputQueue } from "./output.ts";
import { RangeCounter } from "./range_counter.ts";
import { ServiceTime } from "./service_time.ts";
import { UnflushedSet } from "./unflushed_set.ts";

assert(PAGE_BITS === CHUNKS_PER_MAP_PAGE, "A page in memory is a page on disk", PAGE_BITS, CHUNKS_PER_MAP_PAGE);

/** A page of a dirty map as found on disk. */
export interface LoadedMapPage {
  readonly legIndex: number;
  readonly page: number;
  readonly mapIncarnation: number;
  /** Null when both copies are damaged. */
  readonly words: Uint32Array | null;
}

/** What a leg starts from. */
export interface LegServerOptions {
  readonly superblock: Superblock;
  readonly record: EpochRecord;
  /** Every slot of the intent log: extents or 0xffffffff. Its length is `superblock.hotExtentCount`. */
  readonly intentSlots: Uint32Array;
  /** A block of the intent log was unreadable in both copies. */
  readonly intentsDamaged: boolean;
  /** Pages of legs outside the in-sync set; others are not needed. */
  readonly mapPages: Iterable<LoadedMapPage>;
  /** Above every sequence found in the leg's metadata blocks. */
  readonly metadataSequence: number;
  /** Random UUID, new each time. */
  readonly instance: string;
  /** The boot of this machine (/proc/sys/kernel/random/boot_id); "" when unknown. */
  readonly bootId: string;
  readonly nowMs: number;
  /** Where the node can be reached, as clients are told. It may still grow. */
  readonly addresses?: readonly string[];
  /** By what it reaches others; TCP alone when absent. */
  readonly reach?: Reach;
  /** Requests a client may have in flight. */
  readonly creditRequests?: number;
  /** Payload bytes a client may have in flight. */
  readonly creditBytes?: number;
  /** The connection of a client silent for longer is lost; SESSION_SILENCE_MS when absent. */
  readonly sessionSilenceMs?: number;
  /** Bytes one pull asks for at most. */
  readonly pullBytes?: number;
  /** Pulls in flight at most. */
  readonly pullsInFlight?: number;
  /** Protocol versions and features it speaks; this version's when absent. */
  readonly dialect?: Dialect;
}

/** Who is at the other end of a connection. */
export interface Peer {
  readonly role: "client" | "peer" | "reader";
  /** Role peer: its leg index. */
  readonly legIndex: number;
  /** Role client: whether it may go on with its session on another connection. */
  readonly canReturn: boolean;
}

/** The client that holds the pool. */
export interface Session {
  connection: number;
  /** How long it is kept when its connection is lost, for the client to come back by another path; 0 when it is not. */
  readonly returnMs: number;
  /** When its connection was lost; -1 while it is there. */
  lostMs: number;
  readonly generation: number;
  readonly clientUuid: string;
  readonly clientName: string;
  /** It serves nobody, and gives way to any client. */
  readonly isCaretaker: boolean;
  /** A caretaker with an operator's orders; other caretakers give way to it. */
  readonly isOrdered: boolean;
  lastHeardMs: number;
  /**
   * Whether this client has made an epoch with this leg in the in-sync set. Until then the leg's own record may be old: it serves nothing and
   * forgets nothing on the strength of it.
   */
  isMember: boolean;
  /**
   * Whether the disk has failed a write or a flush of this session. Its client may not have heard of it: it cannot come back by another path
   * and ask for the same again as if nothing had happened, for others may hold what was there before, and a flush may fail only once.
   */
  hasFailed: boolean;
}

/** See the module comment. */
export class LegContext {
  readonly options: LegServerOptions;
  readonly superblock: Superblock;
  readonly layout: Layout;
  readonly legIndex: number;
  readonly chunkBytes: number;
  readonly chunkCount: number;
  readonly extentBytes: number;
  readonly chunksPerExtent: number;
  readonly outputs = new OutputQueue(16384);
  readonly operations: OperationTable;
  readonly intents: IntentLog;
  readonly unflushed: UnflushedSet;
  readonly serviceTime: ServiceTime;
  /** Dirty maps by leg index; null for this leg and places without a leg. */
  readonly maps: (DirtyMap | null)[] = new Array(MAX_LEGS).fill(null);
  /**
   * Chunks of this leg itself that may differ from other members': what it was told to reconcile and has not been told to be equal.
   * Reconciling may copy here what is on one other leg only, and that leg may be absent at the next start; then this leg must be the one
   * to say so. Kept on disk in the pages of its own index; told with the intents when a claim is granted.
   */
  readonly ownSuspects: DirtyMap;
  /** Client writes under way, waiting ones included. */
  readonly writesInFlight = new RangeCounter();
  readonly peers = new Map<number, Peer>();
  /** Resync session in which leg i may pull and clear; 0 when none. */
  readonly joins = new Uint32Array(MAX_LEGS);
  nowMs: number;
  record: SharedEpoch;
  promisedGeneration: number;
  promisedTo: string;
  session: Session | null = null;
  /** Sessions since the leg was opened. */
  sessionCount = 0;
  /** Whether the last of them was let go of in order. */
  hasDetached = false;
  /** Highest write sequence that has arrived in this session. */
  receivedSequence = 0;
  /** No write of this session after this one is in what was pulled from others. */
  pulledSequence = 0;
  watermark = 0;
  /** Wants a flush from the client; asked for at most once a watermark. */
  askedFlushAt = -1;
  /** The client's operations not yet answered. */
  clientOperations = 0;
  lastWriteMs: number;
  /**
   * Whether this leg holds all it ever acked. A reboot of the machine under unflushed writes ends it, until a client has made the legs
   * equal again (its watermark rises above 0). Kept on disk as `isStable` and `bootId` of the record.
   */
  isWhole: boolean;
  /** Whether a flush has failed since the legs were equal last. */
  hasFailedFlush = false;
  failedFlushCount = 0;
  /** The highest barrier of a flush that has arrived in this session, and what it was when one failed last. */
  flushBarrier = 0;
  failedBarrier = 0;
  /** Whether a flush of the client's that began after that has not failed. Its answer came after the other: who has heard it has heard both, and says so by a watermark above {@link failedBarrier}. */
  hasFlushedSince = false;
  /** Whether, besides, all of it is on stable storage. */
  isStable: boolean;
  /** A block of the intent log was lost: anything may have been mid-write, until a client has made this leg equal to others. */
  intentsLost: boolean;
  /**
   * Counts the times that maps began, ended or started over under a record, and how many of these are on disk with it. Until they are, what is on disk
   * are the pages of before, and the intent log must go on covering what they do not say.
   */
  mapResets = 0;
  savedMapResets = 0;
  counters = {
    reads: 0,
    writes: 0,
    flushes: 0,
    readBytes: 0,
    writtenBytes: 0,
    metadataWrites: 0,
    pullsServed: 0,
  };

  constructor(options: LegServerOptions) {
    this.options = options;
    this.superblock = options.superblock;
    this.layout = layoutOf(options.superblock);
    this.legIndex = options.superblock.legIndex;
    this.chunkBytes = options.superblock.chunkBytes;
    this.chunkCount = Math.ceil(options.superblock.sizeBytes / this.chunkBytes);
    this.extentBytes = options.superblock.extentBytes;
    this.chunksPerExtent = this.extentBytes / this.chunkBytes;
    this.operations = new OperationTable(2 * this.creditRequests + 256);
    const extentCount = Math.ceil(options.superblock.sizeBytes / this.extentBytes);
    this.intents = new IntentLog(options.intentSlots, INTENT_SLOTS_PER_BLOCK, extentCount);
    this.unflushed = new UnflushedSet(this.chunkCount);
    this.serviceTime = new ServiceTime(options.nowMs);
    this.nowMs = options.nowMs;
    this.lastWriteMs = options.nowMs;
    this.record = options.record.shared;
    this.promisedGeneration = options.record.promisedGeneration;
    this.promisedTo = options.record.promisedTo;
    this.isStable = options.record.isStable;
    this.isWhole = this.isStable || (options.bootId !== "" && options.record.bootId === options.bootId);
    this.intentsLost = options.intentsDamaged;
    this.ownSuspects = new DirtyMap(this.chunkCount, this.record.legs[this.legIndex]?.mapIncarnation ?? 0, false);
    this.#loadMaps(options.mapPages);
  }

  get dialect(): Dialect {
    return this.options.dialect ?? OUR_DIALECT;
  }

  get reach(): Reach {
    return this.options.reach ?? TCP_ONLY;
  }

  get creditRequests(): number {
    return this.options.creditRequests ?? 512;
  }

  get creditBytes(): number {
    return this.options.creditBytes ?? 64 * 1024 * 1024;
  }

  /** The record as this leg would write it now. */
  get fullRecord(): EpochRecord {
    return {
      shared: this.record,
      promisedGeneration: this.promisedGeneration,
      promisedTo: this.promisedTo,
      isStable: this.isStable,
      bootId: this.isSound ? this.options.bootId : "",
    };
  }

  /**
   * Whether this leg holds all that it ever acked, as far as its disk has said. What a failed flush was for may be gone with the disk's cache, and
   * the next flush may find nothing wrong.
   */
  get isSound(): boolean {
    return this.isWhole && !this.hasFailedFlush;
  }

  /** Whether this leg is in the in-sync set of its own record. */
  get isInSync(): boolean {
    return (this.record.inSyncMask & (1 << this.legIndex)) !== 0;
  }

  /**
   * Whether somebody has the session who can tell an application what may have been lost. A caretaker cannot: that a flush has failed is noted until a
   * client has heard it.
   */
  get servesApplication(): boolean {
    return this.session !== null && !this.session.isCaretaker;
  }

  /** Whether the client that holds the session counts this leg as in sync. */
  get isMember(): boolean {
    return this.session !== null && this.session.isMember;
  }

  chunkOf(offset: number): number {
    return Math.floor(offset / this.chunkBytes);
  }

  /** Chunks that a byte range touches, counted from `chunkOf(offset)`. */
  chunksOf(offset: number, lengthBytes: number): number {
    return Math.floor((offset + lengthBytes - 1) / this.chunkBytes) - Math.floor(offset / this.chunkBytes) + 1;
  }

  extentOf(offset: number): number {
    return Math.floor(offset / this.extentBytes);
  }

  /** Marks every chunk of `extent` in `map`. */
  suspectExtent(map: DirtyMap, extent: number): void {
    const first = extent * this.chunksPerExtent;
    if (first >= this.chunkCount) return;
    if (this.chunksPerExtent < 1) map.add(Math.floor(first), 1);
    else map.add(first, Math.min(this.chunksPerExtent, this.chunkCount - first));
  }

  /** The map whose pages are kept under `index`: another leg's, or {@link ownSuspects}. */
  mapAt(index: number): DirtyMap | null {
    return index === this.legIndex ? this.ownSuspects : this.maps[index];
  }

  /** Extents that may differ between this leg and others. */
  suspectedExtents(): number[] {
    const extents = new Set(this.intents.extents());
    const bits = this.ownSuspects.bits;
    for (let chunk = bits.next(0); chunk >= 0;) {
      const extent = Math.floor(chunk / this.chunksPerExtent);
      extents.add(extent);
      chunk = bits.next(Math.max(chunk + 1, Math.ceil((extent + 1) * this.chunksPerExtent)));
    }
    return [...extents];
  }

  /**
   * This leg is equal to the other members: what it held against itself is void. A lost block of the intent log is written anew; a crash before
   * that only has the leg made equal once more.
   */
  becameEqual(): void {
    this.ownSuspects.clear(0, this.chunkCount);
    // Of a failure in this session its client may not have heard.
    if (this.servesApplication && this.session?.hasFailed === false) this.hasFailedFlush = false;
    if (!this.intentsLost) return;
    this.intentsLost = false;
    this.intents.rewriteAll();
  }

  /** Whether dirty pages that speak of `extent` are all on disk. */
  pagesSaved(extent: number): boolean {
    const first = Math.floor(extent * this.chunksPerExtent);
    const count = Math.max(1, Math.min(this.chunksPerExtent, this.chunkCount - first));
    for (let leg = 0; leg < MAX_LEGS; leg++) {
      const map = this.mapAt(leg);
      if (map !== null && map.isUnsaved(first, count)) return false;
    }
    return true;
  }

  /**
   * Takes over the leg table of `shared`: a map whose incarnation is not ours starts over. Returns whether one did of which pages may be on disk.
   * `isOrder`: it comes with an order to resync, and not as a record of which this leg is a member.
   */
  adoptIncarnations(shared: SharedEpoch, isOrder = false): boolean {
    const own = shared.legs[this.legIndex]?.mapIncarnation ?? 0;
    if (own !== this.ownSuspects.incarnation) this.ownSuspects.reset(own, false);
    let isDoubtful = false;
    for (let leg = 0; leg < MAX_LEGS; leg++) {
      const entry = shared.legs[leg] ?? null;
      const map = this.maps[leg];
      if (entry === null || leg === this.legIndex) {
        if (map !== null) this.mapResets++;
        this.maps[leg] = null;
        continue;
      }
      const { mapIncarnation, mapDefaultDirty } = entry;
      const isOut = (shared.inSyncMask & (1 << leg)) === 0;
      const isSame = map?.incarnation === mapIncarnation && (!isOut || map.isDefaultDirty === mapDefaultDirty);
      if (map !== null && isSame) {
        // A map from before this leg was away: the record says that there is nothing left of it.
        if (!isOut && (map.bits.count > 0 || map.isDefaultDirty)) map.reset(mapIncarnation, false);
        continue;
      }
      const isKnown = isOut && this.#mayHavePages(shared, entry, map, isOrder);
      const begun = map ?? new DirtyMap(this.chunkCount, mapIncarnation, mapDefaultDirty);
      if (map !== null) map.reset(mapIncarnation, mapDefaultDirty);
      if (isKnown) begun.distrust();
      this.maps[leg] = begun;
      this.mapResets++;
      isDoubtful ||= isKnown;
    }
    return isDoubtful;
  }

  /**
   * A record that was taken over will not be written: the one before is in force here again. What it suspects of legs that are out of sync by that
   * one as well stays suspected. Returns as {@link adoptIncarnations}.
   */
  returnTo(before: SharedEpoch): boolean {
    const isDoubtful = this.adoptIncarnations(before);
    this.record = before;
    if (this.session !== null) this.session.isMember &&= this.isInSync;
    return isDoubtful;
  }

  /**
   * Whether pages under `incarnation` may be on the disk from before, when a map begins or starts over under it, that say too little. A leg may have
   * noted a record that never was in force, by which another had left the table or had a new map, and may then be taken back under the record
   * before: what it knew under that one is gone. Who is to be resynced is told what the map says; pages from before then add to a map that is
   * clean where nothing is told, and take away from one that is dirty.
   */
  #mayHavePages(shared: SharedEpoch, entry: LegEntry, map: DirtyMap | null, isOrder: boolean): boolean {
    if (isOrder && !entry.mapDefaultDirty) return false;
    if (shared.historyId !== this.record.historyId) return isOrder;
    const number = entry.mapIncarnation;
    const isForced = number >= FORCED_INCARNATIONS;
    if (map !== null && map.incarnation >= FORCED_INCARNATIONS === isForced) return number <= map.incarnation;
    return isForced || number <= latestIncarnation(this.record);
  }

  /** A frame to send, with the fields that most answers share. */
  send(connection: number, type: number, requestId: number, status = 0): Output {
    const output = this.outputs.push(OutputKind.SEND);
    output.connection = connection;
    const message = output.message.reset(type);
    message.requestId = requestId;
    message.status = status;
    return output;
  }

  /** Refuses a control frame. */
  refuse(connection: number, requestId: number, code: string, text: string, generation?: number): void {
    this.send(connection, MessageType.REFUSE, requestId).body = { code, message: text, generation };
  }

  /**
   * A flush has failed, of a client's or the leg's own. What it was for may never reach stable storage, and the next one may find nothing wrong: so
   * whoever claims the leg next is told.
   */
  noteFailedFlush(): void {
    this.hasFailedFlush = true;
    this.isStable = false;
    this.failedFlushCount++;
    this.failedBarrier = this.flushBarrier;
    this.hasFlushedSince = false;
    this.noteFailure();
  }

  /** A write or flush has failed. It is of the session in force, if there is one: those of sessions before have ended when one begins. */
  noteFailure(): void {
    if (this.session !== null) this.session.hasFailed = true;
  }

  freeSlot(slot: number): void {
    if (slot < 0) return;
    this.outputs.push(OutputKind.FREE_SLOT).slot = slot;
  }

  close(connection: number): void {
    this.outputs.push(OutputKind.CLOSE).connection = connection;
  }

  event(level: CoreEvent["level"], name: string, message: string, legIndex?: number): void {
    this.outputs.push(OutputKind.EVENT).body = { level, name, message, legIndex } satisfies CoreEvent;
  }

  /**
   * What is on disk, and for every leg out of sync also all extents of the intent log: their pages may not have been saved before
   * the last end.
   */
  #loadMaps(pages: Iterable<LoadedMapPage>): void {
    for (const [leg, entry] of this.record.legs.entries()) {
      if (entry === null || leg === this.legIndex) continue;
      this.maps[leg] = new DirtyMap(this.chunkCount, entry.mapIncarnation, entry.mapDefaultDirty);
    }
    for (const page of pages) {
      const map = this.mapAt(page.legIndex);
      if (map === null) continue;
      if (page.words === null) map.load(page.page, null);
      else if (page.mapIncarnation === map.incarnation) map.load(page.page, page.words);
    }
    for (let leg = 0; leg < MAX_LEGS; leg++) {
      const map = this.maps[leg];
      if (map === null || (this.record.inSyncMask & (1 << leg)) !== 0) continue;
      if (this.intentsLost) map.add(0, this.chunkCount);
      else for (const extent of this.intents.extents()) this.suspectExtent(map, extent);
    }
  }
}
