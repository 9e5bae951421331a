/** The TCP transport keeps the contract, over streams in memory that deal out bytes in every way a socket may. */

import { CONFORMANCE_TESTS, DAMAGE_TESTS, registerConformance } from "./conformance.ts";
import { memoryStreamHarness } from "./harness.ts";

const ALL = [...CONFORMANCE_TESTS, ...DAMAGE_TESTS];

registerConformance("tcp, all at once", ALL, (options) => memoryStreamHarness(options, Infinity));
registerConformance("tcp, 61 bytes at a time", ALL, (options) => memoryStreamHarness(options, 61));
registerConformance(
  "tcp, tiny areas",
  ALL,
  (options) => memoryStreamHarness(options, 4096, { areaBytes: 4160, stagingBytes: 128, copyBytes: 32, maxPieces: 1 }),
);
