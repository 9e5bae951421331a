/**
 * Whether to look again for a while before a worker goes to sleep.
 *
 * An application that has one request under way sends the next one some 10 us after it was answered, a fast disk answers
 * within 50 us, the legs one shortly after the other. Who goes to sleep for such a wait pays for two changes of context, who
 * wakes him pays for that, and an idle processor has to be got out of its sleep first: on a virtual machine, which leaves the
 * guest for each of those steps, all of it together takes as long as the wait itself, and there is one such step at every
 * place that a request passes. So such a wait begins by looking, for about as long as a fast disk takes, and no longer.
 *
 * Between two looks others may run that wait for this very processor (`Reactor.letOthersRun`): it is only kept from
 * idling. Without that, looking delays the one whose event is looked for, whenever the kernel has put both in one place.
 *
 * It is worth it only where the next event does come that soon, so that is learnt, for each occasion by itself: every wait is
 * measured, also those that were slept through, and only when most of the last ones were short is the next one spent looking.
 * And it is worth it only where the others do not keep the processor: who gave it away gets it back when his turn comes,
 * which with a busy neighbour takes milliseconds, while who sleeps is let in at once when he is woken.
 *
 * @module
 */

/** For how long to look, in milliseconds: what a fast disk takes for a write, with the ways there and back. */
export const BRIEF_WAIT_MS = 0.1;
/** A wait that was slept through was short if it took no longer than that with the waking. */
const BRIEF_SLEEP_MS = 1.2 * BRIEF_WAIT_MS;
/** What part one wait has in the mean. */
const WEIGHT = 1 / 8;
const MOST = 1 / 2;
/** A look that took that long was one at a processor that others keep: the kernel's slices are longer, requests shorter. */
const CROWDED_MS = 1;
/**
 * So many waits are slept through before it is tried again, at first: a virtual machine is itself set aside for as long at
 * times. With every look that meets a crowd again there are four times as many, so that what the tries cost is spread.
 */
const FIRST_REST = 64;
const MOST_REST = 16_384;
/** After so many looks without a crowd it is over. */
const LOOKS_UNTIL_ALONE = 64;

/** The waits of one occasion. */
export class BriefWait {
  #shareShort = 0;
  /** Waits still to be slept through, and how many the next crowd makes. */
  #sleepCount = 0;
  #rest = FIRST_REST;
  #looksSinceCrowd = 0;

  /** Whether most of the last waits were short, and nobody else wants the processor. */
  get isWorthwhile(): boolean {
    return this.#shareShort > MOST && this.#sleepCount === 0;
  }

  /** A wait has ended after `waitedMs`, of which the first `lookedMs` were spent looking. */
  note(waitedMs: number, lookedMs: number): void {
    const isShort = waitedMs <= (lookedMs > 0 ? BRIEF_WAIT_MS : BRIEF_SLEEP_MS);
    this.#shareShort += ((isShort ? 1 : 0) - this.#shareShort) * WEIGHT;
    if (lookedMs > CROWDED_MS) this.#meetCrowd();
    else if (lookedMs > 0) this.#looksSinceCrowd++;
    else if (this.#sleepCount > 0) this.#sleepCount--;
  }

  #meetCrowd(): void {
    this.#rest = this.#looksSinceCrowd > LOOKS_UNTIL_ALONE ? FIRST_REST : Math.min(4 * this.#rest, MOST_REST);
    this.#sleepCount = this.#rest;
    this.#looksSinceCrowd = 0;
  }
}
