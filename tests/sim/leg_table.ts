/**
 * The operator of a simulated world: changes the leg table, exchanges disks, and looks up where the legs are, as the command line does. It
 * speaks to the client that serves the pool or, while none does, begins a session of its own.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../../lib/disk_format/records.ts";
import { maskOf } from "./checks.ts";
import type { ClientProcess } from "./client_process.ts";
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
    return tableMaskOf(this.#world.client);
  }

  /** Whoever serves the pool now, so that its table can be changed: the client, else an operator's session. */
  get server(): ClientProcess | null {
    const { client, operator } = this.#world;
    return [client, operator].find((each) => each.alive && !each.detaching && each.core!.state === "ready") ?? null;
  }

  drain(legIndex: number, isDrained: boolean): void {
    this.#through((server) => server.changeLegs({ kind: isDrained ? "drain" : "undrain", legIndex }));
  }

  remove(legIndex: number): void {
    this.#through((server) => server.changeLegs({ kind: "remove", legIndex }));
  }

  /** Where one is running, it is stopped and another begun at once. */
  verify(repair: boolean, rateBytesPerSecond: number): void {
    this.#through((server) => {
      if (server.core!.snapshot().verify.state === "running") server.stopVerify();
      if (server.alive) server.verify(repair, rateBytesPerSecond);
    });
  }

  /** A disk becomes a new leg in a place that is not in the table; `replacesIndex`: in the end it stands for that one. */
  add(leg: LegProcess, replacesIndex: number): void {
    this.#through((server) => {
      const { legIndex } = leg;
      const known = this.newest(true);
      if (known === null || this.#isInTable(server, legIndex)) return;
      const legUuid = this.#exchange(leg, undefined, known);
      server.changeLegs({ kind: "add", legIndex, legUuid, address: `leg-${legIndex}:1`, replacesIndex });
    });
  }

  /**
   * The disk of a leg that is out of the in-sync set is exchanged for another: only then does nothing depend on the old one. A record that
   * takes the leg in counts from when it is sent: it may yet reach a disk.
   */
  replaceCold(leg: LegProcess): void {
    this.#through((server) => {
      const bit = 1 << leg.legIndex;
      const known = this.newest(false);
      const uuid = known?.legs[leg.legIndex]?.uuid;
      if (known === null || uuid === undefined) return;
      if (((known.inSyncMask | server.sentInSyncMask) & bit) !== 0) return;
      const members = server.core!.snapshot().inSyncMask;
      for (const each of this.#world.legs) {
        if ((members & (1 << each.legIndex)) === 0) continue;
        if ((peekRecord(each.disk, this.#world.layout.epochOffset).shared.inSyncMask & bit) !== 0) return;
      }
      if ((members & bit) !== 0 || this.#mayJoin(server, leg)) return;
      this.#exchange(leg, uuid, known);
    });
  }

  /** Whether who serves may be about to take the leg in: it has told of the end of its resync, or that may be heard only when a pause is over. */
  #mayJoin(server: ClientProcess, leg: LegProcess): boolean {
    return leg.core?.snapshot().resync?.state === "done" || server.pausedUntilMs > this.#world.nowMs;
  }

  /** As a node does it that reaches no other: from what it knows itself. */
  replaceAlone(leg: LegProcess): void {
    const known = peekRecord(leg.disk, this.#world.layout.epochOffset).shared;
    this.#exchange(leg, leg.legUuid, known);
  }

  /** What an operator has left half done and nobody else will finish is done; says what, or "". */
  finish(): string {
    const record = this.newest(true);
    if (record === null) return "no leg is up";
    const drained = record.legs.findIndex((entry) => entry?.isDrained === true);
    if (drained >= 0) {
      this.drain(drained, false);
      return `leg ${drained} is drained`;
    }
    // A disk that was exchanged at the same moment as the one before it is for a leg that is not in the table any more: once more.
    for (const leg of this.#world.legs) {
      const entry = record.legs[leg.legIndex] ?? null;
      if (entry === null || !leg.alive) continue;
      const { legUuid, replacesUuid } = leg.image!.superblock;
      if (legUuid === entry.uuid || replacesUuid === entry.uuid) continue;
      this.replaceCold(leg);
      return `${leg.name} has a disk that is not of the table`;
    }
    return "";
  }

  /** The legs that are in no table go, when it is known that they are not. */
  forget(leg: LegProcess): void {
    const { server } = this;
    if (server === null || !leg.hasLeg || this.#isInTable(server, leg.legIndex)) return;
    // Not while it may yet come into the table.
    for (const each of [...this.#world.clients, this.#world.operator]) {
      for (const problem of each.changes.values()) if (problem === null) return;
    }
    leg.kill(false);
    leg.hasLeg = false;
  }

  /** Does `work` with whoever serves the pool: at once, or in a session that begins for it. */
  #through(work: (server: ClientProcess) => void): void {
    const { server } = this;
    const { operator, plan } = this.#world;
    if (server !== null) work(server);
    else if (plan.caretakers && !operator.alive) operator.order(() => work(this.server ?? operator));
  }

  /** Whether a leg is in the table; also by what is on disk, for who serves may have been superseded and not know it. */
  #isInTable(server: ClientProcess, legIndex: number): boolean {
    const known = this.newest(false);
    return ((tableMaskOf(server) | (known === null ? 0 : maskOf(known))) & (1 << legIndex)) !== 0;
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

function tableMaskOf(server: ClientProcess): number {
  return server.core?.snapshot().legs.reduce((mask, leg) => mask | (1 << leg.legIndex), 0) ?? 0;
}
