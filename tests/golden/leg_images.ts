/**
 * What is in the images of whole legs: see make_leg_images.ts.
 *
 * @module
 */

import type { LoadedLeg } from "../../lib/store/leg_device.ts";

/** Size of their pool. */
export const IMAGE_BYTES = 4 * 1024 * 1024;
/** Names of the images: a leg of a pool that was detached, one that has gone on alone and was killed, and the one that it missed. */
export const IMAGE_NAMES = ["clean", "survivor", "stale"] as const;
/** Blocks of 4 KiB written while both legs were there, with salt 1. */
export const FIRST_BLOCKS = [0, 1, 255, 256, 700, 1023];
/** Blocks written when only the survivor was left, with salt 2. */
export const DEGRADED_BLOCKS = [1, 300, 301, 302, 1022];

/** What is written to a block. */
export function patternBlock(block: number, salt: number): Uint8Array {
  return new Uint8Array(4096).fill((block * 31 + salt * 101) % 251 + 1);
}

/** What opening a leg gives, as plain data. */
export function toldOf(leg: LoadedLeg) {
  const dirty: Record<string, number[]> = {};
  leg.record.shared.legs.forEach((_, legIndex) => {
    const chunks: number[] = [];
    for (const { page, words } of leg.mapPages(legIndex)) {
      for (let bit = 0; bit < words.length * 32; bit++) {
        if ((words[bit >>> 5] & (1 << (bit & 31))) !== 0) chunks.push(page * words.length * 32 + bit);
      }
    }
    if (chunks.length > 0) dirty[legIndex] = chunks;
  });
  return {
    superblock: leg.superblock,
    record: leg.record,
    intents: leg.intents,
    intentsDamaged: leg.intentsDamaged,
    dirty,
  };
}
