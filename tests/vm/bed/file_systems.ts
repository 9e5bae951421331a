/**
 * File systems on a block device of a guest: made anew, mounted, and checked once they are not in use.
 *
 * @module
 */

import type { Guest } from "./guest.ts";

/** How to make and to check one. What could be put off until it is mounted is written at once: nothing is under way then. */
export const FILE_SYSTEMS = {
  ext4: { make: "mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0", check: "e2fsck -f -n" },
  xfs: { make: "mkfs.xfs -q -f", check: "xfs_repair -n" },
} as const;
export type FileSystem = keyof typeof FILE_SYSTEMS;

/** xfs is not made on less. */
export const LEAST_MIB = 320;

/** Where they are mounted. */
export const MOUNT_POINT = "/mnt/pool";

/** Makes a file system on `device` and mounts it; what is freed in it is discarded. */
export async function mountNew(guest: Guest, device: string, kind: FileSystem): Promise<void> {
  await guest.expect(`
    set -e
    modprobe ${kind}
    mkdir -p ${MOUNT_POINT}
    ${FILE_SYSTEMS[kind].make} ${device}
    mount -o discard ${device} ${MOUNT_POINT}`);
}

/** Unmounts it and looks whether it is whole: nothing is mended, so that a fault is a failure. */
export async function unmountChecked(guest: Guest, device: string, kind: FileSystem): Promise<void> {
  await guest.expect(`umount ${MOUNT_POINT} && ${FILE_SYSTEMS[kind].check} ${device}`);
}
