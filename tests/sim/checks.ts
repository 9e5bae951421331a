/**
 * Checkers that look at the disks rather than at what the application sees: they find a broken promise at the moment it is
 * given, instead of when a rare second fault reveals it.
 *
 * @module
 */

import { FREE_INTENT_SLOT, INTENT_SLOTS_PER_BLOCK } from "../../lib/disk_format/intent_block.ts";
import { intentBlockOffset, type Layout, mapPageOffset } from "../../lib/disk_format/layout.ts";
import { CHUNKS_PER_MAP_PAGE } from "../../lib/disk_format/map_page.ts";
import { BLOCK_BYTES, compareRank, type EpochRecord, type SharedEpoch } from "../../lib/disk_format/records.ts";
import { pickTwin } from "../../lib/disk_format/twin.ts";
import { decodeIntents, decodePage, decodeRecord, peekRecord } from "./disk_image.ts";
import type { LegProcess } from "./leg_process.ts";
import { MAX_SECTORS_PER_WRITE, nameValue } from "./oracle.ts";
import type { SimDisk } from "./sim_disk.ts";
import { SECTOR_BYTES } from "./slots.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** A leg's metadata as it is on its disk, decoded when it changed. */
interface DurableView {
  version: number;
  record: EpochRecord | null;
  intents: Set<number>;
  pages: Map<number, { incarnation: number; words: Uint32Array } | null>;
}

/** See the module comment. */
export class Checks {
  readonly #world: World;
  readonly #layout: Layout;
  readonly #views: DurableView[] = [];
  /** By leg: what its intent log held on disk when it was last written. */
  readonly #intents: Set<number>[] = [];
  readonly #lastRecords: (EpochRecord | null)[] = [];
  /** By history and generation: the client it was promised to. Histories forced apart count their generations apart. */
  readonly #claimants = new Map<string, string>();
  /** Tick at which write n was acked, by number; Infinity before. */
  readonly ackTicks: number[] = [];

  constructor(world: World, layout: Layout) {
    this.#world = world;
    this.#layout = layout;
    for (let i = 0; i < world.plan.legCount; i++) {
      this.#views.push({ version: -1, record: null, intents: new Set(), pages: new Map() });
      this.#lastRecords.push(null);
      this.#intents.push(new Set());
    }
  }

