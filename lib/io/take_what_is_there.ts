/**
 * Handles what has arrived while completions were handled.
 *
 * @module
 */

import type { Reactor } from "./reactor.ts";

/** With fewer operations under way, hardly anything arrives meanwhile, and to ask is a system call. */
const FEW_OPERATIONS = 4;
/** What was handled first waits for the rest before it is answered: not for long. */
const MOST_TURNS = 3;

/**
 * Takes more turns, without waiting, for as long as they bring something, but a few at most. To be called between a turn that
 * waited and the sending of what came of it.
 */
export function takeWhatIsThere(reactor: Reactor, inFlightCount: number): void {
  if (inFlightCount < FEW_OPERATIONS) return;
  for (let i = 0; i < MOST_TURNS && reactor.turn(0) > 0; i++);
}
