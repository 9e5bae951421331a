/**
 * Files and block devices, synchronously: for opening, probing and closing. Data-path I/O goes through io_uring.
 *
 * Functions return what the system call returns (>= 0), or a negative errno. None throws for a fact of the world.
 *
 * @module
 */

import { cString, errno, libc, resultOrErrno } from "./library.ts";
import { Errno } from "./errno.ts";
import { pointerTo } from "./memory.ts";

/** Flags of {@link openFile}. The values of O_DIRECT and O_DIRECTORY differ between architectures. */
export const OpenFlag = {
  READ_ONLY: 0,
  WRITE_ONLY: 1,
  READ_WRITE: 2,
  CREATE: 0o100,
  /** With CREATE: fail if it exists. On a block device: fail if it is mounted or otherwise held. */
  EXCLUSIVE: 0o200,
  TRUNCATE: 0o1000,
  DIRECT: Deno.build.arch === "aarch64" ? 0o200000 : 0o40000,
  NO_FOLLOW: Deno.build.arch === "aarch64" ? 0o100000 : 0o400000,
  CLOSE_ON_EXEC: 0o2000000,
} as const;

/** Modes of {@link allocateFile} and of the reactor's `allocate`. */
export const AllocateMode = {
  KEEP_SIZE: 1,
  /** Frees the range, which then reads as zeroes; the size stays. */
  PUNCH_HOLE: 3,
  /** Makes the range read as zeroes and keeps its space; the size stays. */
  ZERO_RANGE: 17,
} as const;

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC = 0x7ff;
const STATX_DIOALIGN = 0x2000;
const BLKGETSIZE64 = 0x80081272n;
const BLKSSZGET = 0x1268n;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const S_IFMT = 0o170000;

/** Opens `path`; CLOSE_ON_EXEC is always added. Returns a descriptor or a negative errno. */
export function openFile(path: string, flags: number, mode = 0o600): number {
  return resultOrErrno(libc().open(cString(path), flags | OpenFlag.CLOSE_ON_EXEC, mode));
}

/** close(2). The descriptor is gone whatever is returned. */
export function closeDescriptor(descriptor: number): number {
  return resultOrErrno(libc().close(descriptor));
}

/** Reads of `descriptor` no longer wait. 0 or a negative errno. */
export function setNonBlocking(descriptor: number): number {
  const flags = libc().fcntl(descriptor, F_GETFL, 0);
  return resultOrErrno(flags < 0 ? flags : libc().fcntl(descriptor, F_SETFL, flags | O_NONBLOCK));
}

/** unlink(2). */
export function unlinkPath(path: string): number {
  return resultOrErrno(libc().unlink(cString(path)));
}

/** Takes an exclusive flock without waiting: 0, or -EAGAIN when another open file holds it. */
export function lockExclusive(descriptor: number): number {
  return resultOrErrno(libc().flock(descriptor, LOCK_EX | LOCK_NB));
}

/** Gives the flock back. */
export function unlock(descriptor: number): number {
  return resultOrErrno(libc().flock(descriptor, LOCK_UN));
}

/** The magic number of the file system that holds an open file (statfs(2), linux/magic.h), or a negative errno. */
export function fileSystemOf(descriptor: number): number {
  // struct statfs has 120 bytes on 64-bit machines; f_type is its first word, of which no magic number needs more than 32 bits.
  const status = new Uint32Array(32);
  const result = resultOrErrno(libc().fstatfs(descriptor, status));
  return result < 0 ? result : status[0];
}

/** fsync(2), or fdatasync(2) with `dataOnly`. */
export function syncFile(descriptor: number, dataOnly = false): number {
  return resultOrErrno(dataOnly ? libc().fdatasync(descriptor) : libc().fsync(descriptor));
}

/** Sets the size in bytes; what is added is a hole. */
export function truncateFile(descriptor: number, sizeBytes: number): number {
  return resultOrErrno(libc().ftruncate64(descriptor, BigInt(sizeBytes)));
}

/** Where the next data of a file (not a hole) begins at or after `offset`: a byte offset, -ENXIO when there is none, or another negative errno. */
export function seekData(descriptor: number, offset: number): number {
  return resultOrErrno(Number(libc().lseek64(descriptor, BigInt(offset), SEEK_DATA)));
}

/** Where the next hole of a file begins at or after `offset`; its end counts as one. A negative errno otherwise. */
export function seekHole(descriptor: number, offset: number): number {
  return resultOrErrno(Number(libc().lseek64(descriptor, BigInt(offset), SEEK_HOLE)));
}

