/**
 * The shape of what is said about a leg in JSON, by operators and in a node's state directory, for checking it.
 *
 * @module
 */

import * as v from "valibot";
import { isUuid } from "../base/uuid.ts";

export const nameSchema = v.pipe(v.string(), v.minLength(1), v.maxLength(200));
export const uuidSchema = v.pipe(v.string(), v.check(isUuid, "Not a lower-case UUID"));
export const countSchema = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
export const pathSchema = v.pipe(
  v.string(),
  v.startsWith("/", "A path on a storage node begins with /"),
  v.maxLength(4096),
);
export const legIndexSchema = v.pipe(countSchema, v.maxValue(7));

function powerOfTwo(least: number, most: number) {
  return v.pipe(
    countSchema,
    v.minValue(least),
    v.maxValue(most),
    v.check((value) => Math.log2(value) % 1 === 0, "Not a power of two"),
  );
}

/** See `SharedEpoch` in lib/disk_format/records.ts. */
const sharedSchema = v.object({
  historyId: uuidSchema,
  historyNumber: v.pipe(countSchema, v.maxValue(0xffffffff)),
  generation: countSchema,
  clientGeneration: countSchema,
  epoch: countSchema,
  inSyncMask: v.pipe(countSchema, v.maxValue(255)),
  minInSync: v.pipe(countSchema, v.maxValue(8)),
  ioTimeoutMs: countSchema,
  legs: v.pipe(
    v.array(v.nullable(v.object({
      uuid: uuidSchema,
      address: nameSchema,
      mapIncarnation: countSchema,
      mapDefaultDirty: v.boolean(),
      outSinceMs: countSchema,
      isDrained: v.boolean(),
      replacesIndex: v.optional(legIndexSchema),
    }))),
    v.minLength(1),
    v.maxLength(8),
  ),
});

/** See `LegShape` in lib/control/control_api.ts. */
export const legShapeSchema = v.object({
  poolUuid: uuidSchema,
  poolName: nameSchema,
  legUuid: uuidSchema,
  legIndex: legIndexSchema,
  sizeBytes: v.pipe(countSchema, v.minValue(4096)),
  chunkBytes: powerOfTwo(4096, 1 << 20),
  logicalBlockBytes: v.pipe(countSchema, v.check((value) => value === 512 || value === 4096, "Neither 512 nor 4096")),
  extentBytes: powerOfTwo(1 << 16, 1 << 26),
  hotExtentCount: v.pipe(countSchema, v.minValue(1), v.maxValue(65536)),
  shared: sharedSchema,
});
