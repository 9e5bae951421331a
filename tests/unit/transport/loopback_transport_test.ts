/** The loopback transport keeps the contract. */

import { CONFORMANCE_TESTS, DAMAGE_TESTS, registerConformance } from "./conformance.ts";
import { loopbackHarness } from "./harness.ts";

registerConformance("loopback", [...CONFORMANCE_TESTS, ...DAMAGE_TESTS], loopbackHarness);
