/**
 * Who uses a block device: mounts, swap, and devices on top of it (LVM, dm, md), its partitions included. Programs that just
 * have it open are not seen.
 *
 * @module
 */

import { namesIn, readSmallFile } from "../../ffi/libc/small_file.ts";

/** The kernel's files that tell; tests put others in their place. */
export interface UseFiles {
  read(path: string): string | number;
  names(path: string): string[] | number;
}

const kernelFiles: UseFiles = { read: readSmallFile, names: namesIn };

/** In plain words, e.g. "mounted at /mnt", "held by dm-0"; empty when nobody does. `path` is like "/dev/nbd0". */
export function usesOf(path: string, files: UseFiles = kernelFiles): string[] {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const directory = `/sys/block/${name}`;
  const inside = files.names(directory);
  if (typeof inside === "number") return [];
  const partitions = inside.filter((entry) => entry.startsWith(name));
  const devices = [[name, directory], ...partitions.map((entry) => [entry, `${directory}/${entry}`])];
  const mounts = mountsOf(files);
  const swaps = files.read("/proc/swaps");
  const uses: string[] = [];
  for (const [device, place] of devices) {
    const number = files.read(`${place}/dev`);
    const what = device === name ? "" : `/dev/${device} is `;
    for (const mount of mounts) {
      if (mount.number === number || mount.source === `/dev/${device}`) uses.push(`${what}mounted at ${mount.place}`);
    }
    const holders = files.names(`${place}/holders`);
    if (typeof holders !== "number") uses.push(...holders.map((holder) => `${what}held by ${holder}`));
    if (typeof swaps === "string" && swaps.split("\n").some((line) => line.startsWith(`/dev/${device} `))) {
      uses.push(`${what}used as swap`);
    }
  }
  return [...new Set(uses)];
}

interface Mount {
  /** "major:minor". */
  readonly number: string;
  readonly place: string;
  readonly source: string;
}

/** Mounts as this process sees them and, where that may be asked, as the machine does (proc(5), mountinfo). */
function mountsOf(files: UseFiles): Mount[] {
  const mounts: Mount[] = [];
  for (const process of ["self", "1"]) {
    const text = files.read(`/proc/${process}/mountinfo`);
    if (typeof text === "number") continue;
    for (const line of text.split("\n")) {
      const fields = line.split(" ");
      const separator = fields.indexOf("-");
      if (separator < 0) continue;
      mounts.push({ number: fields[2], place: unescape(fields[4]), source: unescape(fields[separator + 2] ?? "") });
    }
  }
  return mounts;
}

/** Blanks and the like are written as backslash and three octal digits. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
