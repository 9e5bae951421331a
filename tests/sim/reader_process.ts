/**
 * A simulated node that has the pool attached read-only: the production `ReaderPool` under an application that only reads.
 *
 * @module
 */

import type { ClientPoolOptions, PoolCore } from "../../lib/core/client_pool.ts";
import { ReaderPool } from "../../lib/core/reader_pool.ts";
import { ClientProcess } from "./client_process.ts";
import { part } from "./chance.ts";

/** A reader and its machine. */
export class ReaderProcess extends ClientProcess {
  override readonly onlyReads: boolean = true;

  protected override makeCore(options: ClientPoolOptions): PoolCore {
    return new ReaderPool(options);
  }

  protected override begins(): void {}

  protected override drain(): void {
    this.carryOutAll();
    this.follow(this.core!.state);
  }

  protected override follow(state: string): void {
    const world = this.world;
    if (state === "refused" || state === "detached") {
      if (state === "refused") world.note(`${this.name} is refused: ${this.core!.refusal}`);
      this.kill(false);
      if (world.faulty) world.scheduleStart(this, 200 + part(world.prng) * 2000);
    } else this.maybeTakeTurn();
  }
}
