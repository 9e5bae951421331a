import assert from "node:assert/strict";
import { crc32, hashChunks } from "../../../lib/base/checksum.ts";

const ascii = (text: string) => new TextEncoder().encode(text);

Deno.test("crc32() is the CRC of zlib and can go on", () => {
  assert.equal(crc32(ascii("123456789")), 0xcbf43926); // the check value of CRC-32/ISO-HDLC
  assert.equal(crc32(ascii("6789"), crc32(ascii("12345"))), 0xcbf43926);
  assert.equal(crc32(new Uint8Array(0)), 0);
});

Deno.test("hashChunks() is XXH64 of each chunk, low word first", () => {
  // XXH64 of "" is ef46db3751d8e999, of "a" d24ec4f1a98c6e5b, of "abc" 44bc2cf5ad770999 (xxHash's own vectors, seed 0).
  assert.deepEqual(hashChunks(ascii("a"), 4096), Uint32Array.of(0xa98c6e5b, 0xd24ec4f1));
  assert.deepEqual(
    hashChunks(ascii("abca"), 3),
    Uint32Array.of(0xad770999, 0x44bc2cf5, 0xa98c6e5b, 0xd24ec4f1),
  );
  assert.equal(hashChunks(new Uint8Array(0), 4096).length, 0);
});

Deno.test("hashChunks() hashes a view over shared memory like a plain one", () => {
  const plain = new Uint8Array(1 << 20).map((_, i) => (i * 7 + (i >> 12)) & 0xff);
  const shared = new Uint8Array(new SharedArrayBuffer((1 << 20) + 16), 16, 1 << 20);
  shared.set(plain);
  const expected = hashChunks(plain, 4096);
  assert.equal(expected.length, 512);
  assert.deepEqual(hashChunks(shared, 4096), expected);
  shared[4096 * 3 + 5] ^= 1;
  const changed = hashChunks(shared, 4096);
  const differing = [];
  for (let i = 0; i < 256; i++) if (changed[2 * i] !== expected[2 * i]) differing.push(i);
  assert.deepEqual(differing, [3]);
});
