/**
 * A backing device, read and written synchronously: for probing, formatting and loading, before the data path begins
 * and after it has ended. The data path takes over the open descriptor (uring_block_store.ts), so that the lock taken
 * here is never let go in between.
 *
 * Opened O_DIRECT where the file system can; where it cannot (some overlay and network file systems), buffered: what is
 * durable is then still what was synced.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import {
  allocateFile,
  AllocateMode,
  closeDescriptor,
  type FileStatus,
  fileSystemOf,
  isAbsent,
  lockExclusive,
  openFile,
  OpenFlag,
  readAt,
  seekData,
  seekHole,
  statusOf,
  syncFile,
  truncateFile,
  writeAt,
} from "../../ffi/libc/file.ts";
import { mapAnonymous, type MappedMemory } from "../../ffi/libc/memory.ts";
import { assert } from "../base/assert.ts";
import { StoreError } from "./store_error.ts";
import { UNWATCHED, type WorkWatch } from "./work_watch.ts";

/** Most bytes read or written at once. */
export const SCRATCH_BYTES = 1024 * 1024;
/** One fallocate call covers at most this much, so that a slow device does not hold the thread in one endless call. */
const ZERO_STEP_BYTES = 1024 * 1024 * 1024;

/** O_PATH: a descriptor for looking only. */
const OPEN_PATH_ONLY = 0o10000000;

const ZEROES = new Uint8Array(SCRATCH_BYTES);

// LIFETIME: the process; the kernel reads and writes it only during the synchronous calls below.
let scratch: { memory: MappedMemory; bytes: Uint8Array<ArrayBuffer> } | undefined;

function scratchMemory(): { memory: MappedMemory; bytes: Uint8Array<ArrayBuffer> } {
  if (scratch === undefined) {
    const memory = mapAnonymous(SCRATCH_BYTES);
    scratch = { memory, bytes: new Uint8Array(memory.buffer) };
  }
  return scratch;
}

/** Whether all of `bytes` is zero. */
export function isAllZero(bytes: Uint8Array): boolean {
  for (let start = 0; start < bytes.length; start += SCRATCH_BYTES) {
    const end = Math.min(start + SCRATCH_BYTES, bytes.length);
    if (Buffer.compare(bytes.subarray(start, end), ZEROES.subarray(0, end - start)) !== 0) return false;
  }
  return true;
}

/** How a device is opened. */
export interface OpenOptions {
  /**
   * "read": look only, no lock. "exclusive": read and write; no other process may have it, nor the system (mounted, part
   * of an array).
   */
  readonly access: "read" | "exclusive";
  /** Creates an empty file if the path does not exist. */
  readonly create?: boolean;
}

/** ext2/3/4, XFS, btrfs: magic numbers of linux/magic.h and xfs_sb.h. */
const DURABLE_FILE_SYSTEMS = new Set([0xef53, 0x58465342, 0x9123683e]);

/** An open backing device. */
export class DeviceFile {
  readonly path: string;
  readonly kind: "file" | "block-device";
  readonly descriptor: number;
  /** Smallest I/O and its alignment: 512 or 4096. */
  readonly logicalBlockBytes: number;
  /** Whether reads and writes bypass the page cache. */
  readonly direct: boolean;
  /**
   * Whether a write that asks for stable storage (RWF_DSYNC) gets it. Block devices and the common disk file systems see to it also when
   * the write ends asynchronously; FUSE ends such a write without any flush, and of others we do not know: there a flush must follow.
   */
  readonly keepsDurableWrites: boolean;
  #sizeBytes: number;
  #allocatedBytes: number;
  #open = true;

  /** Opens `path`. Throws {@link StoreError}: absent, in use, not a file or block device, or what the system said. */
  static open(path: string, options: OpenOptions): DeviceFile {
    const access = options.access === "read" ? OpenFlag.READ_ONLY : OpenFlag.READ_WRITE;
    const flags = access | (options.create === true ? OpenFlag.CREATE : 0);
    refuseOtherKinds(path);
    const opened = openDirect(path, flags);
    let descriptor = opened.descriptor;
    try {
      const status = statusOf(descriptor);
      if (typeof status === "number") throw new StoreError("device", `Cannot examine "${path}": ${errnoName(status)}`);
      refuseOtherKind(path, status.kind);
      if (options.access === "exclusive") {
        if (status.kind === "block-device") descriptor = claimBlockDevice(path, flags, opened);
        lock(path, descriptor);
      }
      return new DeviceFile(path, descriptor, opened.direct, status);
    } catch (error) {
      closeDescriptor(descriptor);
      throw error;
    }
  }

