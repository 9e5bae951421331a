import assert from "node:assert/strict";
import fc from "fast-check";
import type { BlockDecoder, BlockIdentity } from "../../../lib/disk_format/block_header.ts";
import { decodeEpochRecord, encodeEpochRecord, MAX_ADDRESS_BYTES } from "../../../lib/disk_format/epoch_record.ts";
import { decodeIntentBlock, encodeIntentBlock, INTENT_SLOTS_PER_BLOCK } from "../../../lib/disk_format/intent_block.ts";
import { computeLayout } from "../../../lib/disk_format/layout.ts";
import { decodeMapPage, encodeMapPage, WORDS_PER_MAP_PAGE } from "../../../lib/disk_format/map_page.ts";
import type { EpochRecord, Superblock } from "../../../lib/disk_format/records.ts";
import { decodeSuperblock, encodeSuperblock } from "../../../lib/disk_format/superblock.ts";

// Records as plain objects, as the decoders make them.
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

type Encoder<T> = (value: T, identity: BlockIdentity, sequence: number) => Uint8Array;

const uuid = fc.uuid();
const uint53 = fc.maxSafeNat();
const uint32 = fc.nat({ max: 0xffffffff });
const identity = record({ poolUuid: uuid, legUuid: uuid });
const address = fc.string({ unit: "grapheme-ascii", maxLength: MAX_ADDRESS_BYTES });

const sharedEpoch = {
  historyId: uuid,
  historyNumber: uint32,
  generation: uint53,
  clientGeneration: uint53,
  epoch: uint53,
  inSyncMask: fc.nat({ max: 255 }),
  minInSync: fc.nat({ max: 8 }),
  ioTimeoutMs: uint53,
  legs: fc.array(
    fc.option(record({
      uuid,
      address,
      mapIncarnation: uint53,
      mapDefaultDirty: fc.boolean(),
      outSinceMs: uint53,
      isDrained: fc.boolean(),
    })),
    { maxLength: 8 },
  ),
};
const epochRecord: fc.Arbitrary<EpochRecord> = record({
  shared: fc.oneof(record(sharedEpoch), record({ ...sharedEpoch, sourceIndex: fc.nat({ max: 7 }) })),
  promisedGeneration: uint53,
  promisedTo: fc.oneof(uuid, fc.constant("")),
  isStable: fc.boolean(),
  bootId: fc.oneof(uuid, fc.constant("")),
});

const words = (length: number) => fc.uint32Array({ minLength: length, maxLength: length });

const mapPage = record({
  legIndex: fc.nat({ max: 7 }),
  page: uint32,
  mapIncarnation: uint53,
  words: words(WORDS_PER_MAP_PAGE),
});
const intentBlock = record({ blockIndex: uint32, slots: words(INTENT_SLOTS_PER_BLOCK) });

const superblock: fc.Arbitrary<Superblock> = record({
  poolUuid: uuid,
  poolName: fc.string({ unit: "binary", maxLength: 60 }).filter((name) => name.isWellFormed()),
  legUuid: uuid,
  legIndex: fc.nat({ max: 7 }),
  blocks: fc.integer({ min: 1, max: 2 ** 28 }),
  chunkBits: fc.integer({ min: 12, max: 20 }),
  logicalBlockBytes: fc.constantFrom(512, 4096),
  extentBits: fc.integer({ min: 16, max: 26 }),
  hotExtentCount: fc.integer({ min: 1, max: 65536 }),
  createdMs: uint53,
}).map(({ blocks, chunkBits, extentBits, ...rest }) => {
  const sizes = { sizeBytes: blocks * 4096, chunkBytes: 2 ** chunkBits, extentBytes: 2 ** extentBits };
  const layout = computeLayout({ ...rest, ...sizes });
  const { epochOffset, intentOffset, mapOffset, dataOffset } = layout;
  return { ...rest, ...sizes, epochOffset, intentOffset, mapOffset, dataOffset };
});

/** What comes back is what was written, under its own identity and under none, and under no other identity. */
function roundTrips<T>(
  value: T,
  owner: BlockIdentity,
  other: BlockIdentity,
  sequence: number,
  encode: Encoder<T>,
  decode: BlockDecoder<T>,
): void {
  const block = encode(value, owner, sequence);
  assert.equal(block.length, 4096);
  for (const asked of [owner, null]) {
    const result = decode(block, asked);
    assert.deepEqual(result, { ok: true, value, sequence });
  }
  const foreign = decode(block, other);
  const same = other.poolUuid === owner.poolUuid && other.legUuid === owner.legUuid;
  assert.equal(foreign.ok ? "good" : foreign.fault, same ? "good" : "identity");
}

Deno.test("epoch records survive a round trip", () => {
  fc.assert(fc.property(epochRecord, identity, identity, uint53, (value, owner, other, sequence) => {
    roundTrips(value, owner, other, sequence, encodeEpochRecord, decodeEpochRecord);
  }));
});

Deno.test("map pages survive a round trip", () => {
  fc.assert(
    fc.property(mapPage, identity, identity, uint53, (value, owner, other, sequence) => {
      roundTrips(value, owner, other, sequence, encodeMapPage, decodeMapPage);
    }),
    { numRuns: 20 },
  );
});

Deno.test("intent blocks survive a round trip", () => {
  fc.assert(
    fc.property(intentBlock, identity, identity, uint53, (value, owner, other, sequence) => {
      roundTrips(value, owner, other, sequence, encodeIntentBlock, decodeIntentBlock);
    }),
    { numRuns: 20 },
  );
});

Deno.test("superblocks survive a round trip", () => {
  fc.assert(fc.property(superblock, identity, uint53, (value, other, sequence) => {
    roundTrips(value, value, other, sequence, encodeSuperblock, decodeSuperblock);
  }));
});

Deno.test("eight legs with the longest addresses fit in one block", () => {
  const leg = {
    uuid: crypto.randomUUID(),
    address: "h".repeat(253) + ":65535",
    mapIncarnation: Number.MAX_SAFE_INTEGER,
    mapDefaultDirty: true,
    outSinceMs: Number.MAX_SAFE_INTEGER,
    isDrained: true,
  };
  const value: EpochRecord = {
    shared: {
      historyId: crypto.randomUUID(),
      historyNumber: 0xffffffff,
      generation: 1,
      clientGeneration: 1,
      epoch: 2,
      inSyncMask: 255,
      minInSync: 8,
      ioTimeoutMs: 60_000,
      legs: new Array(8).fill(leg),
    },
    promisedGeneration: 3,
    promisedTo: crypto.randomUUID(),
    isStable: true,
    bootId: crypto.randomUUID(),
  };
  const owner = { poolUuid: crypto.randomUUID(), legUuid: leg.uuid };
  roundTrips(value, owner, owner, 7, encodeEpochRecord, decodeEpochRecord);
});
