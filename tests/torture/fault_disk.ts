/**
 * A disk in memory with a volatile cache, and with everything that goes wrong with disks: it hangs, is slow, fails I/O by
 * chance, is full, has sectors that cannot be read, and loses what was not flushed when the power fails.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";

/** Size of a sector: what a power failure keeps or loses as one. */
export const DISK_SECTOR_BYTES = 512;

/** What goes wrong at the moment. */
export interface DiskTrouble {
  /** Requests are kept and answered only when it is over. */
  readonly isHanging: boolean;
  /** Every request takes so much longer, in milliseconds. */
  readonly delayMs: number;
  /** Chance that a read, a write or zeroing, a flush fails. */
  readonly readFailure: number;
  readonly writeFailure: number;
  readonly flushFailure: number;
  /** NBD error number of what fails by chance: 5 is EIO, 28 ENOSPC. */
  readonly errorNumber: number;
}

/** Nothing goes wrong. */
export const NO_TROUBLE: DiskTrouble = {
  isHanging: false,
  delayMs: 0,
  readFailure: 0,
  writeFailure: 0,
  flushFailure: 0,
  errorNumber: 5,
};

const EIO = 5;

/** One disk. Methods that fail return the NBD error number. */
export class FaultDisk {
  readonly sizeBytes: number;
  readonly #current: Uint8Array;
  readonly #stable: Uint8Array;
  readonly #isDirty: Uint8Array;
  #dirty: number[] = [];
  readonly #bad = new Set<number>();
  readonly #prng: Prng;
  trouble: DiskTrouble = NO_TROUBLE;

  constructor(sizeBytes: number, prng: Prng) {
    this.sizeBytes = sizeBytes;
    this.#current = new Uint8Array(sizeBytes);
    this.#stable = new Uint8Array(sizeBytes);
    this.#isDirty = new Uint8Array(sizeBytes / DISK_SECTOR_BYTES);
    this.#prng = prng;
  }

  /** What a read returns, or an error number. The bytes are good until the next write. */
  read(offset: number, lengthBytes: number): Uint8Array | number {
    if (this.#prng.chance(this.trouble.readFailure)) return this.trouble.errorNumber;
    if (this.#bad.size > 0) {
      const end = (offset + lengthBytes) / DISK_SECTOR_BYTES;
      for (let sector = offset / DISK_SECTOR_BYTES; sector < end; sector++) if (this.#bad.has(sector)) return EIO;
    }
    return this.#current.subarray(offset, offset + lengthBytes);
  }

  /** Writes `bytes`. One that fails may have written any part of them. */
  write(offset: number, bytes: Uint8Array, isFua: boolean): number {
    return this.#change(offset, bytes.length, isFua, (at, end) => {
      this.#current.set(bytes.subarray(at - offset, end - offset), at);
    });
  }

  /** Writes zeroes. */
  zero(offset: number, lengthBytes: number, isFua: boolean): number {
    return this.#change(offset, lengthBytes, isFua, (at, end) => this.#current.fill(0, at, end));
  }

  /** Makes stable what was written before. */
  flush(): number {
    if (this.#prng.chance(this.trouble.flushFailure)) return this.trouble.errorNumber;
    for (const sector of this.#dirty) this.#settle(sector);
    this.#dirty = [];
    return 0;
  }

  /** Each sector that was not flushed keeps its newest content, or falls back to what was flushed last. */
  losePower(): void {
    const fate = this.#prng.below(3); // all kept, all lost, mixed
    for (const sector of this.#dirty) {
      if (this.#isDirty[sector] === 0) continue;
      if (fate === 0 || (fate === 2 && this.#prng.chance(0.5))) {
        this.#settle(sector);
        continue;
      }
      const at = sector * DISK_SECTOR_BYTES;
      this.#current.set(this.#stable.subarray(at, at + DISK_SECTOR_BYTES), at);
      this.#isDirty[sector] = 0;
    }
    this.#dirty = [];
  }

  /** From now on these sectors cannot be read, until they are written, or all is healed. */
  spoil(firstSector: number, sectorCount: number): void {
    for (let i = 0; i < sectorCount; i++) this.#bad.add(firstSector + i);
  }

  /** The trouble is over. */
  heal(): void {
    this.trouble = NO_TROUBLE;
    this.#bad.clear();
  }

  /** A copy of what the disk holds, for those who compare. */
  copy(offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.#current.slice(offset, offset + lengthBytes) as Uint8Array<ArrayBuffer>;
  }

  #change(offset: number, lengthBytes: number, isFua: boolean, apply: (at: number, end: number) => void): number {
    const fails = this.#prng.chance(this.trouble.writeFailure);
    const wholeSectors = lengthBytes / DISK_SECTOR_BYTES;
    const done = fails ? this.#prng.below(wholeSectors + 1) * DISK_SECTOR_BYTES : lengthBytes;
    if (done > 0) apply(offset, offset + done);
    const end = (offset + done) / DISK_SECTOR_BYTES;
    for (let sector = offset / DISK_SECTOR_BYTES; sector < end; sector++) {
      this.#bad.delete(sector);
      if (this.#isDirty[sector] === 0) {
        this.#isDirty[sector] = 1;
        this.#dirty.push(sector);
      }
    }
    if (fails) return this.trouble.errorNumber;
    if (isFua) { for (let sector = offset / DISK_SECTOR_BYTES; sector < end; sector++) this.#settle(sector); }
    return 0;
  }

  #settle(sector: number): void {
    if (this.#isDirty[sector] === 0) return;
    const at = sector * DISK_SECTOR_BYTES;
    this.#stable.set(this.#current.subarray(at, at + DISK_SECTOR_BYTES), at);
    this.#isDirty[sector] = 0;
  }
}