  private constructor(
    path: string,
    descriptor: number,
    direct: boolean,
    status: FileStatus,
  ) {
    this.path = path;
    this.kind = status.kind as "file" | "block-device";
    this.descriptor = descriptor;
    this.direct = direct;
    this.#sizeBytes = status.sizeBytes;
    this.#allocatedBytes = status.allocatedBytes;
    this.logicalBlockBytes = logicalBlockOf(path, direct, status);
    this.keepsDurableWrites = status.kind === "block-device" || DURABLE_FILE_SYSTEMS.has(fileSystemOf(descriptor));
  }

  /** Bytes of the file, or capacity of the device. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Whether it is a file without any data, all of it a hole: it reads as zeroes, with no need to look. */
  get isAllHole(): boolean {
    return this.kind === "file" && this.#allocatedBytes === 0;
  }

  /**
   * Where there may be anything but zeroes before byte `end`, in order, as whole logical blocks: all but the holes of a file; all of a
   * device. `end`: a multiple of the logical block.
   */
  dataRuns(end: number): { start: number; end: number }[] {
    const runs: { start: number; end: number }[] = [];
    const block = this.logicalBlockBytes;
    for (let at = 0; at < end;) {
      const found = this.kind === "file" ? seekData(this.descriptor, at) : at;
      if (found === -Errno.ENXIO) break;
      // A file system that does not know its holes: everything may be data.
      const start = found < 0 ? at : found - found % block;
      const hole = found < 0 || this.kind !== "file" ? end : seekHole(this.descriptor, found);
      at = hole <= start ? end : Math.min(end, Math.ceil(hole / block) * block);
      if (start < at) runs.push({ start, end: at });
    }
    return runs;
  }

  /**
   * Reads `lengthBytes` (at most {@link SCRATCH_BYTES}) at `offset`, both multiples of the logical block. The bytes are
   * good until the next call on any device. Throws {@link StoreError} on an I/O error.
   */
  read(offset: number, lengthBytes: number): Uint8Array {
    const { memory, bytes } = scratchMemory();
    this.#checkRange(offset, lengthBytes);
    for (let done = 0; done < lengthBytes;) {
      const count = readAt(this.descriptor, memory.address + done, lengthBytes - done, offset + done);
      if (count === -Errno.EINTR) continue;
      if (count < 0) throw this.#ioError("read", offset + done, errnoName(count));
      if (count === 0) throw this.#ioError("read", offset + done, "it ends there; has it shrunk?");
      done += count;
    }
    return bytes.subarray(0, lengthBytes);
  }

  /** Writes `bytes` at `offset`. Not durable before {@link sync}. Throws {@link StoreError} on an I/O error. */
  write(offset: number, bytes: Uint8Array): void {
    const { memory, bytes: copy } = scratchMemory();
    this.#checkRange(offset, bytes.length);
    copy.set(bytes);
    for (let done = 0; done < bytes.length;) {
      const count = writeAt(this.descriptor, memory.address + done, bytes.length - done, offset + done);
      if (count === -Errno.EINTR) continue;
      if (count < 0) throw this.#ioError("write", offset + done, errnoName(count));
      if (count === 0) throw this.#ioError("write", offset + done, "nothing was written");
      done += count;
    }
  }

  /**
   * Makes a range read as zeroes, freeing its space where possible, but not that of a file whose space was set aside in
   * full. Throws {@link StoreError} on an I/O error, and what the watch throws.
   */
  zero(offset: number, lengthBytes: number, watch: WorkWatch = UNWATCHED): void {
    const keepsSpace = this.kind === "file" && this.#allocatedBytes >= this.#sizeBytes;
    for (let start = offset; start < offset + lengthBytes;) {
      watch.check();
      const step = Math.min(ZERO_STEP_BYTES, offset + lengthBytes - start);
      const punched = !keepsSpace && this.#allocate(AllocateMode.PUNCH_HOLE, start, step);
      if (!punched && !this.#allocate(AllocateMode.ZERO_RANGE, start, step)) {
        for (let at = start; at < start + step; at += SCRATCH_BYTES) {
          watch.check();
          this.write(at, ZEROES.subarray(0, Math.min(SCRATCH_BYTES, start + step - at)));
        }
      }
      start += step;
    }
  }

  /** Sets a file's size; what is added is a hole. Throws {@link StoreError}: too large for the file system, and so on. */
  resize(sizeBytes: number): void {
    assert(this.kind === "file", "Only a file changes its size", this.path);
    const result = truncateFile(this.descriptor, sizeBytes);
    if (result < 0) {
      const hint = result === -Errno.EFBIG ? "; its file system has no files of that size: choose another" : "";
      throw new StoreError(
        "device",
        `Cannot give "${this.path}" a size of ${sizeBytes} bytes: ${errnoName(result)}${hint}`,
      );
    }
    this.#sizeBytes = sizeBytes;
  }

  /** Everything written is on stable storage afterwards. Throws {@link StoreError} on an I/O error. */
  sync(): void {
    const result = syncFile(this.descriptor);
    if (result < 0) throw new StoreError("device", `Cannot flush "${this.path}": ${errnoName(result)}`);
  }

