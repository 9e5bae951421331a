/**
 * Whether to look again for a few microseconds before a worker goes to sleep.
 *
 * An application that has one request under way sends the next one some 10 us after it was answered, and the legs answer a
 * write one shortly after the other. Who goes to sleep for such a wait pays for two changes of context, who wakes him
 * pays for that, and on a virtual machine, where waking an idle processor leaves the guest twice, all of it together takes
 * longer than the wait itself. So such a wait begins by looking, for as long as a sleep would cost, and no longer.
 *
 * It is worth it only where the next event does come that soon, so that is learnt, for each occasion by itself: every wait is
 * measured, also those that were slept through, and only when most of the last ones were short is the next one spent looking.
 * Nothing looks on when nothing is under way and nothing has just ended: an idle pool sleeps.
 *
 * @module
 */

/** For how long to look, in milliseconds. What sleeping and being woken takes on a virtual machine. */
export const BRIEF_WAIT_MS = 0.04;
/** A wait that was slept through was short if it took no longer than that with the waking. */
const BRIEF_SLEEP_MS = 1.5 * BRIEF_WAIT_MS;
/** What part one wait has in the mean. */
const WEIGHT = 1 / 8;
const MOST = 1 / 2;

/** The waits of one occasion. */
export class BriefWait {
  #shareShort = 0;

  /** Whether most of the last waits were short. */
  get isWorthwhile(): boolean {
    return this.#shareShort > MOST;
  }

  /** A wait has ended after `waitedMs`, of which the first {@link BRIEF_WAIT_MS} were spent looking if `looked`. */
  note(waitedMs: number, looked: boolean): void {
    const isShort = waitedMs <= (looked ? BRIEF_WAIT_MS : BRIEF_SLEEP_MS);
    this.#shareShort += ((isShort ? 1 : 0) - this.#shareShort) * WEIGHT;
  }
}
