/**
 * The sum of a payload, as the header carries it.
 *
 * @module
 */

import { crc32 } from "node:zlib";

/**
 * CRC-32 (u32) of the first `lengthBytes` of `bytes`. A caller that sends one payload to several legs computes it once and puts
 * it into `message.payloadCrc`.
 */
export function payloadCrc(bytes: Uint8Array, lengthBytes: number): number {
  // A new view is an allocation; most payloads fill their slot.
  return crc32(lengthBytes === bytes.length ? bytes : bytes.subarray(0, lengthBytes));
}