  /** Closes it and gives up the lock. */
  close(): void {
    assert(this.#open, "A device is closed once", this.path);
    this.#open = false;
    closeDescriptor(this.descriptor);
  }

  #allocate(mode: number, offset: number, lengthBytes: number): boolean {
    const result = allocateFile(this.descriptor, mode, offset, lengthBytes);
    if (result >= 0) return true;
    if (isUnsupported(result)) return false;
    throw this.#ioError("zero", offset, errnoName(result));
  }

  #checkRange(offset: number, lengthBytes: number): void {
    assert(lengthBytes <= SCRATCH_BYTES, "At most 1 MiB at once", lengthBytes);
    assert(offset % this.logicalBlockBytes === 0, "An aligned offset", offset);
    assert(lengthBytes % this.logicalBlockBytes === 0, "An aligned length", lengthBytes);
  }

  #ioError(verb: string, offset: number, reason: string): StoreError {
    return new StoreError("device", `Cannot ${verb} "${this.path}" at byte ${offset}: ${reason}`);
  }
}

/** Whether an errno of fallocate means: not with this mode, here. */
export function isUnsupported(result: number): boolean {
  return result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS || result === -Errno.ENODEV;
}

/**
 * Looks at the path without opening what is there (opening a pipe would wait for its other end). What is absent or
 * cannot be looked at is left to the open proper.
 */
function refuseOtherKinds(path: string): void {
  const descriptor = openFile(path, OPEN_PATH_ONLY);
  if (descriptor < 0) return;
  const status = statusOf(descriptor);
  closeDescriptor(descriptor);
  if (typeof status !== "number") refuseOtherKind(path, status.kind);
}

function refuseOtherKind(path: string, kind: FileStatus["kind"]): void {
  if (kind === "file" || kind === "block-device") return;
  const what = kind === "other" ? "neither a file nor a block device" : `a ${kind}`;
  throw new StoreError("bad-request", `"${path}" is ${what}: name a file or a block device`);
}

function openDirect(path: string, flags: number): { descriptor: number; direct: boolean } {
  let direct = true;
  let descriptor = openFile(path, flags | OpenFlag.DIRECT);
  if (descriptor === -Errno.EINVAL) {
    direct = false;
    descriptor = openFile(path, flags);
  }
  if (descriptor >= 0) return { descriptor, direct };
  if (isAbsent(descriptor)) throw new StoreError("not-found", `"${path}" does not exist`);
  if (descriptor === -Errno.EISDIR) {
    throw new StoreError("bad-request", `"${path}" is a directory: name a file in it, or a block device`);
  }
  if (descriptor === -Errno.EACCES || descriptor === -Errno.EPERM) {
    throw new StoreError("device", `No permission to open "${path}": ${errnoName(descriptor)}`);
  }
  throw new StoreError("device", `Cannot open "${path}": ${errnoName(descriptor)}`);
}

/** Opens a block device anew so that neither the system nor another process can have it; closes the first descriptor. */
function claimBlockDevice(path: string, flags: number, opened: { descriptor: number; direct: boolean }): number {
  const direct = opened.direct ? OpenFlag.DIRECT : 0;
  const claimed = openFile(path, flags | direct | OpenFlag.EXCLUSIVE);
  if (claimed >= 0) {
    closeDescriptor(opened.descriptor);
    return claimed;
  }
  // Whoever holds the lock too is one of ours; say so rather than guess.
  if (claimed === -Errno.EBUSY) {
    lock(path, opened.descriptor);
    throw new StoreError(
      "in-use",
      `"${path}" is in use by the system (mounted, swap, or part of an array or volume group): ` +
        `release it, or name another device`,
    );
  }
  throw new StoreError("device", `Cannot open "${path}" for exclusive use: ${errnoName(claimed)}`);
}

function lock(path: string, descriptor: number): void {
  const result = lockExclusive(descriptor);
  if (result >= 0) return;
  if (result === -Errno.EAGAIN) {
    throw new StoreError(
      "in-use",
      `"${path}" is in use by another process: stop that one (is a storage node already serving it?), or name another path`,
    );
  }
  throw new StoreError("device", `Cannot lock "${path}": ${errnoName(result)}`);
}

function logicalBlockOf(
  path: string,
  direct: boolean,
  status: { kind: string; logicalBlockBytes: number; directOffsetAlign: number },
): number {
  const reported = status.kind === "block-device" ? status.logicalBlockBytes : direct ? status.directOffsetAlign : 512;
  // A kernel too old to tell (before 6.1): 4096 is right for every device there is, merely coarser than some need.
  if (reported === 0) return 4096;
  if (reported > 4096) {
    throw new StoreError("device", `"${path}" has blocks of ${reported} bytes; 4096 is the most that is supported`);
  }
  return reported <= 512 ? 512 : 4096;
}
