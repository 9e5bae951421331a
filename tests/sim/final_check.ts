/**
 * What is asked of a pool when all faults are over and it is whole: some writes, then every sector is read.
 *
 * @module
 */

import { RequestKind } from "../../lib/frontend/frontend.ts";
import { under } from "./chance.ts";
import type { World } from "./world.ts";

const WRITE_COUNT = 4;
const READ_SECTORS = 128;

/** One check. */
export class FinalCheck {
  readonly #world: World;
  #writes = 0;
  #nextSector = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Submits the next request. False when all have been. */
  advance(): boolean {
    const { application, client, plan, oracle, prng } = this.#world;
    if (this.#writes < WRITE_COUNT) {
      this.#writes++;
      client.submit(application.begin(client, RequestKind.WRITE, 0, under(prng, plan.spanSectors), 1));
      return true;
    }
    if (this.#nextSector === oracle.sectorCount) return false;
    const count = Math.min(READ_SECTORS, oracle.sectorCount - this.#nextSector);
    client.submit(application.begin(client, RequestKind.READ, 0, this.#nextSector, count));
    this.#nextSector += count;
    return true;
  }
}
