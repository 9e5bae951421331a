/**
 * The operator of a simulated world: changes the leg table, exchanges disks, and looks up where the legs are, as the command line does.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../../lib/disk_format/records.ts";
import { formatLaterDisk, peekRecord } from "./disk_image.ts";
import type { LegProcess } from "./leg_process.ts";
import type { World } from "./world.ts";

/** See the module comment. */
export class LegTable {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** The newest record on the disk of any leg, of those that run or of all. */
  newest(onlyAlive: boolean): SharedEpoch | null {
    let newest: SharedEpoch | null = null;
    for (const leg of this.#world.legs) {
      if (!leg.hasLeg || (onlyAlive && !leg.alive)) continue;
      const { shared } = peekRecord(leg.disk, this.#world.layout.epochOffset);
      if (newest === null || compareRank(shared, newest) > 0) newest = shared;
    }
    return newest;
  }

  /** Where the legs are, as those that run say; by the newest record of all when none runs. */
  lookUp(): { legIndex: number; address: string }[] {
    const record = this.newest(true) ?? this.newest(false);
    const legs: { legIndex: number; address: string }[] = [];
    record?.legs.forEach((entry, legIndex) => {
      if (entry !== null) legs.push({ legIndex, address: entry.address });
    });
    return legs;
  }

  /** The legs that the client has in its table now. */
  get clientMask(): number {
    return this.#world.client.core?.snapshot().legs.reduce((mask, leg) => mask | (1 << leg.legIndex), 0) ?? 0;
  }

  /** Whether the client serves the pool, so that the table can be changed. */
  get isServed(): boolean {
    const { client } = this.#world;
    return client.alive && !client.detaching && client.core!.state === "ready";
  }

  drain(legIndex: number, isDrained: boolean): void {
    if (this.isServed) this.#world.client.changeLegs({ kind: isDrained ? "drain" : "undrain", legIndex });
  }

  remove(legIndex: number): void {
    if (this.isServed) this.#world.client.changeLegs({ kind: "remove", legIndex });
  }

  /** A disk becomes a new leg in a place that is not in the table; `replacesIndex`: in the end it stands for that one. */
  add(leg: LegProcess, replacesIndex: number): void {
    const { legIndex } = leg;
    const known = this.newest(true);
    if (!this.isServed || known === null || (this.clientMask & (1 << legIndex)) !== 0) return;
    const legUuid = this.#exchange(leg, undefined, known);
    this.#world.client.changeLegs({ kind: "add", legIndex, legUuid, address: `leg-${legIndex}:1`, replacesIndex });
  }

  /** The disk of a leg that is out of the in-sync set is exchanged for another: only then does nothing depend on the old one. */
  replaceCold(leg: LegProcess): void {
    const bit = 1 << leg.legIndex;
    const known = this.newest(false);
    const uuid = known?.legs[leg.legIndex]?.uuid;
    if (!this.isServed || known === null || uuid === undefined) return;
    const members = this.#world.client.core!.snapshot().inSyncMask;
    for (const each of this.#world.legs) {
      if ((members & (1 << each.legIndex)) === 0) continue;
      if ((peekRecord(each.disk, this.#world.layout.epochOffset).shared.inSyncMask & bit) !== 0) return;
    }
    if ((members & bit) === 0) this.#exchange(leg, uuid, known);
  }

  /** A disk that was exchanged at the same moment as the one before it is for a leg that is not in the table any more: once more. */
  repeatReplacements(): void {
    const record = this.newest(true);
    for (const leg of this.#world.legs) {
      const entry = record?.legs[leg.legIndex] ?? null;
      if (entry === null || !leg.alive) continue;
      const { legUuid, replacesUuid } = leg.image!.superblock;
      if (legUuid !== entry.uuid && replacesUuid !== entry.uuid) this.replaceCold(leg);
    }
  }

  /** The legs that are in no table go, when it is known that they are not. */
  forget(leg: LegProcess): void {
    if (!this.isServed || !leg.hasLeg || (this.clientMask & (1 << leg.legIndex)) !== 0) return;
    // Not while it may yet come into the table.
    for (const problem of this.#world.client.changes.values()) if (problem === null) return;
    leg.kill(false);
    leg.hasLeg = false;
  }

  #exchange(leg: LegProcess, replacesUuid: string | undefined, known: SharedEpoch): string {
    const world = this.#world;
    leg.kill(false);
    const legUuid = world.newUuid();
    leg.disk.exchange();
    formatLaterDisk(leg.disk, world.plan.shape, legUuid, replacesUuid, known);
    world.checks.exchanged(leg.legIndex);
    leg.hasLeg = true;
    leg.legUuid = legUuid;
    if (world.tracing) world.note(`${leg.name} has another disk`);
    leg.start();
    return legUuid;
  }
}
