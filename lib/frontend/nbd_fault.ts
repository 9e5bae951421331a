/**
 * Why a request fails: a closed set, each with the NBD error that goes on the wire and words for a person.
 *
 * A fault is a small number, so that the request table can hold it; 0 means none. `checkRequest` says what is wrong with
 * a request before anything is done for it; `hostFault` translates what the pool answered.
 *
 * @module
 */

import type { NbdExport } from "./nbd_export.ts";
import { Command, CommandFlag, NbdError } from "./nbd_protocol.ts";

/** The faults. */
export const Fault = {
  NONE: 0,
  UNKNOWN_COMMAND: 1,
  UNKNOWN_FLAG: 2,
  ZERO_LENGTH: 3,
  UNALIGNED: 4,
  READ_PAST_END: 5,
  WRITE_PAST_END: 6,
  READ_ONLY: 7,
  READ_TOO_LARGE: 8,
  DF_TOO_LARGE: 9,
  FAST_ZERO: 10,
  NO_CONTEXT: 11,
  FLUSH_RANGE: 12,
  HOST_IO: 13,
  HOST_PERMISSION: 14,
  HOST_MEMORY: 15,
  HOST_SPACE: 16,
  HOST_INVALID: 17,
  HOST_UNSUPPORTED: 18,
  HOST_SHUTDOWN: 19,
  WRITE_TOO_LARGE: 20,
} as const;

const TEXTS: readonly (readonly [fault: number, error: number, message: string])[] = [
  [Fault.UNKNOWN_COMMAND, NbdError.EINVAL, "Unknown command"],
  [Fault.UNKNOWN_FLAG, NbdError.EINVAL, "A flag is not known, or not allowed with this command"],
  [Fault.ZERO_LENGTH, NbdError.EINVAL, "The length must not be zero"],
  [Fault.UNALIGNED, NbdError.EINVAL, "Offset and length must be multiples of the minimum block size"],
  [Fault.READ_PAST_END, NbdError.EINVAL, "The range ends past the end of the pool"],
  [Fault.WRITE_PAST_END, NbdError.ENOSPC, "The range ends past the end of the pool"],
  [Fault.READ_ONLY, NbdError.EPERM, "The pool is attached read-only"],
  [Fault.READ_TOO_LARGE, NbdError.EOVERFLOW, "The read is larger than the maximum payload; ask in smaller pieces"],
  [Fault.DF_TOO_LARGE, NbdError.EOVERFLOW, "An unfragmented read may be 1 MiB at most; ask without DF or for less"],
  [Fault.FAST_ZERO, NbdError.ENOTSUP, "Fast zeroing was not offered"],
  [Fault.NO_CONTEXT, NbdError.EINVAL, "No metadata context was negotiated"],
  [Fault.FLUSH_RANGE, NbdError.EINVAL, "A flush takes neither offset nor length"],
  [Fault.HOST_IO, NbdError.EIO, "The pool could not complete the request"],
  [Fault.HOST_PERMISSION, NbdError.EPERM, "The pool does not permit the request"],
  [Fault.HOST_MEMORY, NbdError.ENOMEM, "The pool is short of memory"],
  [Fault.HOST_SPACE, NbdError.ENOSPC, "A backing device of the pool is full"],
  [Fault.HOST_INVALID, NbdError.EINVAL, "The pool refused the request as invalid"],
  [Fault.HOST_UNSUPPORTED, NbdError.ENOTSUP, "A backing device of the pool does not support the request"],
  [Fault.WRITE_TOO_LARGE, NbdError.EINVAL, "The payload is larger than the maximum; write in smaller pieces"],
  [Fault.HOST_SHUTDOWN, NbdError.ESHUTDOWN, "The pool is being detached"],
];

const FAULT_COUNT = TEXTS.length + 1;
const ERRORS = new Int32Array(FAULT_COUNT);
const MESSAGES: Uint8Array[] = new Array(FAULT_COUNT).fill(new Uint8Array(0));
for (const [fault, error, message] of TEXTS) {
  ERRORS[fault] = error;
  MESSAGES[fault] = new TextEncoder().encode(message);
}

