/**
 * What kind of world a seed makes: the pool's shape, its disks, and which faults strike. Most worlds have only some.
 *
 * @module
 */

import { Prng } from "../../lib/base/prng.ts";

/** Faults that strike at random moments. */
export const FAULTS = [
  "kill node",
  "restart node",
  "kill client",
  "kill client and node",
  "kill everything",
  "power of a node",
  "power of everything",
  "stop node",
  "stop client",
  "cut one way",
  "cut both ways",
  "pull cable",
  "disk hangs",
  "disk is slow",
  "disk fails",
  "disk is full",
  "sectors rot",
  "takeover",
  "clean detach",
  "pause resync",
] as const;

/** One of {@link FAULTS}. */
export type FaultName = typeof FAULTS[number];

/** All that is drawn at the start of a world. */
export interface TorturePlan {
  readonly seed: number;
  readonly legCount: number;
  readonly minInSync: number;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  /** Which legs have disks with faults. */
  readonly hasFaults: readonly boolean[];
  readonly faults: readonly FaultName[];
  readonly faultMeanMs: number;
  readonly connectionCount: number;
  readonly depth: number;
  /** Sectors that most requests touch: a small span makes requests overlap. */
  readonly spanSectors: number;
  /** Of 100 requests. */
  readonly writeShare: number;
  readonly zeroShare: number;
  readonly flushShare: number;
  readonly fuaShare: number;
  /** Whether clients run on the machine of node 0 by turns with one of their own. */
  readonly isBesideNode: boolean;
  /** Whether they use TCP even to the node on their own machine, with which they share memory otherwise. */
  readonly isTcpOnly: boolean;
}

const MIB = 1024 * 1024;
const DISK_FAULTS = new Set<FaultName>([
  ...["power of a node", "power of everything", "disk hangs", "disk is slow", "disk fails", "disk is full"] as const,
  "sectors rot",
]);

/** Draws a plan. */
export function drawPlan(seed: number): TorturePlan {
  const prng = new Prng(seed);
  const legCount = prng.pick([2, 2, 3, 3, 4]);
  const hasFaults = Array.from({ length: legCount }, () => prng.chance(0.6));
  const faults = FAULTS.filter((fault) => prng.chance(0.5) && (!DISK_FAULTS.has(fault) || hasFaults.includes(true)));
  const sizeBytes = prng.pick([8, 16, 24]) * MIB;
  return {
    seed,
    legCount,
    // A pool on devices, which are no new files, begins with one leg in sync.
    minInSync: legCount === 2 || hasFaults.includes(true) ? 1 : prng.pick([1, 2]),
    sizeBytes,
    chunkBytes: prng.pick([4096, 4096, 4096, 16384]),
    extentBytes: prng.pick([65536, 262144, MIB]),
    hotExtentCount: prng.pick([16, 32, 256]),
    hasFaults,
    faults: faults.length > 0 ? faults : ["kill node"],
    faultMeanMs: 300 + prng.below(3000),
    connectionCount: 1 + prng.below(3),
    depth: 1 + prng.below(8),
    spanSectors: prng.pick([256, 2048, sizeBytes / 512]),
    writeShare: 40 + prng.below(40),
    zeroShare: prng.pick([0, 8]),
    flushShare: prng.pick([0, 2, 5]),
    fuaShare: prng.pick([0, 10]),
    // Drawn last: what else a seed makes stays what it was.
    isBesideNode: prng.chance(0.5),
    isTcpOnly: prng.chance(0.5),
  };
}
