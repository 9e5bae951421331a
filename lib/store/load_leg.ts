/**
 * Reading a leg's records when it is opened, and repairing the copies of twins that a crash or the disk has damaged.
 *
 * A pool of any size opens fast: only the maps of legs that are out of sync are read, in big reads, and what is all
 * zeroes is passed over.
 *
 * @module
 */

import type { BlockDecoder, BlockIdentity } from "../disk_format/block_header.ts";
import { decodeEpochRecord } from "../disk_format/epoch_record.ts";
import { decodeIntentBlock, FREE_INTENT_SLOT, INTENT_SLOTS_PER_BLOCK } from "../disk_format/intent_block.ts";
import {
  intentBlockOffset,
  type Layout,
  layoutOf,
  mapPageOffset,
  SUPERBLOCK_OFFSET,
  TWIN_BYTES,
} from "../disk_format/layout.ts";
import { decodeMapPage, type MapPage, WORDS_PER_MAP_PAGE } from "../disk_format/map_page.ts";
import { BLOCK_BYTES, type EpochRecord, type Superblock } from "../disk_format/records.ts";
import { decodeSuperblock } from "../disk_format/superblock.ts";
import { pickTwin, type TwinPick } from "../disk_format/twin.ts";
import { formatBytes } from "../base/units.ts";
import { type DeviceFile, isAllZero, SCRATCH_BYTES } from "./device_file.ts";
import { StoreError } from "./store_error.ts";

/** A page of a dirty map as found. */
export interface LoadedMapPage {
  readonly page: number;
  /** One bit a chunk; all ones when damaged. */
  readonly words: Uint32Array;
  readonly sequence: number;
  /** Both copies are bad: all chunks of the page must be taken for dirty. */
  readonly damaged: boolean;
}

/** A leg's records. */
export interface LoadedLeg {
  readonly superblock: Superblock;
  readonly layout: Layout;
  readonly record: EpochRecord;
  /** Extents in the intent log, ascending, each once. */
  readonly intents: readonly number[];
  /**
   * The slots of all intent blocks, one after the other: as many as the superblock says, or more if more are in use. Who
   * goes on using the log keeps extents in their slots: moving one to another block would need both blocks written.
   */
  readonly intentSlots: Uint32Array;
  /** An intent block was bad in both copies: anything may have been mid-write. Its slots are read as free. */
  readonly intentsDamaged: boolean;
  /** The highest sequence of any record that was read: later ones must be higher. */
  readonly maxSequence: number;
  /** Sentences for the log: copies that were repaired, records that are lost. */
  readonly findings: readonly string[];
  /**
   * The dirty map kept for a leg: pages of the record's current incarnation, and damaged ones. None for a leg that
   * is in sync or not configured, or for the leg itself.
   */
  mapPages(legIndex: number): LoadedMapPage[];
}

/**
 * Reads the records of the leg on `device`, which is open for exclusive use and stays so.
 *
 * @throws {StoreError} "not-found" when there is no leg on it; "device" when its superblock or epoch record is lost,
 * needs a newer brmr, or does not fit the device, or a repair failed
 */
export function loadLeg(device: DeviceFile): LoadedLeg {
  return new LegLoader(device).load();
}

class LegLoader {
  readonly #device: DeviceFile;
  readonly #findings: string[] = [];
  #maxSequence = 0;

  constructor(device: DeviceFile) {
    this.#device = device;
  }

