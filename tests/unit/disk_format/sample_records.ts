/**
 * One record of each kind, fixed for ever: golden images are made of them.
 *
 * @module
 */

import type { BlockDecoder, BlockIdentity } from "../../../lib/disk_format/block_header.ts";
import { decodeEpochRecord, encodeEpochRecord } from "../../../lib/disk_format/epoch_record.ts";
import { decodeIntentBlock, emptyIntentBlock, encodeIntentBlock } from "../../../lib/disk_format/intent_block.ts";
import { computeLayout } from "../../../lib/disk_format/layout.ts";
import { decodeMapPage, encodeMapPage, WORDS_PER_MAP_PAGE } from "../../../lib/disk_format/map_page.ts";
import type { EpochRecord, LegEntry, Superblock } from "../../../lib/disk_format/records.ts";
import { decodeSuperblock, encodeSuperblock } from "../../../lib/disk_format/superblock.ts";

/** Whose records they are. */
export const OWNER: BlockIdentity = {
  poolUuid: "0a1b2c3d-4e5f-4061-8273-849506a7b8c9",
  legUuid: "11111111-2222-4333-8444-555555555555",
};

/** A kind of record: `salt` changes its content. */
export interface Sample {
  readonly name: string;
  readonly encode: (sequence: number, salt?: number) => Uint8Array;
  // deno-lint-ignore no-explicit-any -- the list is of all kinds
  readonly decode: BlockDecoder<any>;
  /** What encoding and decoding again must give back to the byte. */
  // deno-lint-ignore no-explicit-any -- as above
  readonly encodeValue: (value: any, identity: BlockIdentity, sequence: number) => Uint8Array;
}

/** All kinds. */
export function sampleRecords(): Sample[] {
  return [
    {
      name: "superblock",
      encode: (sequence, salt = 0) => encodeSuperblock(superblock(salt), OWNER, sequence),
      decode: decodeSuperblock,
      encodeValue: encodeSuperblock,
    },
    {
      name: "epoch record",
      encode: (sequence, salt = 0) => encodeEpochRecord(epochRecord(salt), OWNER, sequence),
      decode: decodeEpochRecord,
      encodeValue: encodeEpochRecord,
    },
    {
      name: "intent block",
      encode: (sequence, salt = 0) => {
        const block = emptyIntentBlock(1);
        for (let i = 0; i < block.slots.length; i += 3) block.slots[i] = i * 65_537 + salt;
        return encodeIntentBlock(block, OWNER, sequence);
      },
      decode: decodeIntentBlock,
      encodeValue: encodeIntentBlock,
    },
    {
      name: "dirty map page",
      encode: (sequence, salt = 0) => {
        const words = new Uint32Array(WORDS_PER_MAP_PAGE);
        for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1 + salt, 0x9e3779b1);
        return encodeMapPage({ legIndex: 6, page: 8456, mapIncarnation: 2 ** 40 + 7, words }, OWNER, sequence);
      },
      decode: decodeMapPage,
      encodeValue: encodeMapPage,
    },
  ];
}

function superblock(salt: number): Superblock {
  const sizes = { sizeBytes: 2 ** 40, chunkBytes: 4096, extentBytes: 2 ** 20, hotExtentCount: 1024 };
  const { epochOffset, intentOffset, mapOffset, dataOffset } = computeLayout(sizes);
  return {
    ...OWNER,
    ...sizes,
    poolName: "Bücher-№1",
    legIndex: 3,
    logicalBlockBytes: 4096,
    epochOffset,
    intentOffset,
    mapOffset,
    dataOffset,
    createdMs: 1_760_000_000_000 + salt,
    replacesUuid: "12121212-3434-4656-8878-909090909090",
  };
}

function epochRecord(salt: number): EpochRecord {
  const leg = (index: number): LegEntry => ({
    uuid: `00000000-0000-4000-8000-00000000000${index}`,
    address: index === 7 ? `${"h".repeat(253)}:65535` : `node-${index}.example:7701`,
    mapIncarnation: 2 ** 33 + index,
    mapDefaultDirty: index % 2 === 1,
    outSinceMs: index === 0 ? 0 : 1_760_000_000_000 + index,
    isDrained: index === 6,
    ...(index === 4 ? { replacesIndex: 1 } : {}),
  });
  return {
    shared: {
      historyId: "99999999-8888-4777-8666-555555555555",
      historyNumber: 2 ** 31 + 3,
      generation: 2 ** 35 + 1 + salt,
      clientGeneration: 2 ** 35 - 7,
      epoch: 2 ** 34 + 2,
      inSyncMask: 0b1000_0001,
      minInSync: 2,
      ioTimeoutMs: 60_000,
      sourceIndex: 7,
      legs: [leg(0), leg(1), null, leg(3), leg(4), null, leg(6), leg(7)],
    },
    promisedGeneration: 2 ** 35 + 9,
    promisedTo: "77777777-6666-4555-8444-333333333333",
    isStable: true,
    bootId: "88888888-6666-4555-8444-333333333333",
  };
}
