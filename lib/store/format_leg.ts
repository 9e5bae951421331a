/**
 * Making a leg of a file or block device, and unmaking it.
 *
 * The superblock is written last and everything before it is flushed first: a crash midway leaves a device that is no
 * leg, never half of one.
 *
 * @module
 */

import { dirname } from "node:path";
import { errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor, openFile, OpenFlag, syncFile, unlinkPath } from "../../ffi/libc/file.ts";
import { formatBytes } from "../base/units.ts";
import type { LegCreate } from "../control/control_api.ts";
import { encodeEpochRecord, sharedEpochProblem } from "../disk_format/epoch_record.ts";
import { emptyIntentBlock, encodeIntentBlock } from "../disk_format/intent_block.ts";
import {
  computeLayout,
  intentBlockOffset,
  type Layout,
  layoutProblem,
  SUPERBLOCK_OFFSET,
} from "../disk_format/layout.ts";
import { BLOCK_BYTES, type Superblock } from "../disk_format/records.ts";
import { decodeSuperblock, encodeSuperblock, superblockProblem } from "../disk_format/superblock.ts";
import { pickTwin } from "../disk_format/twin.ts";
import { DeviceFile } from "./device_file.ts";
import { DILIGENCE, findContent } from "./probe_leg.ts";
import { StoreError } from "./store_error.ts";
import { UNWATCHED, type WorkWatch } from "./work_watch.ts";

/** What {@link formatLeg} needs besides the arguments of `leg.create`. */
export interface FormatLegOptions extends LegCreate {
  /**
   * Make the data area read as zeroes, whatever was there: needed when the new leg counts as in sync from the start. A
   * file is emptied at once; a block device is zeroed, which may take as long as writing all of it.
   */
  readonly zeroData: boolean;
  /** Wall clock, milliseconds since 1970. */
  readonly createdMs: number;
}

/** Sequence of the first records. */
const FIRST_SEQUENCE = 1;

/**
 * Makes a leg of `path` and returns its superblock. On stable storage when it returns.
 *
 * @throws {StoreError} "foreign-data" when there is something on it and `force` is not set, "in-use", "bad-request" for
 * impossible properties or a device too small, "device" for what the system said; and what the watch throws, after which the device is as after
 * a crash, and a file that was made here is gone
 */
export function formatLeg(options: FormatLegOptions, watch: WorkWatch = UNWATCHED): Superblock {
  const problem = layoutProblem(options);
  if (problem !== null) throw new StoreError("bad-request", problem);
  const layout = computeLayout(options);
  const superblock = planSuperblock(options, layout);
  const refusal = superblockProblem(superblock) ?? sharedEpochProblem(options.shared);
  if (refusal !== null) throw new StoreError("bad-request", refusal);
  const { device, created } = openForFormat(options.path);
  try {
    checkFits(device, options, layout);
    const found = options.force ? null : findContent(device, DILIGENCE, watch);
    if (found !== null) {
      throw new StoreError("foreign-data", `"${options.path}" holds ${found}: use --force to overwrite it`);
    }
    write(device, options, superblock, layout, watch);
    syncDirectory(options.path);
    return superblock;
  } catch (error) {
    // What was made here goes again; but not what someone else has put there meanwhile.
    if (created && !(error instanceof StoreError && error.code === "foreign-data")) unlinkPath(options.path);
    throw error;
  } finally {
    device.close();
  }
}

function openForFormat(path: string): { device: DeviceFile; created: boolean } {
  try {
    return { device: DeviceFile.open(path, { access: "exclusive" }), created: false };
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "not-found")) throw error;
  }
  try {
    return { device: DeviceFile.open(path, { access: "exclusive", create: true }), created: true };
  } catch (error) {
    if (!(error instanceof StoreError && error.code === "not-found")) throw error;
    throw new StoreError(
      "not-found",
      `"${path}": there is no directory "${dirname(path)}": create it, or name another path`,
    );
  }
}

function checkFits(device: DeviceFile, options: FormatLegOptions, layout: Layout): void {
  if (device.logicalBlockBytes > options.logicalBlockBytes) {
    throw new StoreError(
      "bad-request",
      `"${device.path}" has logical blocks of ${device.logicalBlockBytes} bytes, the pool of ` +
        `${options.logicalBlockBytes}: create the pool with blocks of ${device.logicalBlockBytes} bytes`,
    );
  }
  if (device.kind === "block-device" && device.sizeBytes < layout.deviceBytes) {
    throw new StoreError(
      "bad-request",
      `"${device.path}" is too small: it has ${device.sizeBytes} bytes (${formatBytes(device.sizeBytes)}), ` +
        `a leg of this pool needs ${layout.deviceBytes} (${formatBytes(layout.deviceBytes)}): ` +
        `${formatBytes(options.sizeBytes)} of data and ${formatBytes(layout.dataOffset)} for metadata`,
    );
  }
}

function planSuperblock(options: FormatLegOptions, layout: Layout): Superblock {
  return {
    poolUuid: options.poolUuid,
    poolName: options.poolName,
    legUuid: options.legUuid,
    legIndex: options.legIndex,
    sizeBytes: options.sizeBytes,
    chunkBytes: options.chunkBytes,
    logicalBlockBytes: options.logicalBlockBytes,
    extentBytes: options.extentBytes,
    hotExtentCount: options.hotExtentCount,
    epochOffset: layout.epochOffset,
    intentOffset: layout.intentOffset,
    mapOffset: layout.mapOffset,
    dataOffset: layout.dataOffset,
    createdMs: options.createdMs,
    ...(options.replacesUuid === undefined ? {} : { replacesUuid: options.replacesUuid }),
  };
}

