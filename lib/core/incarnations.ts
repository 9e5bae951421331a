/**
 * The numbers of dirty maps. Pages of a map count only when they carry the number that the record gives it, so a number is never used for two
 * maps that differ: it grows whenever a map starts over, and begins above all that were given out before.
 *
 * @module
 */

import { UUID_BYTES, writeUuid } from "../base/uuid.ts";
import type { LegEntry, SharedEpoch } from "../disk_format/records.ts";

/** Numbers from here on are those of histories that began by force. */
export const FORCED_INCARNATIONS = 2 ** 51;

/** No map had a larger number by the time of `record`, but for those of a history that began by force. */
export function latestIncarnation(record: SharedEpoch): number {
  return record.generation * 2 ** 20 + record.epoch;
}

/**
 * An incarnation that no map at any index had before, so that pages which a removed leg left on disk are never taken for those of the
 * next leg at its index. Both numbers only grow from record to record, and an incarnation otherwise grows by at most 1 with the epoch.
 */
export function newIncarnation(latest: SharedEpoch): number {
  return latestIncarnation(latest) + 1;
}

/**
 * Incarnations of a history that begins by force count from here on, and no other history's do: legs that have lived through one that is
 * given up may have pages on disk under any of its numbers, which must not be taken for those of a map that starts over.
 */
export function incarnationBefore(historyId: string): number {
  const bytes = new Uint8Array(UUID_BYTES);
  writeUuid(historyId, bytes, 0);
  const view = new DataView(bytes.buffer);
  const high = (view.getUint32(0) ^ view.getUint32(8)) & 0x7ffff;
  const low = (view.getUint32(4) ^ view.getUint32(12)) >>> 0;
  // Above all that begin elsewhere, and well below 2^53.
  return FORCED_INCARNATIONS + high * 2 ** 32 + low;
}

/** The entry with a new dirty map, all dirty or all clean. */
export function wholly(entry: LegEntry, dirty: boolean): LegEntry {
  return { ...entry, mapIncarnation: entry.mapIncarnation + 1, mapDefaultDirty: dirty };
}
