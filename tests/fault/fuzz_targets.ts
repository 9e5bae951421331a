/**
 * All that is fuzzed. A new target is one more line here.
 *
 * @module
 */

import type { FuzzTarget } from "./fuzz_run.ts";
import { clientTarget } from "./fuzz_client.ts";
import { legTarget } from "./fuzz_leg.ts";
import { nodeTarget } from "./fuzz_node.ts";
import { transportTarget } from "./fuzz_transport.ts";
import { bodyTarget, headerTarget } from "./fuzz_wire.ts";

/** Shares are such that each target gets about the same time. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  { name: "header", share: 60, make: headerTarget },
  { name: "body", share: 25, make: bodyTarget },
  { name: "transport", share: 15, make: transportTarget },
  { name: "leg", share: 10, make: legTarget },
  { name: "client", share: 10, make: clientTarget },
  { name: "node", share: 5, make: nodeTarget },
];
