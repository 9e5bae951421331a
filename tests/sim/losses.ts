/**
 * When may acked but unflushed data be lost? Only when no leg of the in-sync set is left that is known to have it. A leg
 * that lost power may lack it. A leg whose process was killed has it in its disk's cache; where the machine does not tell one
 * boot from another, that cannot be told from a loss of power, so if another member lost power and no member has been up all the time,
 * either may be taken for the good copy. This keeps account of that.
 *
 * @module
 */

import { indicesOf } from "../../lib/core/start_rule.ts";
import { compareRank, type SharedEpoch } from "../../lib/disk_format/records.ts";
import type { World } from "./world.ts";

/** Which legs lost power since they were last known to hold everything. */
export class Losses {
  readonly #world: World;
  /** Bit i: leg i lost power since it became, or was made, whole. */
  brokenMask = 0;
  /** Bit i: the process of leg i ended since then. */
  restartedMask = 0;
  /** Losses of power, and of what a leg could say of itself, so far. */
  count = 0;
  /** The newest record that reached any disk, of the history that is served. */
  newest: SharedEpoch;
  /** By leg: the record on its disk. */
  readonly #onDisk: (SharedEpoch | undefined)[] = [];
  /** By history and generation: the set of the record that was sent last. */
  readonly #lastSets = new Map<string, number>();
  /** Ticks at which records that take members out of the set were first sent, until one of the members has them on disk. */
  readonly #dropTicks = new Map<string, number>();

  constructor(world: World, first: SharedEpoch) {
    this.#world = world;
    this.newest = first;
  }

  /** A record was written, whole, to one copy on the disk of leg `legIndex`, which held `last` before. */
  recordSeen(legIndex: number, shared: SharedEpoch, last: SharedEpoch | null): void {
    // A leg joins only when it lacks nothing and has flushed; that it is up to take note of it is its own doing.
    const bit = 1 << legIndex;
    const joins = last !== null && last.generation === shared.generation &&
      (shared.inSyncMask & ~last.inSyncMask & bit) !== 0;
    if (joins) this.#forget(bit);
    this.recordLanded(legIndex, shared);
  }

  /**
   * A record is on the disk of leg `legIndex`, which may be down. If it takes members out of the set, what was acked before it was sent must
   * not depend on those any more: it cannot be lost. Not yet so where this leg is a member only by a record that has not reached
   * all who were members before: the pool may start from those without it.
   */
  recordLanded(legIndex: number, shared: SharedEpoch): void {
    this.#onDisk[legIndex] = shared;
    // Nothing is promised in another history before it is served.
    if (!this.#world.histories.isServed(shared)) return;
    if (compareRank(shared, this.newest) > 0) this.newest = shared;
    const key = nameOf(shared);
    const tick = this.#dropTicks.get(key);
    if (tick === undefined || (shared.inSyncMask & (1 << legIndex)) === 0) return;
    // Of a client that has been superseded: another one's writes do not depend on it.
    if (compareRank(shared, this.newest) < 0) return;
    if (this.#mayStartWithout(legIndex, shared)) return;
    this.#dropTicks.delete(key);
    this.#world.application.noteOldestRead();
    this.#world.oracle.ackFlush(tick);
  }

  /** A client sends a record to one more leg. */
  recordSent(shared: SharedEpoch): void {
    this.#world.histories.recordSent(shared);
    const generation = `${shared.historyId} ${shared.generation}`;
    const before = this.#lastSets.get(generation) ?? 0;
    if ((before & ~shared.inSyncMask) !== 0) this.#dropTicks.set(nameOf(shared), this.#world.oracle.tick());
    this.#lastSets.set(generation, shared.inSyncMask);
  }

  /** A client begins to serve under `shared`; it has made the members equal, from one that has all that was acked if any of the set has. */
  served(shared: SharedEpoch, inSyncMask: number): void {
    if (!this.#world.histories.isServed(shared)) return;
    this.#forget(inSyncMask);
    if (shared.historyId !== this.newest.historyId) this.newest = shared;
  }

  /** The caretaker of leg `legIndex` has made the members equal, as a client would have. */
  caredFor(legIndex: number, inSyncMask: number): void {
    const shared = this.#onDisk[legIndex];
    if (shared !== undefined && this.#world.histories.isServed(shared)) this.#forget(inSyncMask);
  }

  #forget(inSyncMask: number): void {
    this.brokenMask &= ~inSyncMask;
    this.restartedMask &= ~inSyncMask;
  }

  processEnded(legIndex: number): void {
    if (this.#world.plan.bootsAreKnown) return;
    this.count++;
    this.restartedMask |= 1 << legIndex;
    this.#judge();
  }

  powerLost(legIndex: number): void {
    this.count++;
    this.brokenMask |= 1 << legIndex;
    this.restartedMask |= 1 << legIndex;
    this.#judge();
  }

  /** A leg that is down can no longer say what it had under way, or that it has all of it: another that has less may be taken for the good copy. */
  evidenceLost(legIndex: number): void {
    this.powerLost(legIndex);
  }

  /**
   * A record that takes a leg in decides nothing before all who were members have it on disk: where the new member is not heard, the pool may
   * start from the record before.
   */
  #judge(): void {
    const inForce = this.#onDisk.filter((shared) =>
      shared !== undefined && shared.historyId === this.newest.historyId && this.#isOnAllMembers(shared)
    );
    if ([this.newest, ...inForce].some((shared) => this.#mayLack((shared as SharedEpoch).inSyncMask))) this.#lose();
  }

  /** Whether a record is in force that leg `legIndex` has not on its disk yet, and that has it out of the set. */
  isOut(legIndex: number): boolean {
    const own = this.#onDisk[legIndex];
    if (own === undefined) return false;
    return this.#onDisk.some((shared) =>
      shared !== undefined && shared.historyId === own.historyId && compareRank(shared, own) > 0 &&
      (shared.inSyncMask & (1 << legIndex)) === 0 && this.#isOnAllMembers(shared)
    );
  }

  /** Whether a record before `shared` is in force that leg `legIndex` is no member of. */
  #mayStartWithout(legIndex: number, shared: SharedEpoch): boolean {
    return this.#onDisk.some((older) =>
      older !== undefined && older.historyId === shared.historyId && compareRank(older, shared) < 0 &&
      (older.inSyncMask & (1 << legIndex)) === 0 && this.#isOnAllMembers(older)
    );
  }

  #isOnAllMembers(shared: SharedEpoch): boolean {
    return indicesOf(shared.inSyncMask).every((index) => {
      const own = this.#onDisk[index];
      return own !== undefined && own.historyId === shared.historyId && compareRank(own, shared) === 0;
    });
  }

  #mayLack(members: number): boolean {
    return (members & ~this.restartedMask) === 0 && (members & this.brokenMask) !== 0;
  }

  #lose(): void {
    this.#world.note("all unflushed data may be lost now");
    const waiting = this.#world.clients.flatMap(({ inFlight }) => [...inFlight.values()].map(({ invoke }) => invoke));
    this.#world.oracle.losePower(new Set(waiting));
  }
}

function nameOf({ historyId, generation, epoch }: SharedEpoch): string {
  return `${historyId} ${generation}.${epoch}`;
}
