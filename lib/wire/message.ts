/**
 * The 64-byte header that opens every frame on the network, and the closed set of message types.
 *
 * A frame is `header | payload`. The header has one fixed shape for every type, so that both ends can decode it
 * without allocating; a field that a type does not use is zero. All integers are little endian.
 *
 * | at | type | field           | meaning                                                              |
 * |----|------|-----------------|----------------------------------------------------------------------|
 * |  0 | u32  | magic           | `0x314d5242` ("BRM1")                                                |
 * |  4 | u8   | type            | {@link MessageType}                                                  |
 * |  5 | u8   | flags           | {@link MessageFlag}                                                  |
 * |  6 | u16  | legIndex        | a leg of the pool, where the type names one                          |
 * |  8 | u32  | requestId       | chosen by the asker, copied into the answer                          |
 * | 12 | i32  | status          | 0, or a negative errno, in answers                                   |
 * | 16 | u64  | sequence        | position in the client's stream of writes (see ARCHITECTURE.md)      |
 * | 24 | u64  | offset          | bytes from the start of the pool                                     |
 * | 32 | u32  | length          | bytes of the pool that the message is about                          |
 * | 36 | u32  | mask            | set of leg indices (bit i = leg i): the legs a write skips           |
 * | 40 | u64  | watermark       | the client's flushed sequence                                        |
 * | 48 | u32  | payloadLength   | bytes that follow the header                                         |
 * | 52 | u32  | payloadCrc      | CRC-32 of the payload; 0 when flag `NO_PAYLOAD_CRC` or no payload    |
 * | 56 | u32  | resyncSession   | which resync of a leg the message belongs to                         |
 * | 60 | u32  | headerCrc       | CRC-32 of bytes 0..59                                                |
 *
 * u64 fields are carried as JavaScript numbers and must stay at or below 2^53 - 1; a larger one is refused.
 *
 * @module
 */

import { headerCrc } from "./header_crc.ts";

/** Length of the header in bytes. */
export const HEADER_BYTES = 64;
/** "BRM1", little endian. */
export const MAGIC = 0x314d5242;
/** The protocol version spoken by this code. See `version_log.md` beside this file. */
export const PROTOCOL_VERSION = 1;
/** Most payload bytes one frame may carry. Equals the largest transfer of one request. */
export const MAX_PAYLOAD_BYTES = 1 << 20;

