/**
 * When the worker of a client sleeps: the turns of its reactor between two rounds of sending.
 *
 * With one request at a time, the wait for the next one, and for the second leg's answer after the first one's, begins by
 * looking (`brief_wait.ts`).
 *
 * What arrives while completions are handled is not waited for: to handle it as well before anything is sent was measured,
 * and on an idle machine it cost a fifth of the rate of reads at depth 32, for the processes then wait for each other.
 *
 * @module
 */

import { BRIEF_WAIT_MS, BriefWait } from "../io/brief_wait.ts";
import type { Reactor } from "../io/reactor.ts";

/** What the turns need to know of the worker. */
export interface ClientLoad {
  /** Requests under way. */
  readonly inFlightCount: number;
  /** As `GatherTime.us`. */
  readonly gatherUs: number;
  /** Requests that have begun, and that have ended, so far. */
  readonly startedCount: number;
  readonly endedCount: number;
}

/** See the module's description. */
export class ClientTurns {
  readonly #reactor: Reactor;
  readonly #load: ClientLoad;
  readonly #afterAnswer = new BriefWait();
  readonly #betweenLegs = new BriefWait();
  /** What the present wait is for; null when nothing says that it will be short. */
  #occasion: BriefWait | null = null;

  constructor(reactor: Reactor, load: ClientLoad) {
    this.#reactor = reactor;
    this.#load = load;
  }

  /** Waits until `deadlineMs` for something to happen, and handles all that has. Sending is up to the caller. */
  turn(deadlineMs: number): void {
    const load = this.#load;
    const { startedCount, endedCount } = load;
    const occasion = this.#occasion;
    const count = occasion === null ? this.#sleep(deadlineMs) : this.#waitBriefly(occasion, deadlineMs);
    const hasEnded = load.endedCount !== endedCount;
    const hasStarted = load.startedCount !== startedCount;
    if (load.inFlightCount === 0) this.#occasion = hasEnded ? this.#afterAnswer : null;
    else if (load.inFlightCount === 1 && count > 0 && !hasEnded && !hasStarted) this.#occasion = this.#betweenLegs;
    else this.#occasion = null;
  }

  #sleep(deadlineMs: number): number {
    return this.#reactor.turn(deadlineMs, this.#load.gatherUs, this.#load.inFlightCount);
  }

  #waitBriefly(occasion: BriefWait, deadlineMs: number): number {
    const reactor = this.#reactor;
    const startMs = reactor.clockMs();
    const looks = occasion.isWorthwhile;
    let count = 0;
    if (looks) {
      do count = reactor.turn(0); while (count === 0 && reactor.nowMs - startMs < BRIEF_WAIT_MS);
    }
    if (count === 0) count = this.#sleep(deadlineMs);
    occasion.note(reactor.nowMs - startMs, looks);
    return count;
  }
}
