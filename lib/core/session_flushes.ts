/**
 * The flushes of claims and ends of sessions. Of these only the one asked for last counts. Few are under way at a time: who claims and goes
 * away, again and again, does not fill a slow disk with flushes.
 *
 * @module
 */

import type { LegIo } from "./leg_io.ts";
import { KEPT_FOR_SESSIONS } from "./operation_table.ts";

/** Under way at a time; one entry of those kept is for records. */
const MOST_FLUSHES = KEPT_FOR_SESSIONS - 1;

/** Those of one leg. */
export class SessionFlushes {
  readonly #io: LegIo;
  /** The one that counts, -1 for none. */
  #operation = -1;
  #count = 0;
  /** One is asked for and waits until they are fewer. */
  #waits = false;

  constructor(io: LegIo) {
    this.#io = io;
  }

  /** Asks for one; those before it count no more. */
  begin(): void {
    this.#waits = this.#count === MOST_FLUSHES;
    this.#operation = this.#waits ? -1 : this.#io.flushSession();
    if (!this.#waits) this.#count++;
  }

  /** One has ended. Returns whether it is the one that counts. */
  ended(operation: number): boolean {
    this.#count--;
    if (this.#waits) this.begin();
    else if (operation === this.#operation) {
      this.#operation = -1;
      return true;
    }
    return false;
  }
}
