/** A client as `status` and `metrics` find it. */

import type { AttachedClient } from "../../../cli/render_status.ts";
import { testUuid } from "../control/fake_node.ts";

/** Serves a pool on one of its legs, and has been busy. */
export const BUSY_CLIENT: AttachedClient = {
  uri: "nbd+unix:///vol1?socket=/run/vol1.sock",
  pid: 4242,
  connections: 2,
  residentBytes: 96 << 20,
  snapshot: {
    poolUuid: testUuid(1),
    poolName: "vol1",
    state: "ready",
    refusal: "",
    refusalCode: "",
    generation: 3,
    epoch: 7,
    inSyncMask: 1,
    minInSync: 1,
    legs: [],
    inFlight: 32,
    waiting: 1,
    sequence: 1000,
    watermark: 900,
    counters: {
      reads: 1_234_567,
      writes: 89_012,
      flushes: 12,
      readBytes: 5 * 2 ** 30,
      writtenBytes: 348 << 20,
      failed: 3,
      legDrops: 2,
      readRepairs: 0,
    },
    verify: {
      state: "off",
      message: "",
      isRepairing: false,
      rateBytesPerSecond: 0,
      totalBytes: 1 << 30,
      verifiedBytes: 0,
      comparedMask: 0,
      differingBytes: 0,
      unreadableBytes: 0,
      repairedBytes: 0,
      lostBytes: 0,
      differences: 0,
      told: [],
    },
  },
};
