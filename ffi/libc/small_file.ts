/**
 * Small files of the kernel (/proc, /sys), read and written whole. By the C library, since Deno's own calls want every
 * permission for them.
 *
 * @module
 */

import { closeDescriptor, openFile, OpenFlag, readAt, writeAt } from "./file.ts";
import { mapAnonymous, type MappedMemory } from "./memory.ts";

const PIECE_BYTES = 64 << 10;

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
