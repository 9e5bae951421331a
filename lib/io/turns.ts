/**
 * When a data-plane worker sleeps: the turns of its reactor between two rounds of sending.
 *
 * With a few operations under way, and for the next one after the last was answered, the wait begins by looking where that
 * pays (`brief_wait.ts`). With more, several complete while the worker is woken, so that waking costs each of them little,
 * and to look would only handle them one by one; with very many they are left to gather (`gather_time.ts`). With none the
 * worker sleeps: an idle pool burns nothing.
 *
 * What arrives while completions are handled is not waited for: to handle it as well before anything is sent was measured,
 * and on an idle machine it cost a fifth of the rate of reads at depth 32, for the processes then wait for each other.
 *
 * @module
 */

import { BRIEF_WAIT_MS, BriefWait } from "./brief_wait.ts";
import type { Reactor } from "./reactor.ts";

/** With more operations under way than this nothing is looked for. Measured: at 16 it gains, at 32 it costs CPU time. */
const FEW_OPERATIONS = 16;
/**
 * The same where there is one processor: with a second operation under way, who brings the next event mostly wants that very
 * processor, as the application or another process of the pool, and to look only delays him (measured in virtual machines: 2 to
 * 7 % of the rate of writes in a row).
 */
const FEW_ON_ONE_PROCESSOR = 1;

/** Whether a worker looks before it sleeps: where that pays, or not at all, which leaves the processor to others. */
export type BusyPollPolicy = "auto" | "never";

/** What the turns need to know of their worker. */
export interface TurnLoad {
  /** Operations under way. */
  readonly inFlightCount: number;
  /** As `GatherTime.us`. */
  readonly gatherUs: number;
  /** Operations that have ended so far. */
  readonly endedCount: number;
}

/** See the module's description. */
export class Turns {
  /** Whether it looks before it sleeps, where that pays. */
  readonly mayLook: boolean;
  readonly #reactor: Reactor;
  readonly #load: TurnLoad;
  readonly #fewOperations: number;
  readonly #underWay = new BriefWait();
  readonly #afterAnswer = new BriefWait();
  /** Operations that had ended when the last turn began. */
  #endedCount = 0;

  /** `processorCount`: those that this process may run on. */
  constructor(reactor: Reactor, load: TurnLoad, busyPoll: BusyPollPolicy, processorCount: number) {
    this.#reactor = reactor;
    this.#load = load;
    this.#fewOperations = processorCount > 1 ? FEW_OPERATIONS : FEW_ON_ONE_PROCESSOR;
    this.mayLook = busyPoll === "auto";
  }

  /** Waits until `deadlineMs` for something to happen, and handles all that has. Sending is up to the caller. */
  turn(deadlineMs: number): void {
    const { inFlightCount, gatherUs, endedCount } = this.#load;
    const hasEnded = endedCount !== this.#endedCount;
    this.#endedCount = endedCount;
    if (inFlightCount > this.#fewOperations || !this.mayLook) this.#reactor.turn(deadlineMs, gatherUs, inFlightCount);
    else if (inFlightCount > 0) this.#waitBriefly(this.#underWay, deadlineMs);
    else if (hasEnded) this.#waitBriefly(this.#afterAnswer, deadlineMs);
    else this.#reactor.turn(deadlineMs);
  }

  #waitBriefly(occasion: BriefWait, deadlineMs: number): void {
    const reactor = this.#reactor;
    const startMs = reactor.clockMs();
    let count = 0, lookedMs = 0;
    if (occasion.isWorthwhile) {
      for (;;) {
        count = reactor.turn(0);
        lookedMs = reactor.nowMs - startMs;
        if (count > 0 || lookedMs >= BRIEF_WAIT_MS) break;
        reactor.letOthersRun();
      }
    }
    if (count === 0) reactor.turn(deadlineMs);
    occasion.note(reactor.nowMs - startMs, lookedMs);
  }
}
