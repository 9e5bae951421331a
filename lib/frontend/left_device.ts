/**
 * Block devices whose process is gone: whether they are still in the kernel, and their removal.
 *
 * @module
 */

import { errnoName } from "../../ffi/libc/errno.ts";
import { canOpen } from "../../ffi/libc/small_file.ts";
import { ControlCommand } from "../../ffi/ublk/abi.ts";
import { parseDeviceChoice } from "./device_choice.ts";
import { DeviceUnavailable } from "./device_unavailable.ts";
import { NbdControl } from "./nbd_control.ts";
import { identityOf, UblkControl } from "./ublk_control.ts";

/** Whether the kernel has a device at "/dev/nbdN" that this pool may serve, or one at "/dev/ublkbN", whosever that is. */
export function isInKernel(path: string, poolUuid: string): boolean {
  const device = parseDeviceChoice(path);
  if (device === null) return false;
  if (device.kind === "ublk") return canOpen(`/sys/block/ublkb${device.index}/dev`);
  if (!canOpen(`/sys/block/nbd${device.index}/backend`)) return false;
  return withNbd((control) => control.isServable(device.index, poolUuid));
}

/** Whether the device at `path` is this pool's, as far as this user may know. */
export function isOfPool(path: string, poolUuid: string): boolean {
  if (!isInKernel(path, poolUuid)) return false;
  const device = parseDeviceChoice(path);
  if (device?.kind !== "ublk") return true;
  try {
    return withUblk((control) => control.info(device.index)?.identity === identityOf(poolUuid));
  } catch (error) {
    if (error instanceof DeviceUnavailable) return true;
    throw error;
  }
}

/**
 * Removes a device that {@link isOfPool} and that nobody serves; I/O that waits for its process fails.
 * @throws {DeviceUnavailable} it cannot be removed
 */
export function removeLeft(path: string): void {
  const device = parseDeviceChoice(path);
  if (device === null) return;
  const result = device.kind === "nbd"
    ? withNbd((control) => control.disconnect(device.index))
    : withUblk((control) => {
      const stopped = control.run(ControlCommand.STOP_DEV, device.index);
      return stopped < 0 ? stopped : control.run(ControlCommand.DEL_DEV, device.index);
    });
  if (result < 0) throw new DeviceUnavailable(`${path} cannot be removed: ${errnoName(result)}`);
}

function withNbd<T>(work: (control: NbdControl) => T): T {
  const control = NbdControl.open();
  try {
    return work(control);
  } finally {
    control.close();
  }
}

function withUblk<T>(work: (control: UblkControl) => T): T {
  const control = UblkControl.open(-1);
  try {
    return work(control);
  } finally {
    control.close();
  }
}
