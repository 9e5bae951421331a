/**
 * A device's name for people: `/dev/brmr/POOL`, a symbolic link made when the device is ready and removed in the end. Where
 * udev runs it is told to look at the device again, so that its rule finds the pool's name and makes the same link its own.
 *
 * @module
 */

import { Errno, errnoName } from "../../ffi/libc/errno.ts";
import { unlinkPath } from "../../ffi/libc/file.ts";
import { canOpen, linkTarget, makeDirectory, placeLink, writeSmallFile } from "../../ffi/libc/small_file.ts";

/** Where the links are. */
const DIRECTORY = "/dev/brmr";
const UDEV = "/run/udev/data";

/** Path of a pool's link. */
export function deviceLink(poolName: string): string {
  return `${DIRECTORY}/${poolName}`;
}

/** Makes the link. "", or why it cannot be made. */
export function makeDeviceLink(poolName: string, device: string): string {
  const made = makeDirectory(DIRECTORY, 0o755);
  // Relative, as udev makes its own.
  const result = made < 0 ? made : placeLink(deviceLink(poolName), target(device));
  tellUdev(device);
  return result < 0 ? `${deviceLink(poolName)} cannot be made: ${errnoName(result)}` : "";
}

/** Removes the link, if it is this device's. "", or why it cannot be removed. */
export function removeDeviceLink(poolName: string, device: string): string {
  const link = deviceLink(poolName);
  const isOurs = linkTarget(link) === target(device);
  const result = isOurs ? unlinkPath(link) : 0;
  tellUdev(device);
  return result < 0 && result !== -Errno.ENOENT ? `${link} cannot be removed: ${errnoName(result)}` : "";
}

function target(device: string): string {
  return `..${device.slice("/dev".length)}`;
}

/** A device that is gone needs no telling: the kernel did. */
function tellUdev(device: string): void {
  if (canOpen(UDEV)) writeSmallFile(`/sys/block/${device.slice("/dev/".length)}/uevent`, "change");
}