  load(): LoadedLeg {
    const superblock = this.#loadSuperblock();
    const layout = layoutOf(superblock);
    const { sizeBytes } = this.#device;
    if (sizeBytes < layout.deviceBytes) {
      throw new StoreError(
        "device",
        `"${this.#device.path}" has shrunk: it has ${sizeBytes} bytes (${formatBytes(sizeBytes)}), ` +
          `its leg needs ${layout.deviceBytes} (${formatBytes(layout.deviceBytes)})`,
      );
    }
    if (this.#device.logicalBlockBytes > superblock.logicalBlockBytes) {
      throw new StoreError(
        "device",
        `"${this.#device.path}" has logical blocks of ${this.#device.logicalBlockBytes} bytes, but its pool was made ` +
          `with ${superblock.logicalBlockBytes}: move the leg to a device with blocks of ${superblock.logicalBlockBytes}`,
      );
    }
    const record = this.#loadRecord(superblock, layout);
    const { slots, damaged } = this.#loadIntents(superblock, layout);
    const intents = [...new Set(slots)].filter((extent) => extent !== FREE_INTENT_SLOT).sort((a, b) => a - b);
    const maps = record.shared.legs.map((_, legIndex) => this.#loadMap(superblock, layout, record, legIndex));
    return {
      superblock,
      layout,
      record,
      intents,
      intentSlots: slots,
      intentsDamaged: damaged,
      maxSequence: this.#maxSequence,
      findings: this.#findings,
      mapPages: (legIndex) => maps[legIndex] ?? [],
    };
  }

  #loadSuperblock(): Superblock {
    const path = this.#device.path;
    if (this.#device.sizeBytes < TWIN_BYTES) {
      throw new StoreError("not-found", `"${path}" holds no brmr leg: it is too small`);
    }
    const pick = this.#readTwin(SUPERBLOCK_OFFSET, decodeSuperblock, null, "superblock");
    if (pick.ok) return pick.value;
    const isLeg = (fault: string) => fault !== "empty" && fault !== "magic";
    if (!isLeg(pick.first.fault) && !isLeg(pick.second.fault)) {
      throw new StoreError("not-found", `"${path}" holds no brmr leg`);
    }
    throw new StoreError("device", `The leg on "${path}" cannot be used. ${bothFaults(pick)}`);
  }

