/**
 * The numbers of the NBD protocol, as far as this server speaks it. Nothing but constants.
 *
 * Source: `doc/proto.md` of https://github.com/NetworkBlockDevice/nbd; each block names its section there. Integers on
 * the wire are big endian. 64-bit magics are given as two u32 words (high, low), because nothing here uses bigint.
 *
 * @module
 */

/** "Newstyle negotiation": first eight bytes of a server's greeting, ASCII `NBDMAGIC`. */
export const GREETING_MAGIC = { high: 0x4e42444d, low: 0x41474943 } as const;
/** "Newstyle negotiation": opens the second half of the greeting and every option, ASCII `IHAVEOPT`. */
export const OPTION_MAGIC = { high: 0x49484156, low: 0x454f5054 } as const;
/** "Fixed newstyle negotiation": opens every reply to an option. */
export const OPTION_REPLY_MAGIC = { high: 0x0003e889, low: 0x045565a9 } as const;

/** "Newstyle negotiation": magic, magic, handshake flags. */
export const GREETING_BYTES = 18;
/** "Newstyle negotiation": the client's answer to the greeting. */
export const CLIENT_FLAGS_BYTES = 4;
/** "Newstyle negotiation": magic, option, length. */
export const OPTION_HEADER_BYTES = 16;
/** "Fixed newstyle negotiation": magic, option, reply type, length. */
export const OPTION_REPLY_HEADER_BYTES = 20;
/** "Newstyle negotiation": zeroes after the answer to EXPORT_NAME, unless the client asked for none. */
export const EXPORT_NAME_PADDING_BYTES = 124;
/** "Conventions": longest string a peer has to accept. */
export const MAX_STRING_BYTES = 4096;

/** "Handshake flags". */
export const HandshakeFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;
/** "Client flags". */
export const ClientFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

/** "Transmission flags". */
export const TransmissionFlag = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
} as const;

/** "Option types". */
export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

/** "Option reply types". */
export const OptionReply = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_INVALID: 0x80000003,
  ERR_UNKNOWN: 0x80000006,
  ERR_TOO_BIG: 0x80000009,
} as const;

/** "Option reply types", NBD_REP_INFO. */
export const InfoType = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** "Request message". */
export const REQUEST_MAGIC = 0x25609513;
/** "Request message": magic, flags, type, cookie, offset, length. */
export const REQUEST_HEADER_BYTES = 28;
/** "Simple reply message". */
export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** "Simple reply message": magic, error, cookie. */
export const SIMPLE_REPLY_BYTES = 16;
/** "Structured reply chunk message". */
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** "Structured reply chunk message": magic, flags, type, cookie, length. */
export const CHUNK_HEADER_BYTES = 20;

/** "Request types". */
export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

/** "Command flags". */
export const CommandFlag = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const;

/** "Structured reply flags". */
export const CHUNK_DONE = 1;

/** "Structured reply types". */
export const Chunk = { OFFSET_DATA: 1, BLOCK_STATUS: 5, ERROR: 0x8001, ERROR_OFFSET: 0x8002 } as const;

/** "Error values". */
export const NbdError = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** "The `base:` metadata namespace": the one metadata context this server offers. */
export const ALLOCATION_CONTEXT_NAME = "base:allocation";
/** Identifies {@link ALLOCATION_CONTEXT_NAME} in block status replies. Any number would do; it must not change. */
export const ALLOCATION_CONTEXT_ID = 1;
