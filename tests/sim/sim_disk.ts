/**
 * The backing device of one leg: sectors with a volatile cache in front of stable storage, and metadata blocks.
 *
 * A data sector holds an integer. `current` is what a read sees; `stable` is what survives a power loss for certain.
 * An in-flight write may change its sectors at any moment between submission and completion; when the process or the
 * power fails meanwhile, each sector of it lands or does not. A power loss leaves each unflushed sector at its stable
 * value or at the newer one, at random. Metadata blocks are written with FUA: durable when done, torn in 512-byte
 * pieces when the power fails or the process dies meanwhile.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";
import { happens, under } from "./chance.ts";
import { BLOCK_BYTES } from "../../lib/disk_format/records.ts";
import { SECTOR_BYTES, type Slot } from "./slots.ts";

/** Longer than anything takes on a disk that is well, in ms. */
const LONG_MS = 2000;

/** What one disk operation does. */
export const DiskOp = { READ: 0, WRITE: 1, ZERO: 2, FLUSH: 3, METADATA: 4 } as const;

/** Values that nobody wrote: a buffer or sector whose content is undefined. */
export const GARBAGE = -1;

/** One operation on its way. Reused. */
export class DiskOperation {
  op = 0;
  token = 0;
  slot: Slot | null = null;
  firstSector = 0;
  sectorCount = 0;
  fua = false;
  /** Sectors from here on are transferred at completion; those before it were at submission. */
  split = 0;
  /** METADATA: device offset, and the block. */
  offset = 0;
  block: Uint8Array | null = null;
  /** METADATA: which copy is being written. */
  copy = 0;
  /** FLUSH: the write count when it was submitted. */
  flushedTo = 0;
  /** When it was given to the device. */
  submittedMs = 0;
  endsMs = 0;
  /** Place in the list of what is in flight. */
  listIndex = -1;
}

/** One device. Outlives the processes that use it. */
export class SimDisk {
  readonly legIndex: number;
  current = new Int32Array(0);
  stable = new Int32Array(0);
  /** Number of the write that gave a sector its current, and its stable value. */
  currentWrite = new Float64Array(0);
  stableWrite = new Float64Array(0);
  sectorCount = 0;
  /** Written sectors that may not be stable. */
  dirtyCount = 0;
  dirtySectors = new Int32Array(0);
  #isListed = new Uint8Array(0);
  /** Counts writes, to know what a flush covers. */
  #writes = 0;
  #flushesInFlight = 0;
  /** 4 KiB blocks by device offset. A block that was never written is not here. */
  readonly blocks = new Map<number, Uint8Array>();
  readonly inFlight: DiskOperation[] = [];
  /** Kinds of operations that fail the next time, once each. */
  readonly failNext: number[] = [];
  /** Scenarios: the next operation of a kind takes so much longer. */
  readonly delayNext = new Map<number, number>();
  /** What begins before this time ends after it: the disk hangs under a process that goes on. */
  hungUntilMs = 0;
  #spare: DiskOperation[] = [];
  /** Sectors that cannot be read until they are written again. */
  readonly badSectors = new Set<number>();
  /** No space is left: what was never written cannot be. The backing device is a sparse file. */
  isFull = false;
  /** Grows whenever metadata on the device changes. */
  metadataVersion = 0;

  constructor(legIndex: number) {
    this.legIndex = legIndex;
  }

  /** An empty device of this size. */
  reset(sectorCount: number): void {
    if (this.current.length < sectorCount) {
      this.current = new Int32Array(sectorCount);
      this.stable = new Int32Array(sectorCount);
      this.currentWrite = new Float64Array(sectorCount);
      this.stableWrite = new Float64Array(sectorCount);
      this.dirtySectors = new Int32Array(sectorCount);
      this.#isListed = new Uint8Array(sectorCount);
    } else {
      this.current.fill(0, 0, sectorCount);
      this.stable.fill(0, 0, sectorCount);
      this.currentWrite.fill(0, 0, sectorCount);
      this.stableWrite.fill(0, 0, sectorCount);
      this.#isListed.fill(0);
    }
    this.sectorCount = sectorCount;
    this.dirtyCount = 0;
    this.#writes = 0;
    this.#flushesInFlight = 0;
    this.blocks.clear();
    this.inFlight.length = 0;
    this.failNext.length = 0;
    this.delayNext.clear();
    this.hungUntilMs = 0;
    this.badSectors.clear();
    this.isFull = false;
    this.metadataVersion++;
  }

