/**
 * A page of a dirty map on the device: which of {@link CHUNKS_PER_MAP_PAGE} chunks one other leg lacks.
 *
 * Payload: incarnation u64 | page u32 | leg index u32 | 16 zero bytes | one bit a chunk, in little-endian words of 32
 * (bit c of the page is bit c % 32 of word c / 32; 1 = dirty).
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import {
  badContent,
  beginBlock,
  type BlockIdentity,
  BlockKind,
  type DecodeResult,
  getUint53,
  HEADER_BYTES,
  openBlock,
  PAYLOAD_BYTES,
  sealBlock,
  setUint53,
  viewOf,
} from "./block_header.ts";
import { MAX_LEGS } from "./records.ts";

const PREFIX_BYTES = 32;
const WORDS_OFFSET = HEADER_BYTES + PREFIX_BYTES;

/** Words of bits in one page. */
export const WORDS_PER_MAP_PAGE = (PAYLOAD_BYTES - PREFIX_BYTES) / 4;
/**
 * Chunks of one page: 31744 = 124 × 256, so with 4 KiB chunks and 1 MiB extents an extent never straddles two pages
 * and making an extent's suspicions durable is one page write.
 */
export const CHUNKS_PER_MAP_PAGE = WORDS_PER_MAP_PAGE * 32;

/** One page in memory. */
export interface MapPage {
  /** The leg that lacks the chunks, not the leg the page is kept on. */
  readonly legIndex: number;
  /** The page covers chunks `page * CHUNKS_PER_MAP_PAGE` and on. */
  readonly page: number;
  readonly mapIncarnation: number;
  /** {@link WORDS_PER_MAP_PAGE} words. */
  readonly words: Uint32Array;
}

/** Encodes a page. */
export function encodeMapPage(value: MapPage, identity: BlockIdentity, sequence: number): Uint8Array<ArrayBuffer> {
  assert(value.legIndex >= 0 && value.legIndex < MAX_LEGS, "A leg index", value.legIndex);
  assert(value.words.length === WORDS_PER_MAP_PAGE, "A whole page of words", value.words.length);
  const block = beginBlock(BlockKind.MAP_PAGE, identity, sequence, PAYLOAD_BYTES);
  const view = viewOf(block);
  setUint53(view, HEADER_BYTES, value.mapIncarnation);
  view.setUint32(HEADER_BYTES + 8, value.page, true);
  view.setUint32(HEADER_BYTES + 12, value.legIndex, true);
  for (let i = 0; i < WORDS_PER_MAP_PAGE; i++) view.setUint32(WORDS_OFFSET + 4 * i, value.words[i], true);
  sealBlock(block);
  return block;
}

/** Decodes a page. */
export function decodeMapPage(block: Uint8Array, identity: BlockIdentity | null): DecodeResult<MapPage> {
  const header = openBlock(block, BlockKind.MAP_PAGE, identity);
  if (!header.ok) return header;
  if (header.payloadBytes !== PAYLOAD_BYTES) return badContent(`A dirty map page of ${header.payloadBytes} bytes`);
  const view = viewOf(block);
  const mapIncarnation = getUint53(view, HEADER_BYTES);
  const page = view.getUint32(HEADER_BYTES + 8, true);
  const legIndex = view.getUint32(HEADER_BYTES + 12, true);
  if (Number.isNaN(mapIncarnation)) return badContent("The incarnation of the dirty map page is too large");
  if (legIndex >= MAX_LEGS) return badContent(`The dirty map page is for leg ${legIndex}`);
  const words = new Uint32Array(WORDS_PER_MAP_PAGE);
  for (let i = 0; i < WORDS_PER_MAP_PAGE; i++) words[i] = view.getUint32(WORDS_OFFSET + 4 * i, true);
  return { ok: true, value: { legIndex, page, mapIncarnation, words }, sequence: header.sequence };
}
