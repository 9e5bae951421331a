import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { BlockDecoder, BlockFault } from "../../../lib/disk_format/block_header.ts";
import { pickTwin } from "../../../lib/disk_format/twin.ts";
import { OWNER, sampleRecords } from "./sample_records.ts";

const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
const CRC_OFFSET = 64;

/** Changes a block as a writer of another version would: with a CRC that is right. */
function rewritten(block: Uint8Array, change: (view: DataView) => void): Uint8Array {
  const copy = block.slice();
  const view = new DataView(copy.buffer);
  change(view);
  view.setUint32(CRC_OFFSET, 0, true);
  view.setUint32(CRC_OFFSET, crc32(copy), true);
  return copy;
}

function faultOf<T>(decode: BlockDecoder<T>, block: Uint8Array): BlockFault | "none" {
  const result = decode(block, OWNER);
  if (!result.ok) assert.ok(result.message.length > 10, "a fault has words");
  return result.ok ? "none" : result.fault;
}

for (const { name, encode, decode } of sampleRecords()) {
  const block = encode(5);

  Deno.test(`${name}: every flipped bit is found`, () => {
    const copy = block.slice();
    for (let bit = 0; bit < BLOCK_BYTES * 8; bit++) {
      copy[bit >> 3] ^= 1 << (bit & 7);
      const fault = faultOf(decode, copy);
      assert.ok(fault === "crc" || fault === "magic" && bit < 64, `bit ${bit}: ${fault}`);
      copy[bit >> 3] ^= 1 << (bit & 7);
    }
    assert.equal(faultOf(decode, copy), "none");
  });

  Deno.test(`${name}: a torn write is found, or does no harm`, () => {
    const before = encode(4, 1);
    const states: [string, Uint8Array][] = [["over nothing", new Uint8Array(BLOCK_BYTES)], [
      "over an older one",
      before,
    ]];
    for (const [what, old] of states) {
      for (let torn = 0; torn <= BLOCK_BYTES; torn += SECTOR_BYTES) {
        for (
          const mix of [
            Buffer.concat([block.subarray(0, torn), old.subarray(torn)]),
            Buffer.concat([old.subarray(0, torn), block.subarray(torn)]),
          ]
        ) {
          const isWhole = Buffer.compare(mix, block) === 0 || Buffer.compare(mix, old) === 0;
          const fault = faultOf(decode, mix);
          const expected = !isWhole
            ? "bad"
            : Buffer.compare(mix, block) !== 0 && what === "over nothing"
            ? "empty"
            : "none";
          if (expected === "bad") assert.ok(fault === "crc" || fault === "magic", `${what}, ${torn} bytes: ${fault}`);
          else assert.equal(fault, expected, `${what}, ${torn} bytes`);
        }
      }
    }
  });

  Deno.test(`${name}: a write torn at any byte is found, or changes nothing`, () => {
    const before = Buffer.from(encode(4, 1));
    for (let torn = 1; torn < BLOCK_BYTES; torn++) {
      for (const [first, rest] of [[block, before], [before, block]]) {
        const mix = Buffer.concat([first.subarray(0, torn), rest.subarray(torn)]);
        if (Buffer.compare(mix, block) === 0 || Buffer.compare(mix, before) === 0) continue;
        const fault = faultOf(decode, mix);
        assert.ok(fault === "crc" || fault === "magic", `torn at byte ${torn}: ${fault}`);
      }
    }
  });

  Deno.test(`${name}: other versions, features, kinds and lengths are told apart`, () => {
    assert.equal(faultOf(decode, new Uint8Array(BLOCK_BYTES)), "empty");
    assert.equal(faultOf(decode, new Uint8Array(BLOCK_BYTES).fill(1)), "magic");
    assert.equal(faultOf(decode, new Uint8Array(SECTOR_BYTES)), "content");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint16(10, 2, true))), "version");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint32(16, 0x8000_0000, true))), "features");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint32(12, 0xffff_ffff, true))), "none");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint16(8, 99, true))), "content");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint32(20, 5000, true))), "content");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint32(20, 3, true))), "content");
    assert.equal(faultOf(decode, rewritten(block, (view) => view.setUint32(28, 0x20_0000, true))), "content");
    for (const other of sampleRecords()) {
      assert.equal(faultOf(decode, other.encode(1)), other.name === name ? "none" : "content");
    }
  });

  Deno.test(`${name}: payloads of garbage with a right CRC are refused or read, never worse`, () => {
    let state = 12345;
    for (let round = 0; round < 300; round++) {
      const changed = rewritten(block, (view) => {
        for (let i = 0; i < 1 + round % 8; i++) {
          state = Math.imul(state, 1103515245) + 12345 >>> 0;
          view.setUint8(96 + (state >>> 8) % (BLOCK_BYTES - 96), state & 0xff);
        }
        if (round % 3 === 0) { for (let at = 96; at < 400; at++) view.setUint8(at, state >>> (at % 24)); }
      });
      assert.ok(["content", "none"].includes(faultOf(decode, changed)));
    }
  });

  Deno.test(`${name}: the whole copy with the higher sequence is picked, the other named for repair`, () => {
    const [older, newer] = [encode(4, 1), encode(5, 2)];
    const torn = block.slice();
    torn.fill(0, 1024);
    torn[1000] ^= 1;
    const blank = new Uint8Array(BLOCK_BYTES);
    const pick = (first: Uint8Array, second: Uint8Array) => {
      const result = pickTwin<unknown>(first, second, decode, OWNER);
      return result.ok
        ? { copy: result.copy, sequence: result.sequence, repair: result.repair }
        : { neverWritten: result.neverWritten };
    };
    assert.deepEqual(pick(newer, newer), { copy: 0, sequence: 5, repair: [] });
    assert.deepEqual(pick(newer, older), { copy: 0, sequence: 5, repair: [1] });
    assert.deepEqual(pick(older, newer), { copy: 1, sequence: 5, repair: [0] });
    assert.deepEqual(pick(torn, older), { copy: 1, sequence: 4, repair: [0] });
    assert.deepEqual(pick(newer, torn), { copy: 0, sequence: 5, repair: [1] });
    assert.deepEqual(pick(newer, blank), { copy: 0, sequence: 5, repair: [1] });
    assert.deepEqual(pick(encode(5, 3), newer), { copy: 0, sequence: 5, repair: [1] });
    assert.deepEqual(pick(blank, blank), { neverWritten: true });
    assert.deepEqual(pick(torn, blank), { neverWritten: true });
    assert.deepEqual(pick(blank, torn), { neverWritten: false });
    assert.deepEqual(pick(torn, torn), { neverWritten: false });
    // A newer brmr was here: nothing is picked, so nothing of its work is undone.
    const future = rewritten(newer, (view) => view.setUint16(10, 2, true));
    assert.deepEqual(pick(older, future), { neverWritten: false });
    assert.deepEqual(pick(future, older), { neverWritten: false });
  });
}
