/**
 * Which block device a pool shall be.
 *
 * @module
 */

/** A kind of device, and its number; -1 leaves the number to the kernel. */
export interface DeviceChoice {
  readonly kind: "ublk" | "nbd" | "auto";
  readonly index: number;
}

/** What a person may write besides a device's path. */
export const DEVICE_KINDS = ["ublk", "nbd", "auto"] as const;

/** The largest number of a device; more than any kernel makes. */
export const MAX_DEVICE_INDEX = 1023;

/** Reads "ublk", "nbd", "auto", "/dev/ublkb3" or "/dev/nbd0"; null when it is none of them. */
export function parseDeviceChoice(text: string): DeviceChoice | null {
  const kind = DEVICE_KINDS.find((kind) => kind === text);
  if (kind !== undefined) return { kind, index: -1 };
  const match = /^\/dev\/(ublkb|nbd)(\d{1,4})$/.exec(text);
  if (match === null || Number(match[2]) > MAX_DEVICE_INDEX) return null;
  return { kind: match[1] === "nbd" ? "nbd" : "ublk", index: Number(match[2]) };
}
