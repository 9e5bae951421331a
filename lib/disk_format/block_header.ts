/**
 * The header that every metadata block begins with, whatever its kind. Its layout and its CRC never change with the
 * format version, so that any version can tell a newer block from a broken one.
 *
 * All numbers are little-endian.
 *
 * | offset | bytes | what |
 * |---|---|---|
 * | 0 | 8 | magic "BRMRMETA" |
 * | 8 | 2 | kind of block |
 * | 10 | 2 | format version |
 * | 12 | 4 | compatible features: their fields come after all that are known, and may be passed over |
 * | 16 | 4 | incompatible features: an unknown one refuses the block |
 * | 20 | 4 | payload length in bytes |
 * | 24 | 8 | sequence: the copy with the higher one is newer |
 * | 32 | 16 | pool UUID |
 * | 48 | 16 | leg UUID |
 * | 64 | 4 | CRC-32 of all 4096 bytes with this field zero |
 * | 68 | 28 | zero |
 * | 96 | 4000 | payload, then zeroes |
 *
 * A superblock is never written anew, only its copies from one another, so features that we do not know stay in it. A record that is written
 * anew loses the fields of features that we do not know and the bits with them: a newer brmr sees that an older one has been at work.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { assert } from "../base/assert.ts";
import { readUuid, UUID_BYTES, writeUuid } from "../base/uuid.ts";
import { BLOCK_BYTES } from "./records.ts";

/** Where the payload begins. */
export const HEADER_BYTES = 96;
/** Most payload bytes of one block. */
export const PAYLOAD_BYTES = BLOCK_BYTES - HEADER_BYTES;
/** Version of the formats in this folder. */
export const FORMAT_VERSION = 1;
/** Compatible features this version knows: none yet. */
export const KNOWN_COMPATIBLE_FEATURES = 0;
/** Incompatible features this version knows: none yet. */
export const KNOWN_INCOMPATIBLE_FEATURES = 0;

/** Kinds of metadata blocks. */
export const BlockKind = { SUPERBLOCK: 1, EPOCH_RECORD: 2, INTENT_BLOCK: 3, MAP_PAGE: 4 } as const;

/** Whose block it is. */
export interface BlockIdentity {
  readonly poolUuid: string;
  readonly legUuid: string;
}

/** Why a block cannot be believed. */
export type BlockFault = "empty" | "magic" | "crc" | "version" | "features" | "identity" | "content";

/** A block that cannot be believed: `message` is for people. */
export interface BadBlock {
  readonly ok: false;
  readonly fault: BlockFault;
  readonly message: string;
}

/** A block that can be. */
export interface GoodBlock<T> {
  readonly ok: true;
  readonly value: T;
  readonly sequence: number;
}

/** What decoding a block gives. */
export type DecodeResult<T> = GoodBlock<T> | BadBlock;

/** Names the owner of the block that is decoded; null takes any. */
export type BlockDecoder<T> = (block: Uint8Array, identity: BlockIdentity | null) => DecodeResult<T>;

const MAGIC = new TextEncoder().encode("BRMRMETA");
const KIND_OFFSET = 8;
const VERSION_OFFSET = 10;
const COMPATIBLE_OFFSET = 12;
const INCOMPATIBLE_OFFSET = 16;
const PAYLOAD_LENGTH_OFFSET = 20;
const SEQUENCE_OFFSET = 24;
const POOL_UUID_OFFSET = 32;
const LEG_UUID_OFFSET = POOL_UUID_OFFSET + UUID_BYTES;
const CRC_OFFSET = 64;
const CRC_BYTES = 4;
const ZERO_CRC = new Uint8Array(CRC_BYTES);

const KIND_NAMES: Record<number, string> = {
  [BlockKind.SUPERBLOCK]: "superblock",
  [BlockKind.EPOCH_RECORD]: "epoch record",
  [BlockKind.INTENT_BLOCK]: "intent block",
  [BlockKind.MAP_PAGE]: "dirty map page",
};

/** A view of a block's bytes. */
export function viewOf(block: Uint8Array): DataView {
  return new DataView(block.buffer, block.byteOffset, block.byteLength);
}

/** Writes a non-negative safe integer as 8 bytes. */
export function setUint53(view: DataView, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, "A non-negative safe integer", value);
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
}

/** Reads 8 bytes; NaN when they hold more than 2^53 - 1. */
export function getUint53(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  return high >= 2 ** 21 ? NaN : high * 2 ** 32 + view.getUint32(offset, true);
}

/** The CRC-32 of a block as if its CRC field were zero. */
function blockCrc(block: Uint8Array): number {
  const head = crc32(ZERO_CRC, crc32(block.subarray(0, CRC_OFFSET)));
  return crc32(block.subarray(CRC_OFFSET + CRC_BYTES, BLOCK_BYTES), head);
}

/** A fault of the kind "content". */
export function badContent(message: string): BadBlock {
  return { ok: false, fault: "content", message };
}

