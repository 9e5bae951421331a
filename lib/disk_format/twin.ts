/**
 * Choosing between the two copies of a record. Each copy is written durably before the other is begun, so at least one
 * is whole after any crash, and the whole one with the higher sequence is the record.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { BadBlock, BlockDecoder, BlockIdentity, DecodeResult, GoodBlock } from "./block_header.ts";

/** The record, or both faults. */
export type TwinPick<T> =
  | {
    readonly ok: true;
    readonly value: T;
    readonly sequence: number;
    /** The copy that was chosen: 0 or 1. */
    readonly copy: 0 | 1;
    /** Copies (0, 1) that must be written anew from the chosen one. */
    readonly repair: readonly (0 | 1)[];
  }
  | {
    readonly ok: false;
    readonly first: BadBlock;
    readonly second: BadBlock;
    /**
     * True when no such record was ever written whole: the second copy is blank, and the first is blank too or torn.
     * (The second is begun only when the first is durable, and nothing relies on a record before the second is.)
     */
    readonly neverWritten: boolean;
  };

/**
 * Picks the valid copy with the higher sequence.
 *
 * @param first 4096 bytes at the record's offset
 * @param second the 4096 bytes that follow
 * @param identity whose record it must be; null takes any
 */
export function pickTwin<T>(
  first: Uint8Array,
  second: Uint8Array,
  decode: BlockDecoder<T>,
  identity: BlockIdentity | null,
): TwinPick<T> {
  const a: DecodeResult<T> = decode(first, identity);
  const b: DecodeResult<T> = decode(second, identity);
  // A copy that a newer brmr has written whole is refused, even beside one this version can read: it may say more.
  const newer = isNewer(a) ? a : isNewer(b) ? b : null;
  if (newer !== null) return { ok: false, first: newer, second: newer, neverWritten: false };
  if (!a.ok && !b.ok) {
    const torn = a.fault === "empty" || a.fault === "crc" || a.fault === "magic";
    return { ok: false, first: a, second: b, neverWritten: b.fault === "empty" && torn };
  }
  if (!a.ok) return chosen(b as GoodBlock<T>, 1, [0]);
  if (!b.ok) return chosen(a, 0, [1]);
  if (a.sequence > b.sequence) return chosen(a, 0, [1]);
  if (b.sequence > a.sequence) return chosen(b, 1, [0]);
  // Equal sequences and different content: no writer of ours does that, but then the copies must not stay different.
  return chosen(a, 0, Buffer.compare(first, second) === 0 ? [] : [1]);
}

function isNewer<T>(result: DecodeResult<T>): result is BadBlock {
  return !result.ok && (result.fault === "version" || result.fault === "features");
}

function chosen<T>(block: GoodBlock<T>, copy: 0 | 1, repair: readonly (0 | 1)[]): TwinPick<T> {
  return { ok: true, value: block.value, sequence: block.sequence, copy, repair };
}