  /** A metadata copy was written at `offset` (of the record, not of the copy), or torn. */
  onMetadata(leg: LegProcess, offset: number): void {
    if (offset === this.#layout.epochOffset) this.#onRecord(leg, offset);
    else if (offset < this.#layout.mapOffset) this.#onIntents(leg);
  }

  /** A block of the leg's intent log is lost: what was in it has not been forgotten by the leg. */
  intentsRotted(leg: LegProcess): void {
    this.#intents[leg.legIndex] = this.#readIntents(leg.disk);
  }

  /** What leaves the intent log while a leg is missing must be in the dirty pages by then, unless it is clean. */
  #onIntents(leg: LegProcess): void {
    const before = this.#intents[leg.legIndex];
    const after = this.#readIntents(leg.disk);
    this.#intents[leg.legIndex] = after;
    const record = this.#lastRecords[leg.legIndex];
    const world = this.#world;
    const legCount = world.plan.legCount;
    if (record === null || record.shared.inSyncMask === maskOf(record.shared)) return;
    const { chunkBytes, extentBytes, sizeBytes } = world.plan.shape;
    const chunksPerExtent = extentBytes / chunkBytes;
    // A leg out of sync is relied upon by nobody; it saves its maps before it joins.
    if ((record.shared.inSyncMask & (1 << leg.legIndex)) === 0 || world.losses.isOut(leg.legIndex)) return;
    for (const extent of before) {
      if (after.has(extent)) continue;
      const session = leg.core!.snapshot().session;
      // What a dead client had under way is nobody's promise.
      if (session === null || session.clientName !== world.client.sessionName) return;
      for (let missing = 0; missing < legCount; missing++) {
        const bits = leg.core!.dirtyMap(missing);
        if (bits === null || (record.shared.inSyncMask & (1 << missing)) !== 0) continue;
        if (this.#isToldByItself(missing, extent, session.generation)) continue;
        const view = this.#view(leg);
        const end = Math.min((extent + 1) * chunksPerExtent, sizeBytes / chunkBytes);
        for (let chunk = bits.next(extent * chunksPerExtent); chunk >= 0 && chunk < end; chunk = bits.next(chunk + 1)) {
          // Another disk is in its place than the record on this disk tells of: that it lacks everything is a later story.
          if (view.record!.shared.legs[missing]?.uuid !== world.legs[missing].legUuid) continue;
          // The unflushed set is a superset: what the leg has on stable storage all the same need not be remembered.
          if (!this.#lacks(leg.disk, world.legs[missing].disk, chunk)) continue;
          if (this.#isSuspected(view, missing, chunk) || world.application.touches(chunk * chunkBytes, chunkBytes)) {
            continue;
          }
          throw new Violation(
            "suspicion",
            `${leg.name} forgets extent ${extent} while leg ${missing} lacks chunk ${chunk} of it, which is in no dirty page`,
          );
        }
      }
    }
  }

  /**
   * Whether leg `missing`, which has not taken part in generation `generation`, has the extent in its own intent log on disk: then it tells
   * of it before it is admitted, and until it has been, nobody else needs to.
   */
  #isToldByItself(missing: number, extent: number, generation: number): boolean {
    const record = this.#lastRecords[missing];
    if (record === null || record.shared.generation >= generation) return false;
    return this.#intents[missing].has(extent) || this.hasLostIntents(this.#world.legs[missing].disk);
  }

  /** Whether a block of the intent log on `disk` is lost: then the leg tells that it may have written anything. */
  hasLostIntents(disk: SimDisk): boolean {
    for (let block = 0; block < this.#layout.intentBlockCount; block++) {
      const offset = intentBlockOffset(this.#layout, block);
      if (!pickTwin(disk.block(offset), disk.block(offset + BLOCK_BYTES), decodeIntents, null).ok) return true;
    }
    return false;
  }

  /** Whether `disk` lacks, or may come to lack, an acked write that `whole` has in a chunk. */
  #lacks(whole: SimDisk, disk: SimDisk, chunk: number): boolean {
    const sectorsPerChunk = this.#world.plan.shape.chunkBytes / SECTOR_BYTES;
    for (let sector = chunk * sectorsPerChunk; sector < (chunk + 1) * sectorsPerChunk; sector++) {
      const value = whole.current[sector];
      if (disk.stable[sector] === value || value <= 0) continue;
      if (this.ackTicks[Math.floor(value / MAX_SECTORS_PER_WRITE)] !== undefined) return true;
    }
    return false;
  }

  #readIntents(disk: SimDisk): Set<number> {
    const intents = new Set<number>();
    for (let block = 0; block < this.#layout.intentBlockCount; block++) {
      const offset = this.#layout.intentOffset + block * 2 * BLOCK_BYTES;
      const found = pickTwin(disk.block(offset), disk.block(offset + BLOCK_BYTES), decodeIntents, null);
      if (!found.ok) continue;
      const slots = Math.min(
        INTENT_SLOTS_PER_BLOCK,
        this.#world.plan.shape.hotExtentCount - block * INTENT_SLOTS_PER_BLOCK,
      );
      for (let i = 0; i < slots; i++) if (found.value.slots[i] !== FREE_INTENT_SLOT) intents.add(found.value.slots[i]);
    }
    return intents;
  }

  #onRecord(leg: LegProcess, offset: number): void {
    const found = pickTwin(
      leg.disk.block(offset),
      leg.disk.block(offset + BLOCK_BYTES),
      decodeRecord,
      null,
    );
    if (!found.ok) throw new Violation("monotone", `both copies of the epoch record of ${leg.name} are bad`);
    const record = found.value;
    const last = this.#lastRecords[leg.legIndex];
    if (last !== null) {
      if (compareRank(record.shared, last.shared) < 0) {
        throw new Violation("monotone", `the record of ${leg.name} goes back from ${rank(last)} to ${rank(record)}`);
      }
      if (record.promisedGeneration < last.promisedGeneration) {
        throw new Violation("monotone", `the promise of ${leg.name} goes back: ${rank(last)} to ${rank(record)}`);
      }
    }
    if (record.promisedGeneration < record.shared.generation) {
      throw new Violation("monotone", `${leg.name} holds a record newer than its promise: ${rank(record)}`);
    }
    this.#expectSound(leg, record.shared);
    const claim = `${record.shared.historyId} ${record.shared.generation}`;
    const owner = this.#claimants.get(claim);
    if (record.shared.generation === record.promisedGeneration) {
      if (owner === undefined) this.#claimants.set(claim, record.promisedTo);
      else if (owner !== record.promisedTo) {
        throw new Violation("monotone", `records of generation ${record.shared.generation} were made by two clients`);
      }
    }
    this.#lastRecords[leg.legIndex] = record;
    this.#world.losses.recordSeen(leg.legIndex, record.shared, last === null ? null : last.shared);
  }

