/** A client of a pool with one leg, for tests of what it says and does. */

import type { ClientPoolOptions } from "../../../lib/core/client_context.ts";
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
