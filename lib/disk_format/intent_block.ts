/**
 * A block of the intent log on the device: extents that may be mid-write, in fixed slots. A slot that changes hands is
 * one block write; the other slots of the block are written as they stand.
 *
 * Payload: block index u32 | 28 zero bytes | {@link INTENT_SLOTS_PER_BLOCK} extent numbers u32, 0xffffffff = free.
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
  HEADER_BYTES,
  openBlock,
  PAYLOAD_BYTES,
  sealBlock,
  viewOf,
} from "./block_header.ts";

const PREFIX_BYTES = 32;
const SLOTS_OFFSET = HEADER_BYTES + PREFIX_BYTES;

/** Extents one block can hold. */
export const INTENT_SLOTS_PER_BLOCK = (PAYLOAD_BYTES - PREFIX_BYTES) / 4;
/** What a slot without an extent holds. */
export const FREE_INTENT_SLOT = 0xffffffff;

/** One block in memory. */
export interface IntentBlock {
  /** Slot s of block b is slot `b * INTENT_SLOTS_PER_BLOCK + s` of the log. */
  readonly blockIndex: number;
  /** {@link INTENT_SLOTS_PER_BLOCK} extent numbers or {@link FREE_INTENT_SLOT}. */
  readonly slots: Uint32Array;
}

/** A block with all slots free. */
export function emptyIntentBlock(blockIndex: number): IntentBlock {
  return { blockIndex, slots: new Uint32Array(INTENT_SLOTS_PER_BLOCK).fill(FREE_INTENT_SLOT) };
}

/** Encodes a block. */
export function encodeIntentBlock(
  value: IntentBlock,
  identity: BlockIdentity,
  sequence: number,
): Uint8Array<ArrayBuffer> {
  assert(value.slots.length === INTENT_SLOTS_PER_BLOCK, "A whole block of slots", value.slots.length);
  const block = beginBlock(BlockKind.INTENT_BLOCK, identity, sequence, PAYLOAD_BYTES);
  const view = viewOf(block);
  view.setUint32(HEADER_BYTES, value.blockIndex, true);
  for (let i = 0; i < INTENT_SLOTS_PER_BLOCK; i++) view.setUint32(SLOTS_OFFSET + 4 * i, value.slots[i], true);
  sealBlock(block);
  return block;
}

/** Decodes a block. */
export function decodeIntentBlock(block: Uint8Array, identity: BlockIdentity | null): DecodeResult<IntentBlock> {
  const header = openBlock(block, BlockKind.INTENT_BLOCK, identity);
  if (!header.ok) return header;
  if (header.payloadBytes !== PAYLOAD_BYTES) return badContent(`An intent block of ${header.payloadBytes} bytes`);
  const view = viewOf(block);
  const slots = new Uint32Array(INTENT_SLOTS_PER_BLOCK);
  for (let i = 0; i < INTENT_SLOTS_PER_BLOCK; i++) slots[i] = view.getUint32(SLOTS_OFFSET + 4 * i, true);
  return {
    ok: true,
    value: { blockIndex: view.getUint32(HEADER_BYTES, true), slots },
    sequence: header.sequence,
  };
}
