/** The TCP transport keeps the contract on real sockets. */

import { CONFORMANCE_TESTS, registerConformance } from "./conformance.ts";
import { uringHarness } from "./uring_harness.ts";

registerConformance("tcp on io_uring", CONFORMANCE_TESTS, uringHarness);