/** What a frame is. Even the numbers are part of the protocol: never reuse one. */
export const MessageType = {
  /** First frame on a connection, from the side that connected. JSON payload {@link Hello}. */
  HELLO: 1,
  /** Answer to HELLO. JSON payload `Welcome`. */
  WELCOME: 2,
  /** Answer to anything of the control kind that is refused; JSON payload `Refusal`. The connection stays open. */
  REFUSE: 3,
  /** Client to leg: claim the pool for a generation. JSON payload `Claim`. */
  CLAIM: 4,
  /** Leg to client: the claim is durable and the old session drained. JSON payload `Grant`. */
  GRANT: 5,
  /** Client to leg: make this epoch record durable. JSON payload `EpochChange`. */
  EPOCH: 6,
  /** Leg to client: the record is durable (status 0). */
  EPOCH_DONE: 7,
  /** Client to leg: write `length` bytes at `offset`; the payload is the data. */
  WRITE: 8,
  /** Client to leg: the range reads as zeroes afterwards; no payload. */
  WRITE_ZEROES: 9,
  /** Client to leg: as WRITE_ZEROES, and space may be freed. */
  DISCARD: 10,
  /** Client to leg: read `length` bytes at `offset`; answered by DATA. */
  READ: 11,
  /** Client to leg: everything acked so far is on stable storage when this is acked. `sequence` is the barrier. */
  FLUSH: 12,
  /** Either way: are you there? Carries `watermark` from a client. Answered by PONG. */
  PING: 13,
  PONG: 14,
  /** Client to leg: the session ends cleanly. Answered by ACK once drained, flushed and the intent log is empty. */
  DETACH: 15,
  /** Answer to WRITE, WRITE_ZEROES, DISCARD, FLUSH, DETACH, JOIN, RESYNC, CLEAR. */
  ACK: 16,
  /** Answer to READ; the payload is the data when status is 0. */
  DATA: 17,
  /** Leg to client: the intent log is nearly full of extents that only a flush lets it forget. Not answered. */
  WANT_FLUSH: 18,
  /** Client to leg, on a new connection: go on with my session, here. JSON payload `Return`. Needs feature RETURN. */
  RETURN: 19,
  /**
   * Client to in-sync legs: from here on, that is after write `sequence`, leg `legIndex` gets every write; `resyncSession` may clear its
   * dirty map.
   */
  JOIN: 20,
  /** Client to a leg: pull what you lack; you get every write after `sequence`. JSON payload `ResyncOrder`. Acked when taken up. */
  RESYNC: 21,
  /** Leg to client: JSON payload `ResyncReport` (progress, done, failed). */
  RESYNC_REPORT: 22,
  /** Answer to RETURN: the session goes on. JSON payload `Returned`. */
  RETURNED: 23,
  /**
   * Leg to peer leg: send the dirty map of leg `legIndex`, from chunk `sequence` on, as it is at or past epoch `watermark`. Answered
   * with -EAGAIN before that.
   */
  MAP_FETCH: 30,
  /** Answer: payload is pairs of u32 (first chunk, count); `sequence` is where to go on, 0 when complete. */
  MAP_PART: 31,
  /** Leg to peer leg: send `length` bytes at `offset`, read at a position at or past JOIN of `resyncSession`. */
  PULL: 32,
  /**
   * Answer: the payload is the data when status is 0. -EAGAIN: not at that position yet, ask again. `sequence`: bytes that clients
   * have moved at the answering leg so far; `mask`: microseconds that their I/O takes there lately (0: unknown). For the throttle.
   * `watermark`: no write after this one is in the data.
   */
  PULL_DATA: 33,
  /**
   * Leg to peer leg: these chunks (payload: pairs of u32) of leg `legIndex` are synced and flushed, with data that may hold writes up to
   * `watermark`. Acked, whether or not all of them are cleared.
   */
  CLEAR: 34,
  /** Leg to peer leg: hash every chunk of `length` bytes at `offset` (same conditions as PULL). */
  HASH: 35,
  /** Answer: two u32 (low, high of XXH64) a chunk. */
  HASH_DATA: 36,
  /** Operator to node: JSON payload `{op, ...}`. Answered by CONTROL_REPLY with the same requestId. */
  CONTROL_REQUEST: 40,
  /** JSON payload `{ok: true, result}` or `{ok: false, error: {code, message}}`. */
  CONTROL_REPLY: 41,
  /**
   * Within a machine, between transports: payloads at these pages (u32, in pairs, 0xffffffff for none) that frames with flag
   * SHARED_PAYLOAD have named are no longer read. Their memory may be used again.
   */
  RELEASED: 50,
} as const;
export type MessageType = typeof MessageType[keyof typeof MessageType];

/** Bits of `flags`. */
export const MessageFlag = {
  /** On WRITE, WRITE_ZEROES, DISCARD: on stable storage before the ack. */
  FUA: 1,
  /** The sender did not checksum the payload. */
  NO_PAYLOAD_CRC: 2,
  /** On WRITE_ZEROES: do not free space. */
  NO_HOLE: 4,
  /** On WRITE, where ends share memory: no payload follows; `payloadCrc` is the page of the sender's memory at which it lies. */
  SHARED_PAYLOAD: 8,
  /** On WRITE, WRITE_ZEROES, DISCARD after RETURNED: it may have been sent on the connection before. */
  AGAIN: 16,
} as const;

/** Why a header was not accepted. */
export type HeaderFault = "magic" | "crc" | "type" | "range" | "payload-length";

const KNOWN_TYPES = new Uint8Array(256);
for (const type of Object.values(MessageType)) KNOWN_TYPES[type] = 1;

const TWO_32 = 4294967296;

