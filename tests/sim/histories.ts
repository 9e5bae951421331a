/**
 * The histories of one world's pool, where starts are forced, and what may be read in each.
 *
 * A forced start goes on from what the legs hold that it starts from. So when its history is first served, every sector holds what those legs
 * held when the history was founded, and nothing else: what was acked and is on other legs alone is given up. From then on nothing is lost
 * in it. The history that it left is not gone: its legs may be started without anybody who knows of the other. Then everything must be as
 * that history left it: two histories never mix.
 *
 * Two clients at once on histories apart is what an operator must not do, and does not here: one of them is ended.
 *
 * @module
 */

import { RequestKind } from "../../lib/frontend/frontend.ts";
import { indicesOf } from "../../lib/core/start_rule.ts";
import type { SharedEpoch } from "../../lib/disk_format/records.ts";
import type { ClientProcess } from "./client_process.ts";
import { peekRecord } from "./disk_image.ts";
import { nameValue, type OracleState } from "./oracle.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** A history as it was when it was last served. */
interface Left {
  readonly state: OracleState;
  /** Losses of power there had been by then. */
  readonly lossCount: number;
}

/** A write, or one of zeroes, as `Oracle.beginWrite` takes it. */
interface Write {
  readonly firstSector: number;
  readonly sectorCount: number;
  readonly firstValue: number;
  readonly invoke: number;
}

/** See the module comment. */
export class Histories {
  readonly #world: World;
  /** The history that is, or was last, served. */
  #served: string;
  readonly #left = new Map<string, Left>();
  /** By history that was not served yet: what the disks held from which it was founded, once for each try. */
  readonly #founders = new Map<string, Int32Array[]>();
  #lastFounding = "";
  /** By history: writes of clients that served it for a moment and were ended. */
  readonly #strays = new Map<string, Write[]>();

  constructor(world: World, first: SharedEpoch) {
    this.#world = world;
    this.#served = first.historyId;
  }

  /** Whether a record belongs to the history that is, or was last, served. */
  isServed(shared: SharedEpoch): boolean {
    return shared.historyId === this.#served;
  }

  /** Whether a leg holds another history than the one that is, or was last, served. */
  get isElsewhere(): boolean {
    const { legs, layout } = this.#world;
    return legs.some(({ disk, hasLeg }) => hasLeg && !this.isServed(peekRecord(disk, layout.epochOffset).shared));
  }

  /** A client sends a record: those of a history that was never served say what it is founded on. */
  recordSent(shared: SharedEpoch): void {
    const { historyId, generation } = shared;
    const founding = `${historyId} ${generation}`;
    if (historyId === this.#served || this.#left.has(historyId) || founding === this.#lastFounding) return;
    this.#lastFounding = founding;
    const founders = this.#founders.get(historyId) ?? [];
    for (const index of indicesOf(shared.inSyncMask)) founders.push(this.#world.legs[index].disk.current.slice());
    this.#founders.set(historyId, founders);
  }

  /** A client has come to serve. Returns the record under which, or null when it must not: another one serves another history. */
  ready(client: ClientProcess, inSyncMask: number): SharedEpoch | null {
    const world = this.#world;
    const members = indicesOf(inSyncMask);
    const { shared } = peekRecord(world.legs[members[0]].disk, world.layout.epochOffset);
    // An operator's session serves nobody.
    if (client === world.operator) return shared;
    if (shared.historyNumber < client.latestHistory) {
      throw new Violation("histories", `${client.name} goes back to history ${shared.historyNumber}`);
    }
    client.latestHistory = shared.historyNumber;
    if (this.isServed(shared)) return shared;
    if (client !== world.client) {
      world.note(`${client.name} serves another history: its operator ends it`);
      // For a moment it has served: what it had waiting may be on its way.
      this.#strays.set(shared.historyId, [...this.#strays.get(shared.historyId) ?? [], ...waitingWrites(client)]);
      return null;
    }
    // A story knows what it does.
    const others = world.stage === "scenario" ? [] : world.clients.filter((each) => each !== client && each.alive);
    for (const each of others) each.kill(false);
    const { oracle } = world;
    world.note(`history ${shared.historyNumber} is served instead`);
    this.#left.set(this.#served, { state: oracle.save(), lossCount: world.losses.count });
    this.#served = shared.historyId;
    const left = this.#left.get(shared.historyId);
    if (left === undefined) this.#found(client, shared, members);
    else this.#return(client, left);
    return shared;
  }

  /** It is served for the first time. */
  #found(client: ClientProcess, shared: SharedEpoch, members: number[]): void {
    const { legs, oracle } = this.#world;
    const founders = this.#founders.get(shared.historyId) ?? [];
    const strays = this.#takeStrays();
    for (const index of members) {
      const { disk, name } = legs[index];
      for (let sector = 0; sector < oracle.sectorCount; sector++) {
        const value = disk.current[sector];
        if (founders.some((held) => held[sector] === value)) continue;
        if (strays.some((stray) => writes(stray, sector, value))) continue;
        throw new Violation(
          "histories",
          `a history begins in which sector ${sector} of ${name} holds ${
            nameValue(value)
          }, which no leg held from which ` +
            `it was founded`,
        );
      }
    }
    const disks = members.map((index) => legs[index].disk);
    oracle.found(
      (sector) => disks.map(({ current }) => current[sector]),
      (sector) => disks.map(({ stable }) => stable[sector]),
      new Set([...waitingWrites(client), ...strays].map(({ invoke }) => invoke)),
    );
  }

  /** Those of the history that is served from now on. */
  #takeStrays(): Write[] {
    const strays = this.#strays.get(this.#served) ?? [];
    this.#strays.delete(this.#served);
    return strays;
  }

  /** One that was left is served again: all in it is as it was then. */
  #return(client: ClientProcess, left: Left): void {
    const { losses, oracle } = this.#world;
    oracle.restore(left.state);
    for (const { firstSector, sectorCount, firstValue, invoke } of [...waitingWrites(client), ...this.#takeStrays()]) {
      oracle.beginWrite(firstSector, sectorCount, firstValue, invoke);
    }
    if (losses.count !== left.lossCount) oracle.losePower();
  }
}

/** What a client has been asked to write, and has not answered. */
function waitingWrites({ inFlight }: ClientProcess): Write[] {
  return [...inFlight.values()]
    .filter(({ kind }) => kind !== RequestKind.READ && kind !== RequestKind.FLUSH)
    .map(({ firstSector, sectorCount, firstValue, invoke }) => ({ firstSector, sectorCount, firstValue, invoke }));
}

function writes({ firstSector, sectorCount, firstValue }: Write, sector: number, value: number): boolean {
  const at = sector - firstSector;
  return at >= 0 && at < sectorCount && value === (firstValue === 0 ? 0 : firstValue + at);
}
