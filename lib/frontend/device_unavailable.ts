/** Thrown when this machine cannot have the block device that was asked for; the message says why and what to do. */
export class DeviceUnavailable extends Error {
  override name = "DeviceUnavailable";
}

/**
 * The same of a device that the pool's former process has left. Applications have it open and their I/O waits there, so that no
 * other is made in its place.
 */
export class LeftDeviceUnavailable extends DeviceUnavailable {
  override name = "LeftDeviceUnavailable";
}
