/** A client of a pool, and what legs tell it, for tests of what it says and does. */

import type { ClientPoolOptions } from "../../../lib/core/client_context.ts";
import type { SharedEpoch } from "../../../lib/disk_format/records.ts";
import type { Welcome } from "../../../lib/wire/bodies.ts";
import { PROTOCOL_VERSION } from "../../../lib/wire/message.ts";

export const UUID = "11111111-2222-4333-8444-555555555555";

/** Its options; `changed` are those that matter to the test. */
export function clientOptions(changed: Partial<ClientPoolOptions>): ClientPoolOptions {
  return {
    poolUuid: UUID,
    poolName: "vol1",
    sizeBytes: 1 << 20,
    logicalBlockBytes: 512,
    extentBytes: 65536,
    hotExtentCount: 16,
    clientUuid: UUID,
    clientName: "test",
    legs: [{ legIndex: 0, address: "127.0.0.1:1" }],
    nowMs: 0,
    nextRandom: () => 0,
    ...changed,
  };
}

/** How its leg greets it. */
export function welcomeBody(changed: Partial<Welcome> = {}): Partial<Welcome> {
  return { protocol: PROTOCOL_VERSION, features: 0, instance: UUID, creditRequests: 1, creditBytes: 1, ...changed };
}

/** The UUID of a leg. */
export const uuidOf = (index: number) => `00000000-0000-4000-8000-00000000000${index}`;

/** A record of a pool whose legs are all in sync; `changed` is what matters to the test. */
export function sharedEpoch(changed: Partial<SharedEpoch> = {}, legCount = 3): SharedEpoch {
  const legs = Array.from({ length: legCount }, (_, index) => ({
    uuid: uuidOf(index),
    address: `h${index}:1`,
    mapIncarnation: 1,
    mapDefaultDirty: false,
    outSinceMs: 0,
    isDrained: false,
  }));
  return {
    historyId: "one",
    historyNumber: 0,
    generation: 5,
    clientGeneration: 5,
    epoch: 7,
    inSyncMask: (1 << legCount) - 1,
    minInSync: 1,
    ioTimeoutMs: 1000,
    legs,
    ...changed,
  };
}
