/**
 * What may be asked for when a pool is made, and what is assumed when it is not said. Pure; every refusal is a
 * ControlError "bad-request" that says what would be right.
 *
 * @module
 */

import { isUuid } from "../base/uuid.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import { ControlError } from "./control_api.ts";
import type { LegPlace } from "./node_address.ts";

/** Smallest and default size of a chunk. */
export const DEFAULT_CHUNK_BYTES = 4096;
/** Largest size of a chunk. */
export const MAX_CHUNK_BYTES = 1 << 20;
/** Chunks are numbered in 32 bits. */
export const MAX_CHUNK_COUNT = 2 ** 32;
/** One entry of the intent log: small enough to make equal in a blink, large enough that few are needed. */
export const DEFAULT_EXTENT_BYTES = 1 << 20;
/** Extents that may be mid-write: 2 GiB of hot area at 1 MiB each, and an intent log of 16 KiB. */
export const DEFAULT_HOT_EXTENT_COUNT = 2048;
/** At a start the logs of all legs together must fit one order to compare them (65,536 extents). */
export const MOST_HOT_EXTENTS = 65_536 / MAX_LEGS;
/** I/O waits this long for legs before it fails: longer than a node needs to restart. */
export const DEFAULT_IO_TIMEOUT_MS = 30_000;

/** What the creator of a pool asks for. */
export interface PoolPlan {
  readonly poolName: string;
  readonly sizeBytes: number;
  readonly legs: readonly LegPlace[];
  /** Bytes one dirty bit stands for; 4096 if absent. */
  readonly chunkBytes?: number;
  /** 1 for two legs, 2 for three or more, if absent. */
  readonly minInSync?: number;
  readonly extentBytes?: number;
  readonly hotExtentCount?: number;
  readonly ioTimeoutMs?: number;
  /** Take devices that carry data. */
  readonly force?: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** Refuses what cannot be the name of a pool: it becomes an NBD export name and part of a socket's path. */
export function checkPoolName(name: string): void {
  if (!NAME.test(name)) {
    throw refusal(
      `"${name}" cannot be the name of a pool. Use 1 to 63 letters, digits, dots, dashes and underscores, ` +
        `beginning with a letter or digit.`,
    );
  }
  if (isUuid(name.toLowerCase())) {
    throw refusal(`"${name}" looks like a UUID, which pools have besides. Choose a name in words.`);
  }
}

/** Refuses a plan that breaks a rule. */
export function checkPoolPlan(plan: PoolPlan): void {
  checkPoolName(plan.poolName);
  checkLegs(plan.legs);
  const chunkBytes = plan.chunkBytes ?? DEFAULT_CHUNK_BYTES;
  if (!isPowerOfTwo(chunkBytes) || chunkBytes < DEFAULT_CHUNK_BYTES || chunkBytes > MAX_CHUNK_BYTES) {
    throw refusal(`A chunk of ${chunkBytes} bytes cannot be. Choose a power of two from 4K to 1M.`);
  }
  const { sizeBytes } = plan;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < chunkBytes || sizeBytes % DEFAULT_CHUNK_BYTES !== 0) {
    throw refusal(`A pool of ${sizeBytes} bytes cannot be. Choose a multiple of 4K, of at least one chunk.`);
  }
  if (sizeBytes / chunkBytes > MAX_CHUNK_COUNT) {
    const needed = 2 ** Math.ceil(Math.log2(sizeBytes / MAX_CHUNK_COUNT));
    throw refusal(
      needed <= MAX_CHUNK_BYTES
        ? `${sizeBytes} bytes are more than 2^32 chunks of ${chunkBytes} bytes. Choose --chunk ${needed} or more.`
        : `${sizeBytes} bytes are more than a pool can have. The most is 2^32 chunks of 1M.`,
    );
  }
  const extentBytes = plan.extentBytes ?? DEFAULT_EXTENT_BYTES;
  if (!isPowerOfTwo(extentBytes) || extentBytes < 65536 || extentBytes > 1 << 26 || extentBytes < chunkBytes) {
    throw refusal(
      `An extent of ${extentBytes} bytes cannot be. Choose a power of two from 64K to 64M, at least a chunk.`,
    );
  }
  const hotExtentCount = plan.hotExtentCount ?? DEFAULT_HOT_EXTENT_COUNT;
  if (!Number.isInteger(hotExtentCount) || hotExtentCount < 16 || hotExtentCount > MOST_HOT_EXTENTS) {
    throw refusal(`${hotExtentCount} hot extents cannot be. Choose 16 to ${MOST_HOT_EXTENTS}.`);
  }
  const { minInSync } = plan;
  if (minInSync !== undefined && !(Number.isInteger(minInSync) && minInSync >= 1 && minInSync <= plan.legs.length)) {
    throw refusal(`min-in-sync ${minInSync} cannot be with ${plan.legs.length} legs. Choose 1 to ${plan.legs.length}.`);
  }
  const ioTimeoutMs = plan.ioTimeoutMs ?? DEFAULT_IO_TIMEOUT_MS;
  if (!Number.isSafeInteger(ioTimeoutMs) || ioTimeoutMs < 0) {
    throw refusal(`An I/O timeout of ${ioTimeoutMs} ms cannot be. Choose 0 or more.`);
  }
}

/** Fewest in-sync legs that may complete I/O, when the creator does not say. */
export function defaultMinInSync(legCount: number): number {
  return legCount <= 2 ? 1 : 2;
}

function checkLegs(legs: readonly LegPlace[]): void {
  if (legs.length < 2) {
    throw refusal(
      `A pool needs at least two legs, ${legs.length} given. Add --leg HOST:PORT:/PATH for each storage node.`,
    );
  }
  if (legs.length > MAX_LEGS) throw refusal(`A pool has at most ${MAX_LEGS} legs, ${legs.length} given.`);
  const seen = new Set<string>();
  for (const leg of legs) {
    const place = `${leg.address}:${leg.path}`;
    if (seen.has(place)) throw refusal(`The leg ${place} is given twice. Each leg needs a device of its own.`);
    seen.add(place);
  }
}

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

function refusal(message: string): ControlError {
  return new ControlError("bad-request", message);
}