  /** Whether it keeps someone waiting: a slow disk may have begun something before it was well again. */
  hangs(nowMs: number): boolean {
    return nowMs < this.hungUntilMs || this.inFlight.some(({ endsMs }) => endsMs - nowMs > LONG_MS);
  }

  /** A fresh operation, in the list of what is in flight. */
  begin(op: number, token: number): DiskOperation {
    const operation = this.#spare.pop() ?? new DiskOperation();
    operation.op = op;
    operation.token = token;
    operation.slot = null;
    operation.fua = false;
    operation.block = null;
    operation.copy = 0;
    operation.listIndex = this.inFlight.length;
    this.inFlight.push(operation);
    return operation;
  }

  /** Takes an operation off the list. Its object may be reused after the next `begin`. */
  end(operation: DiskOperation): void {
    if (operation.op === DiskOp.FLUSH) this.#flushesInFlight--;
    const last = this.inFlight.pop()!;
    if (last !== operation) {
      this.inFlight[operation.listIndex] = last;
      last.listIndex = operation.listIndex;
    }
    this.#spare.push(operation);
  }

  /** The operation reaches the device: what takes effect at once, does. */
  submit(operation: DiskOperation, prng: Prng): void {
    if (operation.op === DiskOp.FLUSH) {
      operation.flushedTo = this.#writes;
      this.#flushesInFlight++;
      return;
    }
    if (operation.op === DiskOp.METADATA) return;
    const mode = under(prng, 4);
    operation.split = mode === 0 ? operation.sectorCount : mode === 1 ? under(prng, operation.sectorCount + 1) : 0;
    this.#transfer(operation, 0, operation.split);
  }

  /** The operation is done, whole. A metadata operation has to be finished twice, once a copy. */
  finish(operation: DiskOperation, prng: Prng): void {
    switch (operation.op) {
      case DiskOp.FLUSH:
        this.#flush(operation.flushedTo);
        break;
      case DiskOp.METADATA:
        this.writeBlock(operation.offset + operation.copy * BLOCK_BYTES, operation.block!);
        break;
      default:
        this.#transfer(operation, operation.split, operation.sectorCount);
        if (operation.op !== DiskOp.READ) this.#settle(operation, prng);
    }
  }

  /** The operation fails, or is cut short by the death of its process: any part of it may have happened. */
  tear(operation: DiskOperation, prng: Prng): void {
    switch (operation.op) {
      case DiskOp.READ:
      case DiskOp.FLUSH:
        break;
      case DiskOp.METADATA:
        if (operation.copy >= 0) this.#tearBlock(operation, prng); // else it waits and has not begun
        break;
      default: {
        const fate = under(prng, 3); // whole, not at all, torn
        if (fate === 1) break;
        for (let i = operation.split; i < operation.sectorCount; i++) {
          if (fate === 0 || happens(prng, 0.5)) this.#transfer(operation, i, i + 1);
        }
      }
    }
  }

  /** The process died: what it had in flight happens in part, without `prng` not at all. */
  tearAll(prng: Prng | null): void {
    for (const operation of this.inFlight) {
      if (prng !== null) this.tear(operation, prng);
      operation.slot = null;
      this.#spare.push(operation);
    }
    this.inFlight.length = 0;
    this.#flushesInFlight = 0;
  }

  /** The power failed: unflushed sectors keep their newest value or fall back; without `prng` all fall back. Call `tearAll` first. */
  losePower(prng: Prng | null): void {
    const keep = prng === null ? 1 : under(prng, 3); // all kept, all lost, mixed
    for (let i = 0; i < this.dirtyCount; i++) {
      const sector = this.dirtySectors[i];
      this.#isListed[sector] = 0;
      if (this.stableWrite[sector] === this.currentWrite[sector]) continue;
      if (keep === 0 || (keep === 2 && happens(prng as Prng, 0.5))) {
        this.stable[sector] = this.current[sector];
        this.stableWrite[sector] = this.currentWrite[sector];
      } else {
        this.current[sector] = this.stable[sector];
        this.currentWrite[sector] = this.stableWrite[sector];
      }
    }
    this.dirtyCount = 0;
  }

