/**
 * The connections of a client or a reader to the legs, as far as both do alike: connect, greet, send heartbeats, notice silence, and pause
 * before the next attempt. What follows from a greeting or a loss is up to the owner (client_pool.ts, reader_links.ts).
 *
 * @module
 */

import type { Welcome } from "../wire/bodies.ts";
import { MessageType } from "../wire/message.ts";
import { checkAnswer } from "../wire/negotiate.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { connectLink, learnPaths, nextPath } from "./link_paths.ts";
import { OutputKind } from "./output.ts";
import { CONTROL_REQUEST_IDS } from "./request_table.ts";

/** First and longest pause after a round of attempts that has failed; it doubles in between, until the leg is taken. */
const BACKOFF_MS = 50;
const MOST_BACKOFF_MS = 1000;
/** Request id of HELLO. */
const HELLO_ID = CONTROL_REQUEST_IDS;

/** The connections to the legs of one pool. */
export class LegLinks {
  readonly #pool: ClientContext;
  readonly #role: "client" | "reader";
  readonly #byConnection = new Map<number, LegLink>();

  constructor(pool: ClientContext, role: "client" | "reader") {
    this.#pool = pool;
    this.#role = role;
  }

  /** The link that uses `connection`, or null. */
  find(connection: number): LegLink | null {
    const link = this.#byConnection.get(connection);
    return link === undefined || link.connection !== connection ? null : link;
  }

  /** Begins to connect to the legs that are down and whose pause is over, but for those of `exceptMask`. */
  connect(exceptMask = 0): void {
    const pool = this.#pool;
    for (const link of pool.links) {
      if (link === null || link.state !== "down" || pool.nowMs < link.retryAtMs) continue;
      if ((exceptMask & (1 << link.legIndex)) === 0) connectLink(pool, link);
    }
  }

  /** Output CONNECT has succeeded: greets. `isWanted`: false when the owner is at its end. */
  connected(legIndex: number, connection: number, attempt: number | undefined, isWanted: boolean): void {
    const pool = this.#pool;
    const link = this.attempted(legIndex, attempt);
    if (link === null || !isWanted) {
      pool.outputs.push(OutputKind.CLOSE).connection = connection;
      if (link !== null) link.state = "down";
      return;
    }
    link.state = "greeting";
    link.connection = connection;
    link.lastHeardMs = pool.nowMs;
    link.lastPingMs = pool.nowMs;
    this.#byConnection.set(connection, link);
    pool.send(link, MessageType.HELLO, HELLO_ID).body = {
      protocol: pool.dialect.newestProtocol,
      features: pool.dialect.features,
      role: this.#role,
      poolUuid: pool.options.poolUuid,
      legIndex,
      senderUuid: pool.options.clientUuid,
      senderName: pool.options.clientName,
    };
  }

  /** The link whose attempt to connect this is, or null when that one has been given up. */
  attempted(legIndex: number, attempt: number | undefined): LegLink | null {
    const link = this.#pool.links[legIndex];
    if (link === null || link.state !== "connecting") return null;
    return (attempt ?? link.attempt) === link.attempt ? link : null;
  }

  /** A connection is gone. Returns the link that uses it, or has used it; null for one that was never greeted. */
  ended(connection: number): LegLink | null {
    const link = this.#byConnection.get(connection) ?? null;
    this.#byConnection.delete(connection);
    return link;
  }

  /** WELCOME on a link that greets. False when we do not get on: `lastRefusal` says why, and the link is to be closed. */
  welcomed(link: LegLink, welcome: Welcome): boolean {
    const agreement = checkAnswer(this.#pool.dialect, welcome);
    if (!agreement.ok) {
      link.lastRefusal = agreement.message;
      return false;
    }
    link.state = "greeted";
    link.welcome = welcome;
    link.legUuid = welcome.legUuid ?? "";
    link.lastRefusal = "";
    learnPaths(this.#pool, link, welcome.addresses);
    return true;
  }

  /** The owner can use this leg. One that greets and is not taken is not to be asked as fast as that, again and again. */
  taken(link: LegLink): void {
    link.backoffMs = BACKOFF_MS;
  }

  /** Whether nothing has come on an open link for too long. If not, a heartbeat is sent when due. `stoppedMs`: does not count. */
  isSilent(link: LegLink, stoppedMs: number): boolean {
    const pool = this.#pool;
    const { nowMs, heartbeatLimitMs, pingMs } = pool;
    link.lastHeardMs = Math.min(nowMs, link.lastHeardMs + stoppedMs);
    if (nowMs - link.lastHeardMs > heartbeatLimitMs) return true;
    if (nowMs - link.lastPingMs >= pingMs) {
      link.lastPingMs = nowMs;
      pool.send(link, MessageType.PING, 0);
    }
    return false;
  }

  /** A link is down: the next path is tried, after a pause when all have been. */
  down(link: LegLink): void {
    const { nowMs } = this.#pool;
    const isRoundOver = !nextPath(link);
    link.state = "down";
    link.connection = -1;
    link.readsInFlight = 0;
    link.welcome = null;
    link.isRival = false;
    link.confirmedRound = 0;
    link.retryAtMs = nowMs;
    if (!isRoundOver) return;
    link.hasFailed = true;
    link.retryAtMs = nowMs + link.backoffMs;
    link.backoffMs = Math.min(MOST_BACKOFF_MS, link.backoffMs * 2);
  }

  /** A link that was closed by ourselves, to greet anew, needs no pause. */
  hasten(link: LegLink): void {
    link.retryAtMs = this.#pool.nowMs;
    this.taken(link);
  }
}
