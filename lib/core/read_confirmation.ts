/**
 * Keeps a client that has been superseded, and has not heard of it, from reading what is old.
 *
 * Where m > 1 legs must be in sync, a pool may start without some of its members, and the client it is taken from may still reach one of those.
 * So a read counts only when m of its in-sync legs have been asked, since it was sent, whether they are still this client's, and have said so.
 * Who starts the pool has claimed all but fewer than m members, so one of those m is among the claimed, and says so no more: when it answered,
 * the other had not begun to serve, and what was read was still true. No clock takes part in that.
 *
 * Where m = 1, every member must be claimed, and a claimed leg answers no other client's reads: nothing need be asked.
 *
 * Questions are asked in rounds, which many reads share: a read needs the first round that begins after it was sent.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";
import { MessageType } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";

/** Rounds that may be open: reads that come while so many are share the next one. */
const MOST_OPEN = 4;
/** Numbers of rounds travel as request ids, from 1 on; 0 is for pings that ask nothing. */
const IDS = 0x7fffffff;

/** The confirmations of one client's reads. */
export class ReadConfirmation {
  readonly #pool: ClientContext;
  /** Reads that have been answered and wait to be confirmed. */
  readonly #waiting: number[] = [];
  /** What the last answer has confirmed. */
  readonly #done: number[] = [];
  /** By request: the round that confirms it, 0 for none. */
  readonly #roundOf: Float64Array;
  /** The newest round, and the newest that is confirmed. */
  #round = 0;
  #confirmed = 0;
  /** A read needs the round after the newest. */
  #isWanted = false;
  #nextLeg = 0;

  constructor(pool: ClientContext, capacity: number) {
    this.#pool = pool;
    this.#roundOf = new Float64Array(capacity);
  }

  /** Request `request` is sent as a read. */
  begin(request: number): void {
    this.#roundOf[request] = 0;
    if (this.#least <= 1) return;
    this.#isWanted = true;
    this.#roundOf[request] = this.#round + 1;
    if (this.#round - this.#confirmed < MOST_OPEN) this.#ask(false);
  }

  /** Whether the read may be told of now that it is answered; else it will be among those that {@link answered} returns. */
  isConfirmed(request: number): boolean {
    if (this.#roundOf[request] <= this.#confirmed || this.#least <= 1) return true;
    this.#waiting.push(request);
    return false;
  }

  /** Leg `link` has said that it is ours. Returns the reads that may be told of. */
  answered(link: LegLink, requestId: number): readonly number[] {
    this.#done.length = 0;
    if (requestId === 0) return this.#done;
    const age = (idOf(this.#round) - requestId + IDS) % IDS;
    link.confirmedRound = Math.max(link.confirmedRound, this.#round - age);
    return this.#advance();
  }

  /** Time passes: legs that were asked may be gone. */
  tick(): void {
    if (this.#waiting.length > 0 || this.#isWanted) this.#ask(true);
  }

  /** Nothing that was asked counts any more. */
  reset(): void {
    this.#waiting.length = 0;
    this.#isWanted = false;
  }

  /** Legs that must confirm a round. */
  get #least(): number {
    return this.#pool.record?.minInSync ?? 0;
  }

  /** What m in-sync legs have confirmed is confirmed. */
  #advance(): readonly number[] {
    const pool = this.#pool;
    const members = pool.inSyncMask & ~pool.lostMask;
    for (let mask = members; mask !== 0; mask &= mask - 1) {
      const { confirmedRound } = pool.links[31 - Math.clz32(mask & -mask)] as LegLink;
      if (confirmedRound > this.#confirmed && this.#countUpTo(members, confirmedRound) >= this.#least) {
        this.#confirmed = confirmedRound;
      }
    }
    if (this.#isWanted && this.#round - this.#confirmed < MOST_OPEN) this.#ask(false);
    return this.#takeConfirmed();
  }

  /** How many legs have confirmed `round` or a later one. */
  #countUpTo(members: number, round: number): number {
    let count = 0;
    for (let mask = members; mask !== 0; mask &= mask - 1) {
      if ((this.#pool.links[31 - Math.clz32(mask & -mask)] as LegLink).confirmedRound >= round) count++;
    }
    return count;
  }

  #takeConfirmed(): readonly number[] {
    this.#done.length = 0;
    let kept = 0;
    for (let i = 0; i < this.#waiting.length; i++) {
      const request = this.#waiting[i];
      if (this.#roundOf[request] <= this.#confirmed) this.#done.push(request);
      else this.#waiting[kept++] = request;
    }
    this.#waiting.length = kept;
    return this.#done;
  }

  /** Begins a round: asks as many in-sync legs as must answer, in turns, or all. */
  #ask(all: boolean): void {
    const pool = this.#pool;
    this.#isWanted = false;
    this.#round++;
    let missing = all ? MAX_LEGS : this.#least;
    for (let step = 0; step < MAX_LEGS && missing > 0; step++) {
      const index = (this.#nextLeg + step) % MAX_LEGS;
      if ((pool.inSyncMask & ~pool.lostMask & ~pool.unreachableMask & (1 << index)) === 0) continue;
      pool.send(pool.links[index] as LegLink, MessageType.PING, idOf(this.#round));
      missing--;
    }
    this.#nextLeg = (this.#nextLeg + 1) % MAX_LEGS;
  }
}

function idOf(round: number): number {
  return 1 + (round + IDS - 1) % IDS;
}