  /** Another disk comes into this one's place, with who knows what on it. */
  exchange(): void {
    this.reset(this.sectorCount);
    this.current.fill(GARBAGE, 0, this.sectorCount);
    this.stable.fill(GARBAGE, 0, this.sectorCount);
  }

  /** Whether a write needs space that is not there. */
  lacksSpaceFor(operation: DiskOperation): boolean {
    if (!this.isFull) return false;
    if (operation.op === DiskOp.METADATA) return !this.blocks.has(operation.offset + operation.copy * BLOCK_BYTES);
    if (operation.op !== DiskOp.WRITE) return false;
    for (let i = 0; i < operation.sectorCount; i++) {
      // A write that has taken effect at its submission has found its space then.
      if (i >= operation.split && this.currentWrite[operation.firstSector + i] === 0) return true;
    }
    return false;
  }

  /** Whether a read meets a sector that cannot be read. */
  isUnreadable(operation: DiskOperation): boolean {
    if (operation.op !== DiskOp.READ || this.badSectors.size === 0) return false;
    for (let i = 0; i < operation.sectorCount; i++) {
      if (this.badSectors.has(operation.firstSector + i)) return true;
    }
    return false;
  }

  /** The 4 KiB at a device offset; zeroes where nothing was written. */
  block(offset: number): Uint8Array {
    return this.blocks.get(offset) ?? ZERO_BLOCK;
  }

  writeBlock(offset: number, block: Uint8Array): void {
    this.blocks.set(offset, block);
    this.metadataVersion++;
  }

  #transfer(operation: DiskOperation, from: number, to: number): void {
    const slot = operation.slot;
    const first = operation.firstSector;
    if (operation.op === DiskOp.READ) {
      for (let i = from; i < to; i++) slot!.values[i] = this.current[first + i];
      return;
    }
    if (from < to) this.#writes++;
    for (let i = from; i < to; i++) {
      const sector = first + i;
      if (this.#flushesInFlight > 0) {
        // What a flush under way may have to cover is not overwritten in the cache before it is stable.
        this.stable[sector] = this.current[sector];
        this.stableWrite[sector] = this.currentWrite[sector];
      }
      this.badSectors.delete(sector);
      this.current[sector] = operation.op === DiskOp.ZERO ? 0 : slot!.values[i];
      this.currentWrite[sector] = this.#writes;
      if (this.#isListed[sector] === 0) {
        this.#isListed[sector] = 1;
        this.dirtySectors[this.dirtyCount++] = sector;
      }
    }
  }

  /** A finished write: durable when asked, and otherwise sometimes by itself. */
  #settle(operation: DiskOperation, prng: Prng): void {
    if (!operation.fua && under(prng, 8) !== 0) return;
    const end = operation.firstSector + operation.sectorCount;
    for (let sector = operation.firstSector; sector < end; sector++) {
      this.stable[sector] = this.current[sector];
      this.stableWrite[sector] = this.currentWrite[sector];
    }
  }

  #flush(flushedTo: number): void {
    let kept = 0;
    for (let i = 0; i < this.dirtyCount; i++) {
      const sector = this.dirtySectors[i];
      if (this.currentWrite[sector] <= flushedTo) {
        this.stable[sector] = this.current[sector];
        this.stableWrite[sector] = this.currentWrite[sector];
      }
      if (this.currentWrite[sector] === this.stableWrite[sector]) this.#isListed[sector] = 0;
      else this.dirtySectors[kept++] = sector;
    }
    this.dirtyCount = kept;
  }

  #tearBlock(operation: DiskOperation, prng: Prng): void {
    const offset = operation.offset + operation.copy * BLOCK_BYTES;
    const fate = under(prng, 3);
    if (fate === 0) return;
    if (fate === 1) return this.writeBlock(offset, operation.block!);
    const torn = this.block(offset).slice();
    for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) {
      if (happens(prng, 0.5)) torn.set(operation.block!.subarray(at, at + SECTOR_BYTES), at);
    }
    this.writeBlock(offset, torn);
  }
}

const ZERO_BLOCK = new Uint8Array(BLOCK_BYTES);
