/**
 * Which boot of this machine we run in. A leg whose node died but whose machine did not still has in its page cache and disk
 * cache whatever it had acked; after a reboot only what was flushed.
 *
 * @module
 */

import { readSmallFile } from "../../ffi/libc/small_file.ts";

const PATH = "/proc/sys/kernel/random/boot_id";

/** A UUID that changes with every boot, or "" where the kernel does not tell: then nothing is taken to have survived. */
export function readBootId(): string {
  const text = readSmallFile(PATH);
  return typeof text === "number" ? "" : text;
}
