/**
 * The superblock on the device: see {@link Superblock}. Written at creation; the pool and leg UUIDs are those of the
 * header.
 *
 * Payload: size u64 | epoch offset u64 | intent offset u64 | map offset u64 | data offset u64 | created u64 |
 * chunk bytes u32 | logical block bytes u32 | extent bytes u32 | hot extents u32 | leg index u8 | pool name (length
 * u16, UTF-8) | UUID of the leg that it replaces (length u16, text; empty for none).
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
import { isUuid } from "../base/uuid.ts";
import { computeLayout, layoutProblem } from "./layout.ts";
import { PayloadReader, PayloadWriter } from "./payload.ts";
import { MAX_LEGS, type Superblock } from "./records.ts";

/** Longest pool name in bytes of UTF-8. */
export const MAX_POOL_NAME_BYTES = 255;
const UUID_TEXT_BYTES = 36;

/** Encodes a superblock; `identity` is that of the superblock itself. */
export function encodeSuperblock(
  value: Superblock,
  identity: BlockIdentity,
  sequence: number,
): Uint8Array<ArrayBuffer> {
  assert(value.poolUuid === identity.poolUuid, "The identity's pool", value.poolUuid, identity.poolUuid);
  assert(value.legUuid === identity.legUuid, "The identity's leg", value.legUuid, identity.legUuid);
  const problem = superblockProblem(value);
  assert(problem === null, problem ?? "");
  const payload = new PayloadWriter();
  payload.uint53(value.sizeBytes);
  payload.uint53(value.epochOffset);
  payload.uint53(value.intentOffset);
  payload.uint53(value.mapOffset);
  payload.uint53(value.dataOffset);
  payload.uint53(value.createdMs);
  payload.uint32(value.chunkBytes);
  payload.uint32(value.logicalBlockBytes);
  payload.uint32(value.extentBytes);
  payload.uint32(value.hotExtentCount);
  payload.uint8(value.legIndex);
  payload.text(value.poolName, MAX_POOL_NAME_BYTES);
  payload.text(value.replacesUuid ?? "", UUID_TEXT_BYTES);
  const block = beginBlock(BlockKind.SUPERBLOCK, identity, sequence, payload.written.length);
  block.set(payload.written, HEADER_BYTES);
  sealBlock(block);
  return block;
}

/** Decodes a superblock. Its layout is checked: offsets that overlap or run into one another are a fault. */
export function decodeSuperblock(block: Uint8Array, identity: BlockIdentity | null): DecodeResult<Superblock> {
  const header = openBlock(block, BlockKind.SUPERBLOCK, identity);
  if (!header.ok) return header;
  const payload = new PayloadReader(block, header);
  const sizeBytes = payload.uint53();
  const epochOffset = payload.uint53();
  const intentOffset = payload.uint53();
  const mapOffset = payload.uint53();
  const dataOffset = payload.uint53();
  const createdMs = payload.uint53();
  const chunkBytes = payload.uint32();
  const logicalBlockBytes = payload.uint32();
  const extentBytes = payload.uint32();
  const hotExtentCount = payload.uint32();
  const legIndex = payload.uint8();
  const poolName = payload.text(MAX_POOL_NAME_BYTES);
  const replacesUuid = payload.text(UUID_TEXT_BYTES);
  if (!payload.complete) return badContent("The fields of the superblock do not fit its length");
  const value: Superblock = {
    poolUuid: header.poolUuid,
    poolName,
    legUuid: header.legUuid,
    legIndex,
    sizeBytes,
    chunkBytes,
    logicalBlockBytes,
    extentBytes,
    hotExtentCount,
    epochOffset,
    intentOffset,
    mapOffset,
    dataOffset,
    createdMs,
    ...(replacesUuid === "" ? {} : { replacesUuid }),
  };
  if (replacesUuid !== "" && !isUuid(replacesUuid)) return badContent("The superblock replaces what is no UUID");
  const problem = superblockProblem(value);
  return problem === null ? { ok: true, value, sequence: header.sequence } : badContent(problem);
}

/** What is wrong with a superblock, in a sentence that says what to choose; null when nothing is. */
export function superblockProblem(value: Superblock): string | null {
  const problem = layoutProblem(value);
  if (problem !== null) return problem;
  if (new TextEncoder().encode(value.poolName).length > MAX_POOL_NAME_BYTES) {
    return `The pool name "${value.poolName}" is too long: ${MAX_POOL_NAME_BYTES} bytes are the most`;
  }
  if (value.legIndex >= MAX_LEGS) return `The superblock names leg ${value.legIndex}; ${MAX_LEGS - 1} is the last`;
  if (value.logicalBlockBytes !== 512 && value.logicalBlockBytes !== 4096) {
    return `Logical blocks of ${value.logicalBlockBytes} bytes: 512 and 4096 are known`;
  }
  const layout = computeLayout(value);
  for (const name of ["epochOffset", "intentOffset", "mapOffset", "dataOffset"] as const) {
    if (value[name] !== layout[name]) {
      return `The superblock has its ${name} at ${value[name]}; format version 1 puts it at ${layout[name]}`;
    }
  }
  return null;
}
