/**
 * Whole legs as format version 1 has written them: opened with the right content, and damaged, torn and marked by other versions in every
 * way. If a leg cannot be opened any more, disks in use cannot either: give the format a new version and go on reading the old one.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32, gunzipSync } from "node:zlib";
import type { BlockDecoder } from "../../lib/disk_format/block_header.ts";
import { decodeEpochRecord, encodeEpochRecord } from "../../lib/disk_format/epoch_record.ts";
import { decodeIntentBlock } from "../../lib/disk_format/intent_block.ts";
import { layoutOf } from "../../lib/disk_format/layout.ts";
import { decodeMapPage } from "../../lib/disk_format/map_page.ts";
import { decodeSuperblock } from "../../lib/disk_format/superblock.ts";
import { LegServer } from "../../lib/core/leg_server.ts";
import { DeviceFile, type LoadedLeg, loadLeg } from "../../lib/store/leg_device.ts";
import { refuses, withDirectory } from "../unit/store/store_fixture.ts";
import { DEGRADED_BLOCKS, FIRST_BLOCKS, IMAGE_BYTES, IMAGE_NAMES, patternBlock, toldOf } from "./leg_images.ts";

const BLOCK_BYTES = 4096;
const VERSION_OFFSET = 10;
const COMPATIBLE_OFFSET = 12;
const INCOMPATIBLE_OFFSET = 16;
const PAYLOAD_LENGTH_OFFSET = 20;
const CRC_OFFSET = 64;
const HEADER_BYTES = 96;

type ImageName = typeof IMAGE_NAMES[number];

function imageOf(name: ImageName): Uint8Array {
  // A copy: slices of a Buffer share its memory.
  return Uint8Array.from(gunzipSync(Deno.readFileSync(new URL(`leg_v1_${name}.img.gz`, import.meta.url))));
}

function expectedOf(name: ImageName) {
  return JSON.parse(Deno.readTextFileSync(new URL(`leg_v1_${name}.json`, import.meta.url)));
}

/** As JSON has it. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Opens an image as a leg on a device; gives what was found, and the device's bytes afterwards. */
function open(directory: string, image: Uint8Array): { leg: LoadedLeg; told: unknown; after: Uint8Array } {
  const path = `${directory}/leg.img`;
  Deno.writeFileSync(path, image);
  const device = DeviceFile.open(path, { access: "exclusive" });
  try {
    const leg = loadLeg(device);
    return { leg, told: plain(toldOf(leg)), after: Deno.readFileSync(path) };
  } finally {
    device.close();
  }
}

/** Device offsets of all records that were written, of their first copies. */
function recordsOf(image: Uint8Array): { offset: number; decode: BlockDecoder<unknown>; name: string }[] {
  const superblock = decodeSuperblock(image.slice(0, BLOCK_BYTES), null);
  assert.ok(superblock.ok);
  const layout = layoutOf(superblock.value);
  const records = [];
  for (let offset = 0; offset < layout.dataOffset; offset += 2 * BLOCK_BYTES) {
    if (image.subarray(offset, offset + BLOCK_BYTES).every((byte) => byte === 0)) continue;
    if (offset === 0) records.push({ offset, decode: decodeSuperblock, name: "superblock" });
    else if (offset === layout.epochOffset) records.push({ offset, decode: decodeEpochRecord, name: "epoch record" });
    else if (offset < layout.mapOffset) records.push({ offset, decode: decodeIntentBlock, name: "intent block" });
    else records.push({ offset, decode: decodeMapPage, name: "dirty map page" });
  }
  return records;
}

/** A block as another version would have written it: with a CRC that is right. */
function rewritten(block: Uint8Array, change: (view: DataView) => void): Uint8Array {
  const copy = Uint8Array.from(block);
  const view = new DataView(copy.buffer);
  change(view);
  view.setUint32(CRC_OFFSET, 0, true);
  view.setUint32(CRC_OFFSET, crc32(copy), true);
  return copy;
}

/** The image with copies (0, 1) of a record exchanged. */
function withBlocks(image: Uint8Array, offset: number, copies: readonly number[], block: Uint8Array): Uint8Array {
  const changed = Uint8Array.from(image);
  for (const copy of copies) changed.set(block, offset + copy * BLOCK_BYTES);
  return changed;
}

function blockAt(image: Uint8Array, offset: number): Uint8Array {
  return image.slice(offset, offset + BLOCK_BYTES);
}