function write(
  device: DeviceFile,
  options: FormatLegOptions,
  superblock: Superblock,
  layout: Layout,
  watch: WorkWatch,
): void {
  const tailBytes = device.sizeBytes - wholeBlocks(device);
  if (tailBytes > 0) device.resize(device.sizeBytes - tailBytes + device.logicalBlockBytes);
  // First of all the old superblock goes, if there is one: from here on it is nobody's leg.
  device.zero(0, Math.min(layout.dataOffset, wholeBlocks(device)), watch);
  device.sync();
  if (device.kind === "file") {
    const dataEnd = Math.min(layout.deviceBytes, wholeBlocks(device));
    const dataBytes = Math.max(dataEnd - layout.dataOffset, 0);
    if (options.zeroData && !device.isAllHole) device.zero(layout.dataOffset, dataBytes, watch);
    if (device.sizeBytes < layout.deviceBytes) device.resize(layout.deviceBytes);
  } else if (options.zeroData) {
    device.zero(layout.dataOffset, options.sizeBytes, watch);
  }
  const record = {
    shared: options.shared,
    promisedGeneration: options.shared.generation,
    promisedTo: "",
    isStable: true,
    bootId: "",
  };
  writeTwin(device, layout.epochOffset, encodeEpochRecord(record, options, FIRST_SEQUENCE));
  for (let i = 0; i < layout.intentBlockCount; i++) {
    const block = encodeIntentBlock(emptyIntentBlock(i), options, FIRST_SEQUENCE);
    writeTwin(device, intentBlockOffset(layout, i), block);
  }
  device.sync();
  writeTwin(device, SUPERBLOCK_OFFSET, encodeSuperblock(superblock, superblock, FIRST_SEQUENCE));
  device.sync();
}

/** Which leg {@link wipeLeg} unmakes, and how. */
export interface WipeOptions {
  /** Refuses any other leg of the pool. */
  readonly legUuid?: string;
  /** Removes the file too. */
  readonly removesFile?: boolean;
  readonly watch?: WorkWatch;
}

/**
 * Unmakes the leg at `path`: its metadata is zeroed. The data stays where it was, but nothing refers to it any more. The superblock goes last,
 * and after the file's name: as long as it can be found it says whose leg it is, so that after a crash the same call finishes.
 *
 * @param poolUuid refuses unless the leg belongs to this pool
 * @throws {StoreError} when it is absent, in use, no leg, or another one
 */
export function wipeLeg(path: string, poolUuid: string, options: WipeOptions = {}): void {
  const { legUuid, removesFile = false, watch } = options;
  const device = DeviceFile.open(path, { access: "exclusive" });
  try {
    const head = device.sizeBytes >= 2 * BLOCK_BYTES
      ? device.read(SUPERBLOCK_OFFSET, 2 * BLOCK_BYTES)
      : new Uint8Array(0);
    const pick = pickTwin(head.slice(0, BLOCK_BYTES), head.slice(BLOCK_BYTES), decodeSuperblock, null);
    if (!pick.ok) throw new StoreError("foreign-data", `"${path}" is left alone: ${pick.first.message}`);
    const superblock = pick.value;
    if (superblock.poolUuid !== poolUuid || superblock.legUuid !== (legUuid ?? superblock.legUuid)) {
      const whose = superblock.poolUuid === poolUuid ? `leg ${superblock.legUuid} of` : "it belongs to";
      throw new StoreError("foreign-data", `"${path}" is left alone: ${whose} pool "${superblock.poolName}"`);
    }
    const metadataEnd = Math.min(superblock.dataOffset, wholeBlocks(device));
    const superblockEnd = SUPERBLOCK_OFFSET + 2 * BLOCK_BYTES;
    device.zero(superblockEnd, Math.max(0, metadataEnd - superblockEnd), watch);
    device.sync();
    const removed = removesFile ? unlinkPath(path) : 0;
    device.zero(0, superblockEnd);
    device.sync();
    if (removed < 0) {
      const reason = errnoName(removed);
      throw new StoreError("device", `"${path}" is wiped, but cannot be removed: ${reason}. Remove it by hand`);
    }
    if (removesFile) syncDirectory(path);
  } finally {
    device.close();
  }
}

function writeTwin(device: DeviceFile, offset: number, block: Uint8Array): void {
  device.write(offset, block);
  device.write(offset + BLOCK_BYTES, block);
}

/** Bytes of the device up to its last whole logical block. */
function wholeBlocks(device: DeviceFile): number {
  return device.sizeBytes - device.sizeBytes % device.logicalBlockBytes;
}

/** Makes a new or removed name durable. */
function syncDirectory(path: string): void {
  const directory = dirname(path);
  const descriptor = openFile(directory, OpenFlag.READ_ONLY);
  const result = descriptor < 0 ? descriptor : syncFile(descriptor);
  if (descriptor >= 0) closeDescriptor(descriptor);
  if (result < 0) throw new StoreError("device", `Cannot flush the directory "${directory}": ${errnoName(result)}`);
}
