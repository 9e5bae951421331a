/**
 * Memory that both JavaScript and the kernel use, at an address that does not move.
 *
 * Mappings made here live for the process. An ArrayBuffer over a mapping neither owns nor keeps the memory, so reading it
 * after munmap would be a segmentation fault; never unmapping is the rule that makes that impossible.
 *
 * @module
 */

import { errno, libc } from "./library.ts";
import { errnoName } from "./errno.ts";

const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;
const MADV_HUGEPAGE = 14;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** Memory with a fixed address. LIFETIME: the process. */
export interface MappedMemory {
  /** Address of the first byte, page aligned. User-space addresses fit a number exactly. */
  readonly address: number;
  readonly lengthBytes: number;
  /** The bytes. Make views once; making them is dear. */
  readonly buffer: ArrayBuffer;
}

/** Thrown when the kernel gives no memory. */
export class MappingFailed extends Error {
  override name = "MappingFailed";
}

/** Zeroed private memory. With `hugePages` the kernel is asked for 2 MiB pages (a wish, not a promise). */
export function mapAnonymous(lengthBytes: number, options: { hugePages?: boolean } = {}): MappedMemory {
  const memory = map(lengthBytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (options.hugePages) libc().madvise(pointerTo(memory.address), BigInt(lengthBytes), MADV_HUGEPAGE);
  return memory;
}

/** Memory of a descriptor, shared with the kernel (the rings of io_uring). `offset` is bytes. */
export function mapDescriptor(descriptor: number, lengthBytes: number, offset: number): MappedMemory {
  return map(lengthBytes, MAP_SHARED | MAP_POPULATE, descriptor, offset);
}

/** The same for memory that only the kernel writes: a write from here would be a segmentation fault. */
export function mapDescriptorToRead(descriptor: number, lengthBytes: number, offset: number): MappedMemory {
  return map(lengthBytes, MAP_SHARED | MAP_POPULATE, descriptor, offset, PROT_READ);
}

function map(
  lengthBytes: number,
  flags: number,
  descriptor: number,
  offset: number,
  protection = PROT_READ_WRITE,
): MappedMemory {
  const pointer = libc().mmap(null, BigInt(lengthBytes), protection, flags, descriptor, BigInt(offset));
  // mmap reports failure as the address 2^64-1, which arrives as a pointer object like any other.
  const value = Deno.UnsafePointer.value(pointer);
  if (pointer === null || value === MAP_FAILED) {
    throw new MappingFailed(
      `Cannot map ${lengthBytes} bytes of memory: ${errnoName(errno())}. Lower the buffer size or free memory`,
    );
  }
  return {
    address: Number(value),
    lengthBytes,
    buffer: Deno.UnsafePointerView.getArrayBuffer(pointer, lengthBytes),
  };
}

/**
 * Memory of `descriptor` that another process made and may write to at any time: mapped for the kernel's use alone. There is no
 * view of it, so unlike other mappings it can be given back. Returns its address, or a negative errno.
 */
export function mapForKernel(descriptor: number, lengthBytes: number): number {
  const pointer = libc().mmap(null, BigInt(lengthBytes), PROT_READ_WRITE, MAP_SHARED, descriptor, 0n);
  const value = Deno.UnsafePointer.value(pointer);
  return pointer === null || value === MAP_FAILED ? -errno() : Number(value);
}

/** Gives back what {@link mapForKernel} mapped. */
export function unmapForKernel(address: number, lengthBytes: number): void {
  libc().munmap(pointerTo(address), BigInt(lengthBytes));
}

/** A pointer object for `address`. Make it once; making it is dear. */
export function pointerTo(address: number): Deno.PointerValue {
  return Deno.UnsafePointer.create(BigInt(address));
}
