/**
 * The epoch record on the device: see {@link EpochRecord}. Eight legs with the longest addresses fit in one block.
 *
 * Payload: history UUID | history number u32 | generation u64 | client generation u64 | epoch u64 |
 * promised generation u64 | promised to (text) | stable u8 | boot (text) | I/O timeout u64 | in-sync mask u8 |
 * min-in-sync u8 | leg count u8 | per leg: present u8, then if 1: UUID | incarnation u64 | default dirty u8 |
 * out since u64 | drained u8 | replaces u8 (255 for none) | address (text). Then source index u8 (255 for none). A text
 * is a length u16 and that many bytes of UTF-8.
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
  sealBlock,
} from "./block_header.ts";
import { PayloadReader, PayloadWriter } from "./payload.ts";
import { type EpochRecord, type LegEntry, MAX_LEGS, type SharedEpoch } from "./records.ts";

/** Longest address: a host name of 253 characters, a colon, a port of 5 digits. */
export const MAX_ADDRESS_BYTES = 259;
/** Stands for no leg. */
const NO_LEG = 255;
/** Longest name of whom a generation was promised to; a UUID has 36. */
const MAX_PROMISED_TO_BYTES = 255;
/** Longest name of a boot; Linux gives a UUID of 36. */
const MAX_BOOT_ID_BYTES = 64;

/** What keeps a shared epoch from being recorded, in a sentence that says what to do; null when nothing does. */
export function sharedEpochProblem(shared: SharedEpoch): string | null {
  if (shared.legs.length > MAX_LEGS) return `${shared.legs.length} legs: ${MAX_LEGS} are the most`;
  for (const leg of shared.legs) {
    if (leg !== null && new TextEncoder().encode(leg.address).length > MAX_ADDRESS_BYTES) {
      return `The address "${leg.address}" is too long: name its host in ${MAX_ADDRESS_BYTES - 6} bytes or fewer`;
    }
  }
  return null;
}

/** Encodes a record. */
export function encodeEpochRecord(
  value: EpochRecord,
  identity: BlockIdentity,
  sequence: number,
): Uint8Array<ArrayBuffer> {
  const shared = value.shared;
  const problem = sharedEpochProblem(shared);
  assert(problem === null, problem ?? "");
  const payload = new PayloadWriter();
  payload.uuid(shared.historyId);
  payload.uint32(shared.historyNumber);
  payload.uint53(shared.generation);
  payload.uint53(shared.clientGeneration);
  payload.uint53(shared.epoch);
  payload.uint53(value.promisedGeneration);
  payload.text(value.promisedTo, MAX_PROMISED_TO_BYTES);
  payload.uint8(value.isStable ? 1 : 0);
  payload.text(value.bootId, MAX_BOOT_ID_BYTES);
  payload.uint53(shared.ioTimeoutMs);
  payload.uint8(shared.inSyncMask);
  payload.uint8(shared.minInSync);
  payload.uint8(shared.legs.length);
  for (const leg of shared.legs) {
    payload.uint8(leg === null ? 0 : 1);
    if (leg === null) continue;
    payload.uuid(leg.uuid);
    payload.uint53(leg.mapIncarnation);
    payload.uint8(leg.mapDefaultDirty ? 1 : 0);
    payload.uint53(leg.outSinceMs);
    payload.uint8(leg.isDrained ? 1 : 0);
    payload.uint8(leg.replacesIndex ?? NO_LEG);
    payload.text(leg.address, MAX_ADDRESS_BYTES);
  }
  payload.uint8(shared.sourceIndex ?? NO_LEG);
  const block = beginBlock(BlockKind.EPOCH_RECORD, identity, sequence, payload.written.length);
  block.set(payload.written, HEADER_BYTES);
  sealBlock(block);
  return block;
}

/** Decodes a record. */
export function decodeEpochRecord(block: Uint8Array, identity: BlockIdentity | null): DecodeResult<EpochRecord> {
  const header = openBlock(block, BlockKind.EPOCH_RECORD, identity);
  if (!header.ok) return header;
  const payload = new PayloadReader(block, header);
  const historyId = payload.uuid();
  const historyNumber = payload.uint32();
  const generation = payload.uint53();
  const clientGeneration = payload.uint53();
  const epoch = payload.uint53();
  const promisedGeneration = payload.uint53();
  const promisedTo = payload.text(MAX_PROMISED_TO_BYTES);
  const isStable = payload.uint8() !== 0;
  const bootId = payload.text(MAX_BOOT_ID_BYTES);
  const ioTimeoutMs = payload.uint53();
  const inSyncMask = payload.uint8();
  const minInSync = payload.uint8();
  const legCount = payload.uint8();
  if (legCount > MAX_LEGS) return badContent(`The epoch record names ${legCount} legs; ${MAX_LEGS} is the most`);
  const legs: (LegEntry | null)[] = [];
  for (let i = 0; i < legCount && !payload.failed; i++) {
    if (payload.uint8() === 0) {
      legs.push(null);
      continue;
    }
    const uuid = payload.uuid();
    const mapIncarnation = payload.uint53();
    const mapDefaultDirty = payload.uint8() !== 0;
    const outSinceMs = payload.uint53();
    const isDrained = payload.uint8() !== 0;
    const replacesIndex = payload.uint8();
    const address = payload.text(MAX_ADDRESS_BYTES);
    if (replacesIndex >= MAX_LEGS && replacesIndex !== NO_LEG) {
      return badContent(`The epoch record names leg ${replacesIndex}; ${MAX_LEGS - 1} is the last`);
    }
    const entry = { uuid, address, mapIncarnation, mapDefaultDirty, outSinceMs, isDrained };
    legs.push(replacesIndex === NO_LEG ? entry : { ...entry, replacesIndex });
  }
  const sourceIndex = payload.uint8();
  if (sourceIndex >= MAX_LEGS && sourceIndex !== NO_LEG) {
    return badContent(`The epoch record names leg ${sourceIndex} as a source; ${MAX_LEGS - 1} is the last`);
  }
  if (!payload.complete) return badContent("The fields of the epoch record do not fit its length");
  const shared = {
    historyId,
    historyNumber,
    generation,
    clientGeneration,
    epoch,
    inSyncMask,
    minInSync,
    ioTimeoutMs,
    legs,
    ...(sourceIndex === NO_LEG ? {} : { sourceIndex }),
  };
  return { ok: true, value: { shared, promisedGeneration, promisedTo, isStable, bootId }, sequence: header.sequence };
}