/** fallocate(2). Offset and length in bytes. */
export function allocateFile(descriptor: number, mode: number, offset: number, lengthBytes: number): number {
  return resultOrErrno(libc().fallocate64(descriptor, mode, BigInt(offset), BigInt(lengthBytes)));
}

/** pread(2) to memory at `address`. Returns bytes read, which may be fewer, or a negative errno. */
export function readAt(descriptor: number, address: number, lengthBytes: number, offset: number): number {
  return resultOrErrno(
    Number(libc().pread64(descriptor, pointerTo(address), BigInt(lengthBytes), BigInt(offset))),
  );
}

/** pwrite(2) from memory at `address`. Returns bytes written, which may be fewer, or a negative errno. */
export function writeAt(descriptor: number, address: number, lengthBytes: number, offset: number): number {
  return resultOrErrno(
    Number(libc().pwrite64(descriptor, pointerTo(address), BigInt(lengthBytes), BigInt(offset))),
  );
}

/** What a descriptor refers to. */
export interface FileStatus {
  readonly kind: "file" | "block-device" | "directory" | "socket" | "other";
  /** Bytes; of a block device its capacity. */
  readonly sizeBytes: number;
  /** Bytes that have space on disk (0 for devices). */
  readonly allocatedBytes: number;
  /** Alignment that O_DIRECT asks of offset and length: 512, 4096, …; 0 when it is unknown or O_DIRECT is not possible. */
  readonly directOffsetAlign: number;
  /** Alignment that O_DIRECT asks of memory; 0 as above. */
  readonly directMemoryAlign: number;
  /** Logical sector size of a block device; 0 otherwise. */
  readonly logicalBlockBytes: number;
  /** The device number of what the descriptor is (block devices) as "major:minor", else "". */
  readonly device: string;
}

/** Asks what is at `path` itself, without following a symbolic link at its end. Negative errno when that fails. */
export function kindOfPath(path: string): FileStatus["kind"] | number {
  const raw = new Uint8Array(256);
  if (libc().statx(AT_FDCWD, cString(path), AT_SYMLINK_NOFOLLOW, STATX_BASIC, raw) < 0) return -errno();
  return kindOf(new DataView(raw.buffer));
}

/** Asks what `descriptor` is. Returns a negative errno when that fails. */
export function statusOf(descriptor: number): FileStatus | number {
  const raw = new Uint8Array(256);
  const mask = STATX_BASIC | STATX_DIOALIGN;
  if (libc().statx(descriptor, cString(""), AT_EMPTY_PATH, mask, raw) < 0) return -errno();
  const view = new DataView(raw.buffer);
  const kind = kindOf(view);
  let sizeBytes = Number(view.getBigUint64(40, true));
  let logicalBlockBytes = 0;
  if (kind === "block-device") {
    const word = new BigUint64Array(1);
    if (libc().ioctl(descriptor, BLKGETSIZE64, word) < 0) return -errno();
    sizeBytes = Number(word[0]);
    const sector = new Int32Array(1);
    if (libc().ioctl(descriptor, BLKSSZGET, sector) < 0) return -errno();
    logicalBlockBytes = sector[0];
  }
  const hasDirect = (view.getUint32(0, true) & STATX_DIOALIGN) !== 0;
  return {
    kind,
    sizeBytes,
    allocatedBytes: kind === "file" ? Number(view.getBigUint64(48, true)) * 512 : 0,
    directMemoryAlign: hasDirect ? view.getUint32(152, true) : 0,
    directOffsetAlign: hasDirect ? view.getUint32(156, true) : 0,
    logicalBlockBytes,
    device: kind === "block-device" ? `${view.getUint32(128, true)}:${view.getUint32(132, true)}` : "",
  };
}

function kindOf(status: DataView): FileStatus["kind"] {
  switch (status.getUint16(28, true) & S_IFMT) {
    case 0o100000:
      return "file";
    case 0o060000:
      return "block-device";
    case 0o040000:
      return "directory";
    case 0o140000:
      return "socket";
    default:
      return "other";
  }
}

/** Whether `errorNumber` (negated or not) says that a path does not exist. */
export function isAbsent(errorNumber: number): boolean {
  const number = Math.abs(errorNumber);
  return number === Errno.ENOENT || number === Errno.ENOTDIR;
}