  #loadRecord(superblock: Superblock, layout: Layout): EpochRecord {
    const pick = this.#readTwin(layout.epochOffset, decodeEpochRecord, superblock, "epoch record");
    if (pick.ok) return pick.value;
    throw new StoreError(
      "device",
      `The leg on "${this.#device.path}" cannot be used: nobody can tell how far it got. ${bothFaults(pick)}. ` +
        `Replace it: the other legs have its data`,
    );
  }

  #loadIntents(superblock: Superblock, layout: Layout): { slots: Uint32Array; damaged: boolean } {
    const slots = new Uint32Array(layout.intentBlockCount * INTENT_SLOTS_PER_BLOCK).fill(FREE_INTENT_SLOT);
    let damaged = false;
    for (let i = 0; i < layout.intentBlockCount; i++) {
      const decode = expecting(decodeIntentBlock, (value) => value.blockIndex === i);
      const pick = this.#readTwin(intentBlockOffset(layout, i), decode, superblock, `intent block ${i}`);
      if (pick.ok) {
        slots.set(pick.value.slots, i * INTENT_SLOTS_PER_BLOCK);
      } else if (pick.first.fault === "version" || pick.first.fault === "features") {
        throw new StoreError("device", `The leg on "${this.#device.path}" cannot be used. ${pick.first.message}`);
      } else {
        // All intent blocks were written when the leg was made: one that is not there is lost.
        damaged = true;
        this.#findings.push(`Intent block ${i} of "${this.#device.path}" is lost. ${bothFaults(pick)}`);
      }
    }
    let inUse = slots.length;
    while (inUse > superblock.hotExtentCount && slots[inUse - 1] === FREE_INTENT_SLOT) inUse--;
    return { slots: slots.slice(0, inUse), damaged };
  }

  #loadMap(superblock: Superblock, layout: Layout, record: EpochRecord, legIndex: number): LoadedMapPage[] {
    const entry = record.shared.legs[legIndex] ?? null;
    const inSync = (record.shared.inSyncMask & (1 << legIndex)) !== 0;
    if (entry === null || inSync || legIndex === superblock.legIndex) return [];
    const pages: LoadedMapPage[] = [];
    const pagesPerRead = SCRATCH_BYTES / TWIN_BYTES;
    for (let first = 0; first < layout.mapPageCount; first += pagesPerRead) {
      const count = Math.min(pagesPerRead, layout.mapPageCount - first);
      const bytes = this.#tryRead(mapPageOffset(layout, legIndex, first), count * TWIN_BYTES);
      if (bytes !== null && isAllZero(bytes)) continue;
      // A copy: reading and repairing single pages uses the same memory again.
      const run = bytes === null ? null : bytes.slice();
      for (let i = 0; i < count; i++) {
        const twin = run === null ? null : run.subarray(i * TWIN_BYTES, (i + 1) * TWIN_BYTES);
        if (twin !== null && isAllZero(twin)) continue;
        const page = this.#loadPage(superblock, layout, legIndex, first + i, entry.mapIncarnation, twin);
        if (page !== null) pages.push(page);
      }
    }
    return pages;
  }

  #loadPage(
    superblock: Superblock,
    layout: Layout,
    legIndex: number,
    page: number,
    mapIncarnation: number,
    twin: Uint8Array | null,
  ): LoadedMapPage | null {
    const name = `page ${page} of the dirty map of leg ${legIndex}`;
    const decode = expecting<MapPage>(decodeMapPage, (value) => value.page === page && value.legIndex === legIndex);
    const pick = this.#readTwin(mapPageOffset(layout, legIndex, page), decode, superblock, name, twin);
    if (pick.ok) {
      const isCurrent = pick.value.mapIncarnation === mapIncarnation;
      return isCurrent ? { page, words: pick.value.words, sequence: pick.sequence, damaged: false } : null;
    }
    if (pick.neverWritten) return null;
    if (pick.first.fault === "version" || pick.first.fault === "features") {
      throw new StoreError("device", `The leg on "${this.#device.path}" cannot be used. ${pick.first.message}`);
    }
    this.#findings.push(
      `The ${name} on "${this.#device.path}" is lost, all of it counts as dirty. ${bothFaults(pick)}`,
    );
    return { page, words: new Uint32Array(WORDS_PER_MAP_PAGE).fill(0xffffffff), sequence: 0, damaged: true };
  }

  /** Reads both copies (unless given), picks one, and repairs the other. */
  #readTwin<T>(
    offset: number,
    decode: BlockDecoder<T>,
    identity: BlockIdentity | null,
    name: string,
    twin: Uint8Array | null = null,
  ): TwinPick<T> {
    const first = twin?.subarray(0, BLOCK_BYTES) ?? this.#tryRead(offset, BLOCK_BYTES)?.slice() ?? null;
    const second = twin?.subarray(BLOCK_BYTES) ?? this.#tryRead(offset + BLOCK_BYTES, BLOCK_BYTES)?.slice() ?? null;
    const pick = pickTwin(first ?? UNREADABLE, second ?? UNREADABLE, readable(decode), identity);
    if (!pick.ok) return pick;
    this.#maxSequence = Math.max(this.#maxSequence, pick.sequence);
    const good = (pick.copy === 0 ? first : second)!;
    for (const copy of pick.repair) {
      this.#device.write(offset + copy * BLOCK_BYTES, good);
      this.#device.sync();
      this.#findings.push(
        `Copy ${copy + 1} of the ${name} on "${this.#device.path}" was bad or older and was repaired`,
      );
    }
    return pick;
  }

  /** Null when the device cannot read it: then the other copy, or suspicion, takes over. */
  #tryRead(offset: number, lengthBytes: number): Uint8Array | null {
    try {
      return this.#device.read(offset, lengthBytes);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (lengthBytes === BLOCK_BYTES) this.#findings.push(error.message);
      return null;
    }
  }
}

/** Stands for a copy that could not be read. */
const UNREADABLE = new Uint8Array(0);

function readable<T>(decode: BlockDecoder<T>): BlockDecoder<T> {
  return (block, identity) =>
    block === UNREADABLE ? { ok: false, fault: "crc", message: "The block cannot be read" } : decode(block, identity);
}

/** A block that is whole but belongs elsewhere was written to the wrong place: as bad as a damaged one. */
function expecting<T>(decode: BlockDecoder<T>, isRight: (value: T) => boolean): BlockDecoder<T> {
  return (block, identity) => {
    const result = decode(block, identity);
    if (!result.ok || isRight(result.value)) return result;
    return { ok: false, fault: "content", message: "The block belongs to another place of the same leg" };
  };
}

function bothFaults<T>(pick: TwinPick<T> & { ok: false }): string {
  const { first, second } = pick;
  if (first.message === second.message) return first.message;
  return `${first.message}; its second copy: ${second.message}`;
}
