/**
 * Keeps a leg in the in-sync set when the connection to it is lost and there is another path to it: for a short, bounded time its writes wait
 * while it is greeted by the other paths. If the same run of the leg answers, and still has our session, what it has not answered is sent
 * again, in order, and nothing has happened. If no path is left, it has been started anew, or the time is over, it is lost as any other.
 *
 * No record is made meanwhile: legs that are lost for good while another changes its path are dropped together, when none changes any more.
 *
 * What the leg does: leg_session.ts handleReturn. What is sent again: request_resend.ts.
 *
 * @module
 */

import type { Returned, Welcome } from "../wire/bodies.ts";
import { MessageType } from "../wire/message.ts";
import { Feature } from "../wire/negotiate.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { connectLink, learnPaths, nextPath, pathInUse } from "./link_paths.ts";
import { OutputKind } from "./output.ts";
import { CONTROL_REQUEST_IDS } from "./request_table.ts";

/** Request id of RETURN. */
export const RETURN_ID = CONTROL_REQUEST_IDS + 4;

/** What a change of path asks of the rest. */
export interface PathChangeHost {
  /** Whether no record is on its way, and the pool is not being let go of. */
  isSteady(): boolean;
  /** The epoch in force. */
  epoch(): number;
  /** The leg is lost. */
  lost(link: LegLink, reason: string): void;
  /** The leg is back, and has these writes under way. */
  returned(link: LegLink, underWay: readonly number[]): void;
}

/** The changes of path of one client's legs. */
export class PathChanges {
  readonly #pool: ClientContext;
  readonly #host: PathChangeHost;

  constructor(pool: ClientContext, host: PathChangeHost) {
    this.#pool = pool;
    this.#host = host;
  }

  /** The connection of `link` is lost. Returns whether it is looked for by other paths; otherwise the leg is lost. */
  begin(link: LegLink): boolean {
    const pool = this.#pool;
    const bit = 1 << link.legIndex;
    const isMember = (pool.inSyncMask & ~pool.lostMask & ~pool.failedMask & bit) !== 0;
    // Nor while others wait to be dropped, or legs that flap in turn could keep all I/O waiting.
    const isDue = pool.failedMask === 0 && this.#host.isSteady();
    if (!isMember || !mayReturn(pool, link) || link.state !== "claimed" || !isDue) return false;
    const text = `The connection to leg ${link.legIndex} at ${pathInUse(link)} is lost; another path is tried`;
    pool.event("warning", "path-lost", text, link.legIndex);
    pool.changingMask |= bit;
    // The clock of one that was idle may be far behind: its time is counted from the next tick on, which is due at once.
    link.changeUntilMs = Infinity;
    link.instance = link.welcome?.instance ?? "";
    nextPath(link);
    this.#connect(link);
    return true;
  }

  /** The path that was tried is of no use. */
  pathFailed(link: LegLink): void {
    if (nextPath(link)) this.#connect(link);
    else this.end(link, "no path leads to it");
  }

  /** The leg greets by another path. */
  greeted(link: LegLink, welcome: Welcome): void {
    if (welcome.instance !== link.instance || !canReturn(welcome)) return this.end(link, "it has been started anew");
    const pool = this.#pool;
    link.state = "returning";
    link.welcome = welcome;
    const { generation, options: { clientUuid } } = pool;
    pool.send(link, MessageType.RETURN, RETURN_ID).body = { generation, clientUuid, epoch: this.#host.epoch() };
  }

  /** The leg has taken us back. */
  returned(link: LegLink, body: Returned): void {
    if (link.state !== "returning") return;
    const pool = this.#pool;
    link.state = "claimed";
    link.backoffMs = 50;
    link.changeUntilMs = 0;
    learnPaths(pool, link, link.welcome?.addresses);
    pool.changingMask &= ~(1 << link.legIndex);
    pool.event("info", "path-changed", `Leg ${link.legIndex} is reached at ${pathInUse(link)} now`, link.legIndex);
    this.#host.returned(link, body.underWay);
  }

  /** The leg is lost after all. */
  end(link: LegLink, reason: string): void {
    const pool = this.#pool;
    const text = `Leg ${link.legIndex} is reached by no other path: ${reason}`;
    pool.event("warning", "path-change-failed", text, link.legIndex);
    link.changeUntilMs = 0;
    pool.changingMask &= ~(1 << link.legIndex);
    if (link.connection >= 0) pool.outputs.push(OutputKind.CLOSE).connection = link.connection;
    // What is left of its round counts no more: it is tried again after a pause, as any leg that is away.
    link.pathsLeft = 1;
    this.#host.lost(link, reason);
  }

  /** Time passes. `stoppedMs`: how long this process was stopped. */
  tick(link: LegLink, stoppedMs: number): void {
    if (link.changeUntilMs === 0) return;
    const pool = this.#pool;
    if (link.changeUntilMs === Infinity) {
      link.changeUntilMs = pool.nowMs + pool.pathChangeMs;
      link.connectUntilMs = pool.nowMs + pool.pathChangeMs / link.paths.length;
      return;
    }
    link.changeUntilMs += stoppedMs;
    if (pool.nowMs >= link.changeUntilMs) return this.end(link, "the time for it is over");
    if (link.state !== "greeting" || pool.nowMs < link.connectUntilMs) return;
    // Somebody accepts connections and says nothing.
    pool.outputs.push(OutputKind.CLOSE).connection = link.connection;
    this.pathFailed(link);
  }

  #connect(link: LegLink): void {
    const pool = this.#pool;
    link.connection = -1;
    link.readsInFlight = 0;
    link.confirmedRound = 0;
    connectLink(pool, link);
    link.connectUntilMs = link.changeUntilMs === Infinity
      ? Infinity
      : pool.nowMs + pool.pathChangeMs / link.paths.length;
  }
}

/** Whether a leg that greets so lets its client change paths. */
function canReturn(welcome: Welcome | null): boolean {
  return welcome !== null && (welcome.features & Feature.RETURN) !== 0;
}

/** Whether the client may come back to this leg by another path, should the one in use be lost. */
export function mayReturn(pool: ClientContext, link: LegLink): boolean {
  return !pool.isCaretaker && link.paths.length > 1 && canReturn(link.welcome);
}
