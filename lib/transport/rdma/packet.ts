/**
 * What the two ends of an RDMA connection say to each other beneath frames. All integers are little endian.
 *
 * When they connect, each gives an _offer_ of 32 bytes along: memory that the other may write to.
 *
 * | at | type | field           | meaning                                                  |
 * |----|------|-----------------|----------------------------------------------------------|
 * |  0 | u32  | magic           | `0x31525242` ("BRR1": the last digit is the version)     |
 * |  4 | u32  | receives        | packets the sender of this has posted receives for       |
 * |  8 | u64  | landingAddress  | first byte of the memory the peer may write to           |
 * | 16 | u32  | landingPages    | its length in pages of 4 KiB                             |
 * | 20 | u32  | landingKey      | remote key of that memory                                |
 * | 24 | u64  |                 | zero                                                     |
 *
 * Then each SEND is a _packet_ of at most 4096 bytes:
 *
 * | at | type | field         | meaning                                                                        |
 * |----|------|---------------|--------------------------------------------------------------------------------|
 * |  0 | u16  | magic         | `0x5242`                                                                       |
 * |  2 | u16  | flags         | 1: the sender waits for landing memory: tell of all that is free               |
 * |  4 | u32  | receivedCount | packets taken from the peer so far, their receives posted again (modulo 2^32)  |
 * |  8 | u32  | freedCount    | entries of the list that follows: landing pages that are free again            |
 * | 12 | u32  | bodyBytes     |                                                                                |
 * | 16 | u32… | freed         | first page of each run that was written to and is free                         |
 * |    |      | body          |                                                                                |
 *
 * A body is a sequence of records: the 64 bytes of a frame's header and a u32, the _placement_: the first page of landing
 * memory where the payload lies already, or `IN_BAND` (also when there is none). Payload in band follows its record, and
 * goes on in the packets that follow if need be. A record is never cut.
 *
 * @module
 */

/** "BRR1". */
export const OFFER_MAGIC = 0x31525242;
export const OFFER_BYTES = 32;
export const PACKET_MAGIC = 0x5242;
/** Most bytes of a packet, and the length of the buffers that packets are received into. One packet of a 4096 byte MTU. */
export const PACKET_BYTES = 4096;
export const PACKET_HEADER_BYTES = 16;
/** Most entries of a packet's list of freed pages. */
export const MAX_FREED = 256;
/** A frame's header and its placement. */
export const RECORD_BYTES = 68;
export const IN_BAND = 0xffffffff;
export const PAGE_BYTES = 4096;

/** Bits of a packet's flags. */
export const PacketFlag = { WAITS_FOR_MEMORY: 1 } as const;

/** Where the body of the packet of `lengthBytes` at `at` begins; -1 when the packet is malformed. */
export function packetBodyAt(view: DataView, at: number, lengthBytes: number): number {
  if (lengthBytes < PACKET_HEADER_BYTES || lengthBytes > PACKET_BYTES) return -1;
  const freedCount = view.getUint32(at + 8, true);
  if (view.getUint16(at, true) !== PACKET_MAGIC || freedCount > MAX_FREED) return -1;
  const headBytes = PACKET_HEADER_BYTES + 4 * freedCount;
  return headBytes + view.getUint32(at + 12, true) === lengthBytes ? at + headBytes : -1;
}

/** What an end offers to its peer. */
export interface Offer {
  readonly receives: number;
  readonly landingAddress: number;
  readonly landingPages: number;
  readonly landingKey: number;
}

/** Writes an offer into `view`, which has OFFER_BYTES. */
export function encodeOffer(offer: Offer, view: DataView): void {
  view.setUint32(0, OFFER_MAGIC, true);
  view.setUint32(4, offer.receives, true);
  view.setUint32(8, offer.landingAddress >>> 0, true);
  view.setUint32(12, Math.floor(offer.landingAddress / 4294967296), true);
  view.setUint32(16, offer.landingPages, true);
  view.setUint32(20, offer.landingKey, true);
}

/** Reads an offer, which the connection manager may have padded; null when it is none of this version. */
export function decodeOffer(bytes: Uint8Array): Offer | null {
  if (bytes.length < OFFER_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== OFFER_MAGIC) return null;
  const offer = {
    receives: view.getUint32(4, true),
    landingAddress: view.getUint32(12, true) * 4294967296 + view.getUint32(8, true),
    landingPages: view.getUint32(16, true),
    landingKey: view.getUint32(20, true),
  };
  const isSound = offer.receives >= 2 && offer.receives <= 65536 && offer.landingPages <= 1 << 20 &&
    offer.landingAddress <= Number.MAX_SAFE_INTEGER;
  return isSound ? offer : null;
}
