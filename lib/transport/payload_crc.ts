/**
 * The sum of a payload, as the header carries it, and what else of a header follows from the payload.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import { type Message, MessageFlag } from "../wire/message.ts";
import { frameFault } from "./frame_rules.ts";

/**
 * Where the payloads that this process sends are summed, besides what the network does: where its sums are weak, that is over
 * TCP ("auto"), or over RDMA as well, whose packets have a CRC of their own, which the devices compute and check ("always"),
 * or nowhere, for a network that authenticates what it carries, as WireGuard does ("never"). Within a machine's memory nothing
 * travels, and nothing is summed. What is no payload in a slot (maps, tables, answers), and headers, are summed whatever this
 * says, and a sum that comes is checked.
 */
export type PayloadCrcPolicy = "auto" | "always" | "never";

/**
 * CRC-32 (u32) of the first `lengthBytes` of `bytes`. A caller that sends one payload to several legs computes it once and puts
 * it into `message.payloadCrc`.
 */
export function payloadCrc(bytes: Uint8Array, lengthBytes: number): number {
  // A new view is an allocation; most payloads fill their slot.
  return crc32(lengthBytes === bytes.length ? bytes : bytes.subarray(0, lengthBytes));
}

/**
 * Makes the header of a frame that is to be sent fit its payload (null for none): sums it, unless the caller has (`payloadCrc`
 * is not 0), or says that nobody did. The caller puts flags and sum back when the header is encoded.
 *
 * @param isSharing whether the ends of its connection share memory
 */
export function setPayloadFields(
  message: Message,
  payload: Uint8Array | null,
  checksums: boolean,
  isSharing = false,
): void {
  const fault = frameFault(message, isSharing);
  assert(fault === null, "What we send keeps the rules of frames", message.type, message.payloadLength);
  if (payload === null) {
    message.payloadCrc = 0;
  } else if (!checksums) {
    message.payloadCrc = 0;
    message.flags |= MessageFlag.NO_PAYLOAD_CRC;
  } else if (message.payloadCrc === 0) {
    message.payloadCrc = payloadCrc(payload, message.payloadLength);
  }
}

/** Whether the payload of a frame that came, at the beginning of `bytes`, is what its sender sent, as far as that has summed it. */
export function isPayloadSound(message: Message, bytes: Uint8Array): boolean {
  if ((message.flags & MessageFlag.NO_PAYLOAD_CRC) !== 0) return true;
  return payloadCrc(bytes, message.payloadLength) === message.payloadCrc;
}
