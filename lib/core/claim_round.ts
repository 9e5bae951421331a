/**
 * One round of claims: the generation asked for, and which legs have not answered yet.
 *
 * @module
 */

import { MOST_RETURN_MS } from "../wire/bodies.ts";
import { MessageType } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { CONTROL_REQUEST_IDS } from "./request_table.ts";
import { indicesOf } from "./start_rule.ts";
import { mayReturn } from "./path_changes.ts";

const CLAIM_TIMEOUT_MS = 15_000;
/** Pause after a round that was not enough to start; longer each time, up to the most. */
const PAUSE_MS = 100;
const MOST_PAUSE_MS = 2000;
/** When a leg is held for another client, it is claimed again after this. */
const HELD_PAUSE_MS = 1000;
/** Of a leg that takes longer. */
export const NO_ANSWER_TEXT = "it does not answer a claim";

/** The claims of a client. */
export class ClaimRound {
  readonly #pool: ClientContext;
  #waitMask = 0;
  #startedMs = 0;
  #highestPromise = 0;
  /** Whether a leg has not answered in time this round: it lives, but its disk may hang. */
  #wasOverdue = false;
  /** Rounds in a row that were not enough, and since when. */
  #failures = 0;
  #failingSinceMs = 0;

  constructor(pool: ClientContext) {
    this.#pool = pool;
  }

  /** Whether every leg that was asked has answered or is gone. */
  get isOver(): boolean {
    return this.#waitMask === 0;
  }

  /** A leg has told which generation it has promised. The next claim goes beyond. */
  notePromise(generation: number): void {
    this.#highestPromise = Math.max(this.#highestPromise, generation);
  }

  /** Claims every leg that has greeted, but for those that are left alone, for a generation that none of them has promised. */
  begin(): void {
    const pool = this.#pool;
    pool.generation = Math.max(pool.generation, this.#highestPromise) + 1;
    this.#startedMs = pool.nowMs;
    this.#waitMask = 0;
    this.#wasOverdue = false;
    for (const link of pool.links) {
      if (link === null || link.state !== "greeted" || link.isRival) continue;
      this.#waitMask |= 1 << link.legIndex;
      this.send(link);
    }
  }

  /**
   * Claims one leg for the generation in force. `isLate`: the pool is being served, by right of the members it has claimed. Whoever still
   * has a session on another leg was there before, and has lost; a caretaker has no right against a client.
   */
  send(link: LegLink, isLate = false): void {
    const pool = this.#pool;
    link.state = "claiming";
    pool.send(link, MessageType.CLAIM, CONTROL_REQUEST_IDS + 3).body = {
      generation: pool.generation,
      clientUuid: pool.options.clientUuid,
      clientName: pool.options.clientName,
      // Once a leg: whoever has taken it from us since is not to be robbed in turn, or neither would ever serve.
      takeover: (pool.takeover && !link.hasGranted) || (isLate && !pool.isCaretaker),
      caretaker: pool.isCaretaker ? true : undefined,
      ordered: pool.isOrdered ? true : undefined,
      returnMs: mayReturn(pool, link) ? this.#returnMs : undefined,
    };
  }

  /** The leg may hear of a loss much sooner than this end. Who takes longer to notice it than legs wait has lost the leg. */
  get #returnMs(): number {
    const { heartbeatLimitMs, pathChangeMs } = this.#pool;
    return Math.min(MOST_RETURN_MS, Math.ceil(heartbeatLimitMs + pathChangeMs));
  }

  /** This leg has answered, or is gone. */
  settle(link: LegLink): void {
    this.#waitMask &= ~(1 << link.legIndex);
  }

  /**
   * The legs that have granted their claims are not enough to start. Returns how long to wait before the next round, in ms: each costs all legs a
   * metadata write, and one whose disk hangs refuses the next at once. `isHeld`: by a leg that is held for another client.
   */
  failed(isHeld: boolean): number {
    if (this.#failures === 0) this.#failingSinceMs = this.#pool.nowMs;
    return Math.max(isHeld ? HELD_PAUSE_MS : 0, Math.min(MOST_PAUSE_MS, PAUSE_MS * this.#failures++));
  }

  /**
   * Whether those who greet have kept whoever wants the pool from starting for as long as one of them may take to answer, and for as long as that
   * one would wait for legs that do not greet.
   */
  get isHopeless(): boolean {
    if (this.#failures === 0) return false;
    const { nowMs, options } = this.#pool;
    const waitedMs = nowMs - this.#failingSinceMs + (this.#wasOverdue ? CLAIM_TIMEOUT_MS : 0);
    return waitedMs >= Math.max(CLAIM_TIMEOUT_MS, options.assembleTimeoutMs ?? 0);
  }

  /** A round was enough to start. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** Nothing is waited for any more. */
  abandon(): void {
    this.#waitMask = 0;
  }

  /** Legs that have kept us waiting too long. */
  overdue(): LegLink[] {
    const pool = this.#pool;
    if (pool.nowMs - this.#startedMs <= CLAIM_TIMEOUT_MS) return [];
    const links = indicesOf(this.#waitMask).map((index) => pool.links[index] as LegLink);
    for (const link of links) link.lastRefusal = NO_ANSWER_TEXT;
    this.#wasOverdue ||= links.length > 0;
    return links;
  }
}