for (const name of IMAGE_NAMES) {
  Deno.test(`${name} leg of version 1: opened, with its record, intents, dirty map and data`, () => {
    withDirectory((directory) => {
      const image = imageOf(name);
      const { leg, told, after } = open(directory, image);
      assert.deepEqual(told, expectedOf(name));
      assert.deepEqual(leg.findings, []);
      assert.equal(Buffer.compare(after, image), 0, "opening changes nothing");
      const blocks = new Map(FIRST_BLOCKS.map((block) => [block, 1]));
      if (name === "survivor") { for (const block of DEGRADED_BLOCKS) blocks.set(block, 2); }
      for (let block = 0; block < IMAGE_BYTES / BLOCK_BYTES; block++) {
        const salt = blocks.get(block);
        const expected = salt === undefined ? new Uint8Array(BLOCK_BYTES) : patternBlock(block, salt);
        const found = image.subarray(leg.layout.dataOffset + block * BLOCK_BYTES).subarray(0, BLOCK_BYTES);
        assert.equal(Buffer.compare(found, expected), 0, `block ${block}`);
      }
    });
  });

  Deno.test(`${name} leg of version 1: the core of today takes it up`, () => {
    withDirectory((directory) => {
      const { leg } = open(directory, imageOf(name));
      const core = new LegServer({
        superblock: leg.superblock,
        record: leg.record,
        intentSlots: leg.intentSlots.subarray(0, leg.superblock.hotExtentCount),
        intentsDamaged: leg.intentsDamaged,
        mapPages: leg.mapPages(1).map(({ page, words }) => ({ legIndex: 1, page, words, mapIncarnation: 1 })),
        metadataSequence: leg.maxSequence,
        instance: "00000000-0000-4000-8000-000000000000",
        bootId: "",
        nowMs: 0,
      });
      core.checkInvariants();
      const { dirty, hotExtents, record } = core.snapshot();
      assert.equal(record.shared.inSyncMask, name === "survivor" ? 0b01 : 0b11);
      assert.equal(hotExtents, name === "clean" ? 0 : 4);
      // Its machine may have lost more than the map says: what it was writing counts as dirty, all four extents.
      const missing = dirty.find(({ legIndex }) => legIndex === 1)?.dirtyChunks ?? 0;
      assert.equal(missing, name === "survivor" ? IMAGE_BYTES / BLOCK_BYTES : 0);
    });
  });

  Deno.test(`${name} leg of version 1: every flipped bit of every record is found`, () => {
    const image = imageOf(name);
    const records = recordsOf(image);
    assert.ok(records.length >= (name === "survivor" ? 6 : 5), `${records.length} records`);
    for (const { offset, decode, name: kind } of records) {
      for (const copy of [0, 1]) {
        const block = blockAt(image, offset + copy * BLOCK_BYTES);
        assert.ok(decode(block, null).ok, `${kind} at ${offset}`);
        for (let bit = 0; bit < BLOCK_BYTES * 8; bit++) {
          block[bit >> 3] ^= 1 << (bit & 7);
          if (decode(block, null).ok) assert.fail(`${kind} at ${offset}: bit ${bit} flips unnoticed`);
          block[bit >> 3] ^= 1 << (bit & 7);
        }
      }
    }
  });

  Deno.test(`${name} leg of version 1: a damaged copy is mended from the other, two are never believed`, () => {
    withDirectory((directory) => {
      const image = imageOf(name);
      const expected = expectedOf(name);
      for (const { offset, name: kind } of recordsOf(image)) {
        for (let bit = 5; bit < BLOCK_BYTES * 8; bit += 8209) {
          const damaged = blockAt(image, offset);
          damaged[bit >> 3] ^= 1 << (bit & 7);
          for (const copy of [0, 1]) {
            const { told, leg, after } = open(directory, withBlocks(image, offset, [copy], damaged));
            assert.deepEqual(told, expected, `${kind}, bit ${bit} of copy ${copy}`);
            assert.equal(leg.findings.length, 1);
            assert.equal(Buffer.compare(after, image), 0, `${kind}, bit ${bit} of copy ${copy}: mended to the byte`);
          }
          const both = withBlocks(image, offset, [0, 1], damaged);
          if (kind === "superblock" || kind === "epoch record") {
            assert.throws(() => open(directory, both), /holds no brmr leg|cannot be used/, `${kind}, bit ${bit}`);
          } else {
            const { leg } = open(directory, both);
            if (kind === "intent block") assert.ok(leg.intentsDamaged);
            else assert.ok(leg.mapPages(1)[0].words.every((word) => word === 0xffffffff), "all of it is dirty");
          }
        }
      }
    });
  });

  Deno.test(`${name} leg of version 1: a record torn while it is exchanged is the old one or the new one`, () => {
    withDirectory((directory) => {
      const image = imageOf(name);
      const expected = expectedOf(name);
      const layout = layoutOf(expected.superblock);
      const old = blockAt(image, layout.epochOffset);
      const decoded = decodeEpochRecord(old, null);
      assert.ok(decoded.ok);
      const value = { ...decoded.value, promisedGeneration: decoded.value.promisedGeneration + 1 };
      const next = encodeEpochRecord(value, expected.superblock, decoded.sequence + 1);
      for (let torn = 0; torn <= BLOCK_BYTES; torn += 256) {
        const partly = Uint8Array.from([...next.subarray(0, torn), ...old.subarray(torn)]);
        // Copies are written one after the other: the second is begun when the first is durable.
        const first = open(directory, withBlocks(image, layout.epochOffset, [0], partly)).leg.record;
        const isNew = Buffer.compare(partly, next) === 0;
        assert.deepEqual(plain(first), plain(isNew ? value : decoded.value), `first copy torn at ${torn}`);
        const begun = withBlocks(image, layout.epochOffset, [0], next);
        const second = open(directory, withBlocks(begun, layout.epochOffset, [1], partly)).leg.record;
        assert.deepEqual(plain(second), plain(value), `second copy torn at ${torn}`);
      }
    });
  });

  Deno.test(`${name} leg of version 1: what a newer version has written is refused in words, or passed over`, () => {
    withDirectory((directory) => {
      const image = imageOf(name);
      const expected = expectedOf(name);
      for (const { offset, name: kind } of recordsOf(image)) {
        const block = blockAt(image, offset);
        const version = rewritten(block, (view) => view.setUint16(VERSION_OFFSET, 2, true));
        const feature = rewritten(block, (view) => view.setUint32(INCOMPATIBLE_OFFSET, 0x8000_0001, true));
        // One copy is enough: a newer brmr has begun to write.
        for (const copies of [[0], [1], [0, 1]]) {
          refuses("device", new RegExp(`${kind} has format version 2; this brmr reads version 1`), () => {
            open(directory, withBlocks(image, offset, copies, version));
          });
          refuses("device", /needs features this brmr does not know \(bits 0x80000001\): use a newer brmr/, () => {
            open(directory, withBlocks(image, offset, copies, feature));
          });
        }
        const compatible = rewritten(block, (view) => view.setUint32(COMPATIBLE_OFFSET, 0x8000_0001, true));
        const marked = withBlocks(image, offset, [0, 1], compatible);
        const { told, after, leg } = open(directory, marked);
        assert.deepEqual(told, expected, `${kind} with compatible features`);
        assert.deepEqual(leg.findings, []);
        assert.equal(Buffer.compare(after, marked), 0, "what is not understood is kept");
        // Mended from the other copy, it keeps them too.
        const torn = withBlocks(marked, offset, [1], new Uint8Array(BLOCK_BYTES).fill(7));
        assert.equal(Buffer.compare(open(directory, torn).after, marked), 0);
      }
    });
  });

  Deno.test(`${name} leg of version 1: fields of compatible features that are not known are passed over`, () => {
    withDirectory((directory) => {
      const image = imageOf(name);
      for (const { offset, name: kind } of recordsOf(image)) {
        if (kind !== "superblock" && kind !== "epoch record") continue;
        const longer = (bits: number) =>
          rewritten(blockAt(image, offset), (view) => {
            const lengthBytes = view.getUint32(PAYLOAD_LENGTH_OFFSET, true);
            view.setUint32(PAYLOAD_LENGTH_OFFSET, lengthBytes + 8, true);
            view.setUint32(HEADER_BYTES + lengthBytes, 0x1234_5678, true);
            view.setUint32(COMPATIBLE_OFFSET, bits, true);
          });
        const { told } = open(directory, withBlocks(image, offset, [0, 1], longer(4)));
        assert.deepEqual(told, expectedOf(name), kind);
        // Without such a feature nothing explains them.
        refuses("device", /cannot be used/, () => open(directory, withBlocks(image, offset, [0, 1], longer(0))));
      }
    });
  });
}
