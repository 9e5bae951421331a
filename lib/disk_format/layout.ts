/**
 * Where things are on a backing device:
 *
 * `superblock ×2 | epoch record ×2 | intent blocks ×2 | dirty pages of legs 0..7 ×2 | data`
 *
 * The two copies of a record lie side by side, so a twin takes {@link TWIN_BYTES}. Room for the dirty pages of all
 * eight legs is set aside from the start: at 4 KiB chunks that is 0.05 % of the pool, and legs can be added without
 * moving anything. Data begins at a multiple of 1 MiB, so that it keeps whatever alignment the pool's blocks have.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { INTENT_SLOTS_PER_BLOCK } from "./intent_block.ts";
import { CHUNKS_PER_MAP_PAGE } from "./map_page.ts";
import { BLOCK_BYTES, MAX_LEGS, type Superblock } from "./records.ts";

/** Bytes of both copies of a record. */
export const TWIN_BYTES = 2 * BLOCK_BYTES;
/** The superblock is always here: everything else is found through it. */
export const SUPERBLOCK_OFFSET = 0;
/** What the data area is aligned to. */
export const DATA_ALIGNMENT_BYTES = 1024 * 1024;

const MAX_CHUNKS = 2 ** 32;

/** Offsets are bytes from the start of the device. */
export interface Layout {
  readonly epochOffset: number;
  readonly intentOffset: number;
  readonly intentBlockCount: number;
  readonly mapOffset: number;
  /** Pages of one leg's dirty map. */
  readonly mapPageCount: number;
  readonly dataOffset: number;
  /** Least bytes the device must have. */
  readonly deviceBytes: number;
}

/** What a layout follows from. */
export interface LayoutInput {
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
}

/**
 * What is wrong with these properties of a pool, in a sentence that says what to choose; null when nothing is. People
 * and disks may say anything, so ask this before {@link computeLayout}.
 */
export function layoutProblem(input: LayoutInput): string | null {
  const { sizeBytes, chunkBytes, extentBytes, hotExtentCount } = input;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < BLOCK_BYTES || sizeBytes % BLOCK_BYTES !== 0) {
    return `A pool of ${sizeBytes} bytes: its size must be a positive multiple of ${BLOCK_BYTES}`;
  }
  if (!isPowerOfTwo(chunkBytes) || chunkBytes < 4096 || chunkBytes > 2 ** 20) {
    return `Chunks of ${chunkBytes} bytes: choose a power of two from 4K to 1M`;
  }
  if (Math.ceil(sizeBytes / chunkBytes) > MAX_CHUNKS) {
    return `A pool of ${sizeBytes} bytes has more than 2^32 chunks of ${chunkBytes} bytes: choose larger chunks`;
  }
  if (!isPowerOfTwo(extentBytes) || extentBytes < 2 ** 16 || extentBytes > 2 ** 26) {
    return `Extents of ${extentBytes} bytes: choose a power of two from 64K to 64M`;
  }
  if (sizeBytes / extentBytes > MAX_CHUNKS - 1) {
    return `A pool of ${sizeBytes} bytes has too many extents of ${extentBytes} bytes: choose larger extents`;
  }
  if (!Number.isInteger(hotExtentCount) || hotExtentCount < 1 || hotExtentCount > 65536) {
    return `${hotExtentCount} hot extents: choose from 1 to 65536`;
  }
  return null;
}

/** Where everything goes. The input must have no {@link layoutProblem}. */
export function computeLayout(input: LayoutInput): Layout {
  const problem = layoutProblem(input);
  assert(problem === null, problem ?? "");
  const epochOffset = SUPERBLOCK_OFFSET + TWIN_BYTES;
  const intentOffset = epochOffset + TWIN_BYTES;
  const intentBlockCount = Math.ceil(input.hotExtentCount / INTENT_SLOTS_PER_BLOCK);
  const mapOffset = intentOffset + intentBlockCount * TWIN_BYTES;
  const mapPageCount = Math.ceil(Math.ceil(input.sizeBytes / input.chunkBytes) / CHUNKS_PER_MAP_PAGE);
  const mapEnd = mapOffset + MAX_LEGS * mapPageCount * TWIN_BYTES;
  const dataOffset = Math.ceil(mapEnd / DATA_ALIGNMENT_BYTES) * DATA_ALIGNMENT_BYTES;
  const deviceBytes = dataOffset + input.sizeBytes;
  return { epochOffset, intentOffset, intentBlockCount, mapOffset, mapPageCount, dataOffset, deviceBytes };
}

/** The layout of a leg: what was computed at its creation, as its superblock tells. */
export function layoutOf(superblock: Superblock): Layout {
  const { intentBlockCount, mapPageCount } = computeLayout(superblock);
  const { epochOffset, intentOffset, mapOffset, dataOffset } = superblock;
  const deviceBytes = dataOffset + superblock.sizeBytes;
  return { epochOffset, intentOffset, intentBlockCount, mapOffset, mapPageCount, dataOffset, deviceBytes };
}

/** Offset of the twin of intent block `blockIndex`. */
export function intentBlockOffset(layout: Layout, blockIndex: number): number {
  assert(blockIndex >= 0 && blockIndex < layout.intentBlockCount, "An intent block of the layout", blockIndex);
  return layout.intentOffset + blockIndex * TWIN_BYTES;
}

/** Offset of the twin of page `page` of the dirty map kept for leg `legIndex`. */
export function mapPageOffset(layout: Layout, legIndex: number, page: number): number {
  assert(legIndex >= 0 && legIndex < MAX_LEGS, "A leg index", legIndex);
  assert(page >= 0 && page < layout.mapPageCount, "A page of the layout", page);
  return layout.mapOffset + (legIndex * layout.mapPageCount + page) * TWIN_BYTES;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}
