/**
 * Which boot of this machine it is: a UUID that the kernel makes anew at each start. Read through libc, as Deno's own file functions ask
 * for every permission there is before they touch /proc.
 *
 * @module
 */

import { closeDescriptor, openFile, OpenFlag, readAt } from "./file.ts";

const PATH = "/proc/sys/kernel/random/boot_id";

/** The boot's UUID, or "" when the kernel does not tell: then every restart counts as one of the machine. */
export function bootId(): string {
  const descriptor = openFile(PATH, OpenFlag.READ_ONLY);
  if (descriptor < 0) return "";
  const bytes = new Uint8Array(64);
  // LIFETIME: `bytes` is used below, so it outlives the call that writes to it.
  const address = Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  const length = readAt(descriptor, address, bytes.length, 0);
  closeDescriptor(descriptor);
  return length <= 0 ? "" : new TextDecoder().decode(bytes.subarray(0, length)).trim();
}
