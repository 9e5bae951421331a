/**
 * When may acked but unflushed data be lost? Only when no leg of the in-sync set is left that held it in a cache that
 * never lost power. This keeps account of that.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../../lib/disk_format/records.ts";
import type { World } from "./world.ts";

/** Which legs lost power since they were last known to hold everything. */
export class Losses {
  readonly #world: World;
  /** Bit i: leg i lost power since it became, or was made, whole. */
  brokenMask = 0;
  /** The newest record that reached any disk. */
  newest: SharedEpoch;

  constructor(world: World, first: SharedEpoch) {
    this.#world = world;
    this.newest = first;
  }

  /** A record was written, whole, to one copy on one disk. */
  recordSeen(shared: SharedEpoch): void {
    if (compareRank(shared, this.newest) <= 0) return;
    // A leg joins only when it lacks nothing and has flushed.
    if (shared.generation === this.newest.generation) this.brokenMask &= ~(shared.inSyncMask & ~this.newest.inSyncMask);
    this.newest = shared;
  }

  /** A client serves: it has made the members equal. */
  membersEqual(inSyncMask: number): void {
    this.brokenMask &= ~inSyncMask;
  }

  powerLost(legIndex: number): void {
    this.brokenMask |= 1 << legIndex;
    if ((this.newest.inSyncMask & ~this.brokenMask) === 0) {
      this.#world.note("all unflushed data may be lost now");
      this.#world.oracle.losePower();
    }
  }
}
