/** Thrown when this machine cannot have the block device that was asked for; the message says why and what to do. */
export class DeviceUnavailable extends Error {
  override name = "DeviceUnavailable";
}
