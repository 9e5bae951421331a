/**
 * Small files, links and directories of the kernel (/proc, /sys, /dev). By the C library, since Deno's own calls want
 * every permission for them.
 *
 * @module
 */

import { Errno } from "./errno.ts";
import { closeDescriptor, openFile, OpenFlag, readAt, writeAt } from "./file.ts";
import { cString, errno, libc, resultOrErrno } from "./library.ts";
import { mapAnonymous, type MappedMemory } from "./memory.ts";

const PIECE_BYTES = 64 << 10;
const PATH_BYTES = 4096;
/** Where `struct dirent` has the name: after inode, offset, record length and type, on 64-bit Linux. */
const DIRENT_NAME = 19;

// LIFETIME: the kernel reads and writes it within calls only; mapped for the process, once in an isolate.
let memory: MappedMemory | undefined;

/** The text of a file, without white space at its ends; a negative errno when it cannot be read. */
export function readSmallFile(path: string): string | number {
  const descriptor = openFile(path, OpenFlag.READ_ONLY);
  if (descriptor < 0) return descriptor;
  memory ??= mapAnonymous(PIECE_BYTES);
  const decoder = new TextDecoder();
  let text = "";
  for (let offset = 0;;) {
    const count = readAt(descriptor, memory.address, PIECE_BYTES, offset);
    if (count <= 0) {
      closeDescriptor(descriptor);
      return count < 0 ? count : (text + decoder.decode()).trim();
    }
    text += decoder.decode(new Uint8Array(memory.buffer, 0, count), { stream: true });
    offset += count;
  }
}

/** Writes a file of the kernel. 0 or a negative errno. */
export function writeSmallFile(path: string, text: string): number {
  const descriptor = openFile(path, OpenFlag.WRITE_ONLY);
  if (descriptor < 0) return descriptor;
  memory ??= mapAnonymous(PIECE_BYTES);
  const { written } = new TextEncoder().encodeInto(text, new Uint8Array(memory.buffer));
  const result = writeAt(descriptor, memory.address, written, 0);
  closeDescriptor(descriptor);
  return result < 0 ? result : 0;
}

/** Whether something is at `path` that can be opened for reading. */
export function canOpen(path: string): boolean {
  const descriptor = openFile(path, OpenFlag.READ_ONLY);
  if (descriptor < 0) return false;
  closeDescriptor(descriptor);
  return true;
}

/** Names in a directory, or a negative errno. */
export function namesIn(path: string): string[] | number {
  const directory = libc().opendir(cString(path));
  if (directory === null) return -errno();
  const names: string[] = [];
  for (let entry = libc().readdir(directory); entry !== null; entry = libc().readdir(directory)) {
    const name = Deno.UnsafePointerView.getCString(entry, DIRENT_NAME);
    if (name !== "." && name !== "..") names.push(name);
  }
  libc().closedir(directory);
  return names.sort();
}

/** Where a symbolic link points, or a negative errno (-EINVAL: it is none). */
export function linkTarget(path: string): string | number {
  const target = new Uint8Array(PATH_BYTES);
  const length = Number(libc().readlink(cString(path), target, BigInt(PATH_BYTES)));
  return length < 0 ? -errno() : new TextDecoder().decode(target.subarray(0, length));
}

/** Makes `path` a symbolic link to `target`, in place of one that is there. 0 or a negative errno. */
export function placeLink(path: string, target: string): number {
  const draft = `${path}.new`;
  libc().unlink(cString(draft));
  const made = resultOrErrno(libc().symlink(cString(target), cString(draft)));
  if (made < 0) return made;
  const result = resultOrErrno(libc().rename(cString(draft), cString(path)));
  if (result < 0) libc().unlink(cString(draft));
  return result;
}

/** Makes a directory if there is none. 0 or a negative errno. */
export function makeDirectory(path: string, mode: number): number {
  const result = resultOrErrno(libc().mkdir(cString(path), mode));
  return result === -Errno.EEXIST ? 0 : result;
}
