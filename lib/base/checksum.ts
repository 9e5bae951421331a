/**
 * Checksums: CRC-32 (ISO, as in zlib: built into the runtime and fast) for headers, payloads and metadata; XXH64 for
 * comparing the data of two legs chunk by chunk.
 *
 * @module
 */

import { crc32 as zlibCrc32 } from "node:zlib";
import createXxhash from "xxhash-wasm";
import { assert } from "./assert.ts";

// xxhash-wasm gives hashes as bigints; this path is read-and-compare work, bounded by disk and network, not per-write.
const { h64Raw } = await createXxhash();

/** CRC-32 of `bytes` (u32). To go on over more bytes, give the CRC so far as `seed`. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return zlibCrc32(bytes, seed);
}

/**
 * XXH64 (seed 0) of each chunk of `bytes`: word 2i is the low half of chunk i's hash, word 2i + 1 the high half. The last
 * chunk may be shorter.
 */
export function hashChunks(bytes: Uint8Array, chunkBytes: number): Uint32Array {
  assert(Number.isInteger(chunkBytes) && chunkBytes > 0, "A positive chunk size", chunkBytes);
  const count = Math.ceil(bytes.length / chunkBytes);
  const words = new Uint32Array(2 * count);
  const hashes = new BigUint64Array(words.buffer);
  for (let i = 0; i < count; i++) {
    hashes[i] = h64Raw(bytes.subarray(i * chunkBytes, Math.min((i + 1) * chunkBytes, bytes.length)));
  }
  return words;
}
