/**
 * Metadata of a simulated disk, made and read with the production encoders and decoders: what `pool create` writes, and what
 * a storage node loads when it opens a leg.
 *
 * @module
 */

import type { LoadedMapPage } from "../../lib/core/leg_context.ts";
import type { BlockDecoder, DecodeResult } from "../../lib/disk_format/block_header.ts";
import { decodeEpochRecord, encodeEpochRecord } from "../../lib/disk_format/epoch_record.ts";
import {
  decodeIntentBlock,
  emptyIntentBlock,
  encodeIntentBlock,
  INTENT_SLOTS_PER_BLOCK,
} from "../../lib/disk_format/intent_block.ts";
import { computeLayout, intentBlockOffset, layoutOf, mapPageOffset } from "../../lib/disk_format/layout.ts";
import { decodeMapPage } from "../../lib/disk_format/map_page.ts";
import { BLOCK_BYTES, type EpochRecord, type SharedEpoch, type Superblock } from "../../lib/disk_format/records.ts";
import { decodeSuperblock, encodeSuperblock } from "../../lib/disk_format/superblock.ts";
import { pickTwin, type TwinPick } from "../../lib/disk_format/twin.ts";
import type { SimDisk } from "./sim_disk.ts";
import { SECTOR_BYTES } from "./slots.ts";
import { Violation } from "./violation.ts";

/** What a leg starts from. */
export interface DiskImage {
  readonly superblock: Superblock;
  readonly record: EpochRecord;
  readonly intentSlots: Uint32Array;
  readonly intentsDamaged: boolean;
  readonly mapPages: LoadedMapPage[];
  readonly metadataSequence: number;
}

/** Properties of a pool. */
export interface PoolShape {
  readonly poolUuid: string;
  readonly legUuids: readonly string[];
  readonly historyId: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  readonly minInSync: number;
  readonly ioTimeoutMs: number;
}

/**
 * A decoder that remembers: blocks never change once written, both copies of a record are often one object here, and the checkers
 * look at the same blocks again and again.
 */
function remembering<T>(decode: BlockDecoder<T>): BlockDecoder<T> {
  const known = new WeakMap<Uint8Array, DecodeResult<T>>();
  return (block, identity) => {
    let result = known.get(block);
    if (result === undefined) known.set(block, result = decode(block, identity));
    return result;
  };
}

/** The production decoders. */
export const decodeRecord = remembering(decodeEpochRecord);
export const decodeIntents = remembering(decodeIntentBlock);
export const decodePage = remembering(decodeMapPage);
const decodeSuper = remembering(decodeSuperblock);

/** Makes `disk` one of the first legs of the pool. */
export function formatDisk(disk: SimDisk, shape: PoolShape): void {
  writeLeg(disk, shape, shape.legUuids[disk.legIndex], undefined, {
    historyId: shape.historyId,
    historyNumber: 0,
    generation: 1,
    clientGeneration: 1,
    epoch: 1,
    inSyncMask: (1 << shape.legUuids.length) - 1,
    minInSync: shape.minInSync,
    ioTimeoutMs: shape.ioTimeoutMs,
    legs: shape.legUuids.map((uuid, index) => ({
      uuid,
      address: `leg-${index}:1`,
      mapIncarnation: 1,
      mapDefaultDirty: false,
      outSinceMs: 0,
      isDrained: false,
    })),
  });
}

/** Makes `disk`, whatever is on it, a leg that may come into the pool later: its record ranks below all others. */
export function formatLaterDisk(
  disk: SimDisk,
  shape: PoolShape,
  legUuid: string,
  replacesUuid: string | undefined,
  known: SharedEpoch,
): void {
  writeLeg(disk, shape, legUuid, replacesUuid, {
    ...known,
    historyNumber: 0,
    generation: 0,
    clientGeneration: 0,
    epoch: 0,
  });
}

function writeLeg(
  disk: SimDisk,
  shape: PoolShape,
  legUuid: string,
  replacesUuid: string | undefined,
  shared: SharedEpoch,
): void {
  const layout = computeLayout(shape);
  const legIndex = disk.legIndex;
  const identity = { poolUuid: shape.poolUuid, legUuid };
  const superblock: Superblock = {
    ...identity,
    poolName: "sim",
    legIndex,
    sizeBytes: shape.sizeBytes,
    chunkBytes: shape.chunkBytes,
    logicalBlockBytes: 512,
    extentBytes: shape.extentBytes,
    hotExtentCount: shape.hotExtentCount,
    epochOffset: layout.epochOffset,
    intentOffset: layout.intentOffset,
    mapOffset: layout.mapOffset,
    dataOffset: layout.dataOffset,
    createdMs: 0,
    ...(replacesUuid === undefined ? {} : { replacesUuid }),
  };
  const record: EpochRecord = {
    shared,
    promisedGeneration: shared.generation,
    promisedTo: "",
    isStable: true,
    bootId: "",
  };
  writeTwin(disk, 0, encodeSuperblock(superblock, identity, 1));
  writeTwin(disk, layout.epochOffset, encodeEpochRecord(record, identity, 1));
  for (let block = 0; block < layout.intentBlockCount; block++) {
    writeTwin(disk, intentBlockOffset(layout, block), encodeIntentBlock(emptyIntentBlock(block), identity, 1));
  }
}