/** The NBD error value of `fault`; 0 for none. */
export function faultError(fault: number): number {
  return ERRORS[fault];
}

/** Words for a person, UTF-8, at most 100 bytes. */
export function faultMessage(fault: number): Uint8Array {
  return MESSAGES[fault];
}

/** The fault that stands for a host's `status` (0 or a negative Linux errno). */
export function hostFault(status: number): number {
  switch (status) {
    case 0:
      return Fault.NONE;
    case -1: // EPERM
    case -30: // EROFS
      return Fault.HOST_PERMISSION;
    case -12: // ENOMEM
      return Fault.HOST_MEMORY;
    case -27: // EFBIG
    case -28: // ENOSPC
    case -122: // EDQUOT
      return Fault.HOST_SPACE;
    case -22: // EINVAL
      return Fault.HOST_INVALID;
    case -95: // EOPNOTSUPP
      return Fault.HOST_UNSUPPORTED;
    case -108: // ESHUTDOWN
      return Fault.HOST_SHUTDOWN;
    default:
      return Fault.HOST_IO;
  }
}

/** Flags each command may carry, by command number ("Command flags"; FUA is allowed on all). */
const ALLOWED_FLAGS = new Uint16Array(8).fill(CommandFlag.FUA);
ALLOWED_FLAGS[Command.READ] |= CommandFlag.DF;
ALLOWED_FLAGS[Command.WRITE_ZEROES] |= CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO;
ALLOWED_FLAGS[Command.BLOCK_STATUS] |= CommandFlag.REQ_ONE;

/**
 * What is wrong with a request; `Fault.NONE` when it can be carried out. `offset` is Infinity when it does not fit a
 * number exactly. DISC has no answer and is not asked about here.
 */
export function checkRequest(
  target: NbdExport,
  structuredReplies: boolean,
  contextSelected: boolean,
  command: number,
  flags: number,
  offset: number,
  lengthBytes: number,
): number {
  if (command > Command.BLOCK_STATUS || command === Command.DISC) return Fault.UNKNOWN_COMMAND;
  if ((flags & ~ALLOWED_FLAGS[command]) !== 0) return Fault.UNKNOWN_FLAG;
  if ((flags & CommandFlag.DF) !== 0 && !structuredReplies) return Fault.UNKNOWN_FLAG;
  if (command === Command.FLUSH) {
    return offset === 0 && lengthBytes === 0 ? Fault.NONE : Fault.FLUSH_RANGE;
  }
  const writes = command === Command.WRITE || command === Command.WRITE_ZEROES || command === Command.TRIM;
  if (writes && target.readOnly) return Fault.READ_ONLY;
  if (command === Command.BLOCK_STATUS && !contextSelected) return Fault.NO_CONTEXT;
  if ((flags & CommandFlag.FAST_ZERO) !== 0) return Fault.FAST_ZERO;
  if (lengthBytes === 0) return Fault.ZERO_LENGTH;
  if (offset + lengthBytes > target.sizeBytes) {
    return command === Command.WRITE || command === Command.WRITE_ZEROES ? Fault.WRITE_PAST_END : Fault.READ_PAST_END;
  }
  const mask = target.minimumBlockBytes - 1;
  // Every bound of the pool is below 2^53 and the mask below 2^16: the low 32 bits of the offset decide.
  if ((((offset % 65536) | lengthBytes) & mask) !== 0) return Fault.UNALIGNED;
  if (command === Command.READ) {
    if ((flags & CommandFlag.DF) !== 0 && lengthBytes > target.maxUnsplitBytes) return Fault.DF_TOO_LARGE;
    if (lengthBytes > target.maxPayloadBytes) return Fault.READ_TOO_LARGE;
  }
  if (command === Command.WRITE && lengthBytes > target.maxPayloadBytes) return Fault.WRITE_TOO_LARGE;
  return Fault.NONE;
}