  /** Another disk is in the place of leg `legIndex`: what was on the one before says nothing about it. */
  exchanged(legIndex: number): void {
    this.#lastRecords[legIndex] = null;
    this.#intents[legIndex] = new Set();
  }

  /** What every leg table must obey. */
  #expectSound(leg: LegProcess, shared: SharedEpoch): void {
    const { inSyncMask } = shared;
    const who = `the record ${shared.generation}.${shared.epoch} of ${leg.name}`;
    if (inSyncMask === 0) throw new Violation("table", `${who} has no leg in sync`);
    if ((inSyncMask & ~maskOf(shared)) !== 0) {
      throw new Violation("table", `${who} has a leg in sync that it does not know`);
    }
    shared.legs.forEach((entry, index) => {
      if (entry !== null && entry.isDrained && (inSyncMask & (1 << index)) !== 0) {
        throw new Violation("table", `${who} has leg ${index} in sync, which is drained`);
      }
    });
  }

  /** A write, write-zeroes or discard is about to be completed with success. */
  onWriteComplete(
    firstSector: number,
    sectorCount: number,
    firstValue: number,
    fua: boolean,
    servingMask: () => number,
  ): void {
    const world = this.#world;
    let inSyncMask = -1;
    for (const leg of world.legs) {
      const bit = 1 << leg.legIndex;
      const isBroken = (world.losses.brokenMask & bit) !== 0;
      const lacking = firstLacking(leg.disk, firstSector, sectorCount, firstValue, fua);
      // Another client may have claimed the leg, and written there, before we heard that ours was done.
      if (lacking < 0 || this.#isTakenOver(leg)) continue;
      if (inSyncMask < 0) inSyncMask = this.#membersOf(servingMask());
      if ((inSyncMask & bit) !== 0) {
        if (isBroken && !fua) continue; // it did have it, before the power failed
        throw new Violation(
          "applied",
          `a ${fua ? "FUA " : ""}write completes with in-sync set ${
            inSyncMask.toString(2)
          }, but sector ${lacking} of ` +
            `${leg.name} holds ${nameValue(leg.disk.current[lacking])} (stable: ${
              nameValue(leg.disk.stable[lacking])
            })`,
        );
      }
      const holds = firstLacking(leg.disk, firstSector, sectorCount, firstValue, false) < 0;
      if (!holds) this.#expectSuspicion(leg.legIndex, firstSector, sectorCount, servingMask());
    }
  }

  /** Whether another client has claimed the leg since the one whose requests are judged; it may have let go of it again. */
  #isTakenOver(leg: LegProcess): boolean {
    const record = this.#lastRecords[leg.legIndex];
    return record !== null && record.promisedGeneration > this.#world.client.core!.snapshot().generation;
  }

  /** A flush that began at tick `invoke` is about to be completed with success. */
  onFlushComplete(invoke: number, inSyncMask: number): void {
    for (const leg of this.#world.legs) {
      if ((inSyncMask & (1 << leg.legIndex)) === 0) continue;
      // Its answer came late: another client has claimed the leg since, and makes it equal to others.
      if (this.#isTakenOver(leg)) continue;
      const disk = leg.disk;
      for (let i = 0; i < disk.dirtyCount; i++) {
        const sector = disk.dirtySectors[i];
        if (disk.currentWrite[sector] === disk.stableWrite[sector]) continue;
        const value = disk.current[sector];
        if (value <= 0 || disk.stable[sector] === value) continue;
        const ackTick = this.ackTicks[Math.floor(value / MAX_SECTORS_PER_WRITE)];
        if (ackTick < invoke) {
          throw new Violation(
            "flushed",
            `a flush completes, but on ${leg.name} ${nameValue(value)} (sector ${sector}) is only in the cache`,
          );
        }
      }
    }
  }

  /** Leg `missing` lacks a completed write: every member must suspect it durably. */
  #expectSuspicion(missing: number, firstSector: number, sectorCount: number, inSyncMask: number): void {
    const world = this.#world;
    const sectorsPerChunk = world.plan.shape.chunkBytes / SECTOR_BYTES;
    const first = Math.floor(firstSector / sectorsPerChunk);
    const last = Math.floor((firstSector + sectorCount - 1) / sectorsPerChunk);
    for (const leg of world.legs) {
      if ((inSyncMask & (1 << leg.legIndex)) === 0) continue;
      const view = this.#view(leg);
      const shared = view.record!.shared;
      // A leg that is in no table is nobody's concern. One whose disk has been exchanged since is another leg.
      if (shared.legs[missing]?.uuid !== world.legs[missing].legUuid) continue;
      if ((shared.inSyncMask & (1 << missing)) !== 0) {
        throw new Violation(
          "suspicion",
          `a write completes that leg ${missing} lacks, but the record of ${leg.name} (${
            rank(view.record!)
          }) has it in sync`,
        );
      }
      for (let chunk = first; chunk <= last; chunk++) {
        // A leg whose intent log has rotted meanwhile says so: then whatever the others may lack, it may be anything.
        if (this.#isSuspected(view, missing, chunk) || this.hasLostIntents(leg.disk)) continue;
        throw new Violation(
          "suspicion",
          `a write completes that leg ${missing} lacks in chunk ${chunk}, but ${leg.name} has it neither in a dirty page ` +
            `nor in its intent log`,
        );
      }
    }
  }

  /**
   * The members of the in-sync set at this moment: those that serve, and those that a serving leg's durable record still has in
   * sync, for until all have forgotten them their answers are needed.
   */
  #membersOf(servingMask: number): number {
    let mask = servingMask;
    for (const leg of this.#world.legs) {
      if ((servingMask & (1 << leg.legIndex)) === 0) continue;
      const { inSyncMask, legs } = this.#view(leg).record!.shared;
      // One whose disk has been exchanged since is another leg.
      for (const { legIndex, legUuid } of this.#world.legs) {
        if ((inSyncMask & (1 << legIndex)) !== 0 && legs[legIndex]?.uuid === legUuid) mask |= 1 << legIndex;
      }
    }
    return mask;
  }

  #isSuspected(view: DurableView, missing: number, chunk: number): boolean {
    const { chunkBytes, extentBytes } = this.#world.plan.shape;
    if (view.intents.has(Math.floor((chunk * chunkBytes) / extentBytes))) return true;
    const entry = view.record!.shared.legs[missing] ?? null;
    if (entry === null) return true; // in no table: nobody will ever trust it
    const pageIndex = Math.floor(chunk / CHUNKS_PER_MAP_PAGE);
    const page = view.pages.get(missing * this.#layout.mapPageCount + pageIndex);
    if (page === null) return true; // damaged in both copies: all of it is suspected
    if (page === undefined || page.incarnation !== entry.mapIncarnation) return entry.mapDefaultDirty;
    const bit = chunk % CHUNKS_PER_MAP_PAGE;
    return (page.words[bit >>> 5] & (1 << (bit & 31))) !== 0;
  }

  #view(leg: LegProcess): DurableView {
    const view = this.#views[leg.legIndex];
    const disk = leg.disk;
    if (view.version === disk.metadataVersion) return view;
    view.version = disk.metadataVersion;
    view.record = peekRecord(disk, this.#layout.epochOffset);
    view.intents = this.#readIntents(disk);
    view.pages.clear();
    for (let legIndex = 0; legIndex < this.#world.plan.legCount; legIndex++) {
      for (let page = 0; page < this.#layout.mapPageCount; page++) {
        const offset = mapPageOffset(this.#layout, legIndex, page);
        if (!disk.blocks.has(offset)) continue;
        const found = pickTwin(disk.block(offset), disk.block(offset + BLOCK_BYTES), decodePage, null);
        const key = legIndex * this.#layout.mapPageCount + page;
        if (found.ok) view.pages.set(key, { incarnation: found.value.mapIncarnation, words: found.value.words });
        else if (!found.neverWritten) view.pages.set(key, null);
      }
    }
    return view;
  }
}

/** The legs of a table. */
export function maskOf(shared: SharedEpoch): number {
  return shared.legs.reduce((mask, entry, index) => entry === null ? mask : mask | (1 << index), 0);
}

function rank(record: EpochRecord): string {
  return `${record.shared.generation}.${record.shared.epoch} (promised ${record.promisedGeneration})`;
}

/** The first sector that does not hold what the write put there, or -1. */
function firstLacking(disk: SimDisk, first: number, count: number, firstValue: number, stable: boolean): number {
  const values = stable ? disk.stable : disk.current;
  for (let i = 0; i < count; i++) {
    if (values[first + i] !== (firstValue === 0 ? 0 : firstValue + i)) return first + i;
  }
  return -1;
}