/** Reads a leg's metadata, and mends copies that are not like the one that was chosen. */
export function loadDisk(disk: SimDisk): DiskImage {
  const superblock = need(disk, pick(disk, 0, decodeSuper, null), "superblock").value;
  const layout = layoutOf(superblock);
  const identity = { poolUuid: superblock.poolUuid, legUuid: superblock.legUuid };
  const epoch = need(disk, pick(disk, layout.epochOffset, decodeRecord, identity), "epoch record");
  let metadataSequence = epoch.sequence;

  const intentSlots = new Uint32Array(superblock.hotExtentCount).fill(0xffffffff);
  let intentsDamaged = false;
  for (let block = 0; block < layout.intentBlockCount; block++) {
    const found = pick(disk, intentBlockOffset(layout, block), decodeIntents, identity);
    if (!found.ok) {
      intentsDamaged = true;
      continue;
    }
    const first = block * INTENT_SLOTS_PER_BLOCK;
    const count = Math.min(INTENT_SLOTS_PER_BLOCK, intentSlots.length - first);
    intentSlots.set(found.value.slots.subarray(0, count), first);
    metadataSequence = Math.max(metadataSequence, found.sequence);
  }

  const mapPages: LoadedMapPage[] = [];
  const shared = epoch.value.shared;
  for (let legIndex = 0; legIndex < shared.legs.length; legIndex++) {
    // Another leg that is in sync lacks nothing.
    if (legIndex !== disk.legIndex && (shared.inSyncMask & (1 << legIndex)) !== 0) continue;
    for (let page = 0; page < layout.mapPageCount; page++) {
      const offset = mapPageOffset(layout, legIndex, page);
      if (!disk.blocks.has(offset) && !disk.blocks.has(offset + BLOCK_BYTES)) continue;
      const found = pick(disk, offset, decodePage, identity);
      if (found.ok) {
        metadataSequence = Math.max(metadataSequence, found.sequence);
        const { mapIncarnation, words } = found.value;
        mapPages.push({ legIndex, page, mapIncarnation, words });
      } else if (!found.neverWritten) {
        mapPages.push({ legIndex, page, mapIncarnation: 0, words: null });
      }
    }
  }
  return { superblock, record: epoch.value, intentSlots, intentsDamaged, mapPages, metadataSequence };
}

/** The record on a disk as a start would find it, without mending anything. */
export function peekRecord(disk: SimDisk, epochOffset: number): EpochRecord {
  const found = pickTwin(disk.block(epochOffset), disk.block(epochOffset + BLOCK_BYTES), decodeRecord, null);
  return need(disk, found, "epoch record").value;
}

/** Flips a byte in one copy of a record: what rots on the shelf. */
export function rotCopy(disk: SimDisk, offset: number, copy: number, at: number): void {
  const block = disk.block(offset + copy * BLOCK_BYTES).slice();
  block[at] ^= 0x10;
  disk.writeBlock(offset + copy * BLOCK_BYTES, block);
}

/** Sectors of the data area of a pool. */
export function sectorsOf(shape: PoolShape): number {
  return shape.sizeBytes / SECTOR_BYTES;
}

function writeTwin(disk: SimDisk, offset: number, block: Uint8Array): void {
  disk.writeBlock(offset, block);
  disk.writeBlock(offset + BLOCK_BYTES, block);
}

function pick<T>(
  disk: SimDisk,
  offset: number,
  decode: BlockDecoder<T>,
  identity: { poolUuid: string; legUuid: string } | null,
): TwinPick<T> {
  const found = pickTwin(disk.block(offset), disk.block(offset + BLOCK_BYTES), decode, identity);
  if (found.ok) {
    for (const copy of found.repair) {
      disk.writeBlock(offset + copy * BLOCK_BYTES, disk.block(offset + found.copy * BLOCK_BYTES));
    }
  }
  return found;
}

function need<T>(disk: SimDisk, found: TwinPick<T>, what: string): { value: T; sequence: number } {
  if (found.ok) return found;
  throw new Violation(
    "assertion",
    `leg ${disk.legIndex} has no ${what}: ${found.first.message}; ${found.second.message}`,
  );
}
