/**
 * What a sound header may still get wrong: rules between its fields that hold for every frame, whatever the state of the
 * protocol. Checked by every transport before anyone is asked for memory or told of the frame.
 *
 * @module
 */

import { bodyLengthAllowed } from "../wire/body_codec.ts";
import { type Message, MessageFlag, MessageType } from "../wire/message.ts";

/**
 * What a frame breaks, in words for the log; null when nothing. Allocates nothing for a good frame.
 *
 * @param isSharing whether the ends of its connection share memory
 */
export function frameFault(message: Message, isSharing = false): string | null {
  const { type, payloadLength } = message;
  if (!isSharing && (type === MessageType.RELEASED || (message.flags & MessageFlag.SHARED_PAYLOAD) !== 0)) {
    return "it speaks of shared memory, and there is none";
  }
  if (!bodyLengthAllowed(type, payloadLength)) return "its payload length does not belong to its message type";
  // A write is carried out from its payload: the two lengths must be one.
  if (type === MessageType.WRITE && payloadLength !== message.length) return "a WRITE is not as long as its payload";
  if ((type === MessageType.DATA || type === MessageType.PULL_DATA) && payloadLength !== 0) {
    if (message.status !== 0) return "an answer of failure carries data";
    if (payloadLength !== message.length) return "an answer is not as long as its payload";
  }
  return null;
}