/** One header, reused from frame to frame. Plain numbers; never kept by reference past the call that received it. */
export class Message {
  type = 0;
  flags = 0;
  legIndex = 0;
  requestId = 0;
  status = 0;
  sequence = 0;
  offset = 0;
  length = 0;
  mask = 0;
  watermark = 0;
  payloadLength = 0;
  payloadCrc = 0;
  resyncSession = 0;

  /** All fields to zero, and the type set. */
  reset(type: number): this {
    this.type = type;
    this.flags = 0;
    this.legIndex = 0;
    this.requestId = 0;
    this.status = 0;
    this.sequence = 0;
    this.offset = 0;
    this.length = 0;
    this.mask = 0;
    this.watermark = 0;
    this.payloadLength = 0;
    this.payloadCrc = 0;
    this.resyncSession = 0;
    return this;
  }

  /** Copies every field of `other`. */
  copyFrom(other: Message): this {
    this.type = other.type;
    this.flags = other.flags;
    this.legIndex = other.legIndex;
    this.requestId = other.requestId;
    this.status = other.status;
    this.sequence = other.sequence;
    this.offset = other.offset;
    this.length = other.length;
    this.mask = other.mask;
    this.watermark = other.watermark;
    this.payloadLength = other.payloadLength;
    this.payloadCrc = other.payloadCrc;
    this.resyncSession = other.resyncSession;
    return this;
  }
}

/** Where the type is in a header. */
export const HEADER_TYPE_AT = 4;

/** Writes `message` as 64 bytes at `at`. */
export function encodeHeader(message: Message, view: DataView, at: number): void {
  view.setUint32(at, MAGIC, true);
  view.setUint8(at + HEADER_TYPE_AT, message.type);
  view.setUint8(at + 5, message.flags);
  view.setUint16(at + 6, message.legIndex, true);
  view.setUint32(at + 8, message.requestId, true);
  view.setInt32(at + 12, message.status, true);
  setUint53(view, at + 16, message.sequence);
  setUint53(view, at + 24, message.offset);
  view.setUint32(at + 32, message.length, true);
  view.setUint32(at + 36, message.mask, true);
  setUint53(view, at + 40, message.watermark);
  view.setUint32(at + 48, message.payloadLength, true);
  view.setUint32(at + 52, message.payloadCrc, true);
  view.setUint32(at + 56, message.resyncSession, true);
  view.setUint32(at + 60, headerCrc(view, at), true);
}

/** Reads the header at `at` into `out`. Returns null when it is sound, else what is wrong with it. */
export function decodeHeader(view: DataView, at: number, out: Message): HeaderFault | null {
  if (view.getUint32(at, true) !== MAGIC) return "magic";
  if (view.getUint32(at + 60, true) !== headerCrc(view, at)) return "crc";
  const type = view.getUint8(at + HEADER_TYPE_AT);
  if (KNOWN_TYPES[type] === 0) return "type";
  const sequence = getUint53(view, at + 16);
  const offset = getUint53(view, at + 24);
  const watermark = getUint53(view, at + 40);
  if (sequence < 0 || offset < 0 || watermark < 0) return "range";
  const payloadLength = view.getUint32(at + 48, true);
  if (payloadLength > MAX_PAYLOAD_BYTES) return "payload-length";
  out.type = type;
  out.flags = view.getUint8(at + 5);
  out.legIndex = view.getUint16(at + 6, true);
  out.requestId = view.getUint32(at + 8, true);
  out.status = view.getInt32(at + 12, true);
  out.sequence = sequence;
  out.offset = offset;
  out.length = view.getUint32(at + 32, true);
  out.mask = view.getUint32(at + 36, true);
  out.watermark = watermark;
  out.payloadLength = payloadLength;
  out.payloadCrc = view.getUint32(at + 52, true);
  out.resyncSession = view.getUint32(at + 56, true);
  return null;
}

function setUint53(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, (value / TWO_32) >>> 0, true);
}

/** The u64 at `at`, or -1 when it is above 2^53 - 1. */
function getUint53(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high > 0x1fffff) return -1;
  return high * TWO_32 + view.getUint32(at, true);
}