/**
 * A new block with its header filled in. The caller writes the payload from {@link HEADER_BYTES} on, then calls
 * {@link sealBlock}.
 */
export function beginBlock(
  kind: number,
  identity: BlockIdentity,
  sequence: number,
  payloadBytes: number,
): Uint8Array<ArrayBuffer> {
  assert(payloadBytes <= PAYLOAD_BYTES, "The payload fits in a block", payloadBytes);
  const block = new Uint8Array(BLOCK_BYTES);
  const view = viewOf(block);
  block.set(MAGIC, 0);
  view.setUint16(KIND_OFFSET, kind, true);
  view.setUint16(VERSION_OFFSET, FORMAT_VERSION, true);
  view.setUint32(COMPATIBLE_OFFSET, 0, true);
  view.setUint32(INCOMPATIBLE_OFFSET, 0, true);
  view.setUint32(PAYLOAD_LENGTH_OFFSET, payloadBytes, true);
  setUint53(view, SEQUENCE_OFFSET, sequence);
  writeUuid(identity.poolUuid, block, POOL_UUID_OFFSET);
  writeUuid(identity.legUuid, block, LEG_UUID_OFFSET);
  return block;
}

/** Puts the CRC in: the last step of an encoder. */
export function sealBlock(block: Uint8Array): void {
  viewOf(block).setUint32(CRC_OFFSET, blockCrc(block), true);
}

/** What the header says, once it is believed. */
export interface BlockHeader {
  readonly ok: true;
  readonly poolUuid: string;
  readonly legUuid: string;
  readonly sequence: number;
  readonly payloadBytes: number;
  /** The payload may go on after the fields that this version knows. */
  readonly hasMoreFields: boolean;
}

/**
 * Checks everything about a block but its payload.
 *
 * @param identity whose block it must be; null takes any
 */
export function openBlock(block: Uint8Array, kind: number, identity: BlockIdentity | null): BlockHeader | BadBlock {
  const name = KIND_NAMES[kind];
  if (block.length !== BLOCK_BYTES) return badContent(`A ${name} has ${BLOCK_BYTES} bytes, not ${block.length}`);
  for (let i = 0; i < MAGIC.length; i++) {
    if (block[i] === MAGIC[i]) continue;
    return isZero(block)
      ? { ok: false, fault: "empty", message: `No ${name}: the block is all zeroes` }
      : { ok: false, fault: "magic", message: `No ${name}: the block does not begin with "BRMRMETA"` };
  }
  const view = viewOf(block);
  const expected = view.getUint32(CRC_OFFSET, true);
  const actual = blockCrc(block);
  if (expected !== actual) {
    const message = `The ${name} is damaged: its CRC is ${hex(actual)}, not ${hex(expected)} as written`;
    return { ok: false, fault: "crc", message };
  }
  const version = view.getUint16(VERSION_OFFSET, true);
  if (version !== FORMAT_VERSION) {
    const message = `The ${name} has format version ${version}; this brmr reads version ${FORMAT_VERSION}`;
    return { ok: false, fault: "version", message };
  }
  const unknown = (view.getUint32(INCOMPATIBLE_OFFSET, true) & ~KNOWN_INCOMPATIBLE_FEATURES) >>> 0;
  if (unknown !== 0) {
    const message = `The ${name} needs features this brmr does not know (bits ${hex(unknown)}): use a newer brmr`;
    return { ok: false, fault: "features", message };
  }
  const foundKind = view.getUint16(KIND_OFFSET, true);
  if (foundKind !== kind) {
    return badContent(`A ${KIND_NAMES[foundKind] ?? `block of kind ${foundKind}`} stands where a ${name} belongs`);
  }
  const sequence = getUint53(view, SEQUENCE_OFFSET);
  if (Number.isNaN(sequence)) return badContent(`The sequence of the ${name} is too large`);
  const payloadBytes = view.getUint32(PAYLOAD_LENGTH_OFFSET, true);
  if (payloadBytes > PAYLOAD_BYTES) return badContent(`The ${name} claims a payload of ${payloadBytes} bytes`);
  const poolUuid = readUuid(block, POOL_UUID_OFFSET);
  const legUuid = readUuid(block, LEG_UUID_OFFSET);
  if (identity !== null && (identity.poolUuid !== poolUuid || identity.legUuid !== legUuid)) {
    const message = `The ${name} belongs to leg ${legUuid} of pool ${poolUuid}, ` +
      `not to leg ${identity.legUuid} of pool ${identity.poolUuid}`;
    return { ok: false, fault: "identity", message };
  }
  const hasMoreFields = (view.getUint32(COMPATIBLE_OFFSET, true) & ~KNOWN_COMPATIBLE_FEATURES) !== 0;
  return { ok: true, poolUuid, legUuid, sequence, payloadBytes, hasMoreFields };
}

function isZero(block: Uint8Array): boolean {
  for (let i = 0; i < block.length; i++) {
    if (block[i] !== 0) return false;
  }
  return true;
}

function hex(value: number): string {
  return "0x" + value.toString(16).padStart(8, "0");
}
