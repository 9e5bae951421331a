/**
 * Which boot of this machine we run in. A leg whose node died but whose machine did not still has in its page cache and disk
 * cache whatever it had acked; after a reboot only what was flushed.
 *
 * @module
 */

import { closeDescriptor, openFile, OpenFlag, readAt } from "../../ffi/libc/file.ts";
import { mapAnonymous } from "../../ffi/libc/memory.ts";

/** By the C library, since Deno's own calls want every permission for files in /proc. */
const PATH = "/proc/sys/kernel/random/boot_id";

/** A UUID that changes with every boot, or "" where the kernel does not tell: then nothing is taken to have survived. */
export function readBootId(): string {
  const descriptor = openFile(PATH, OpenFlag.READ_ONLY);
  if (descriptor < 0) return "";
  // LIFETIME: the kernel writes to it only within the call.
  const memory = mapAnonymous(4096);
  const count = readAt(descriptor, memory.address, 64, 0);
  closeDescriptor(descriptor);
  if (count <= 0) return "";
  return new TextDecoder().decode(new Uint8Array(memory.buffer, 0, count)).trim();
}
