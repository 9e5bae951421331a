/**
 * The connections of a resync target to its sources: which are up, when to try again.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";

const FIRST_BACKOFF_MS = 50;
const MOST_BACKOFF_MS = 2000;
/** A peer is asked whether it is there this often, and is given up when it has been silent for the limit. */
const PING_MS = 1000;
const SILENCE_LIMIT_MS = 3000;
/** An attempt to connect that nobody refuses, and the pause after it: more in all, over a few of them. */
const ATTEMPT_MS = SILENCE_LIMIT_MS + 1000;
/** Looks this far apart mean that this process was stopped: then silence of peers says nothing. */
const STOPPED_MS = 1500;

/** State of one link. */
interface Link {
  state: "down" | "connecting" | "greeting" | "up";
  /** All addresses of the leg, and the one whose turn it is. */
  addresses: readonly string[];
  turn: number;
  connection: number;
  retryAtMs: number;
  backoffMs: number;
  lastHeardMs: number;
  lastPingMs: number;
}

/** Links to peers, by leg index. */
export class PeerLinks {
  readonly #links: (Link | null)[] = new Array(MAX_LEGS).fill(null);
  #watchedMs = 0;

  /** A link to this leg is wanted. */
  want(legIndex: number, addresses: readonly string[]): void {
    this.#links[legIndex] = {
      state: "down",
      addresses,
      turn: 0,
      connection: -1,
      retryAtMs: 0,
      backoffMs: FIRST_BACKOFF_MS,
      lastHeardMs: 0,
      lastPingMs: 0,
    };
  }

  mayConnect(legIndex: number, nowMs: number): boolean {
    const link = this.#links[legIndex];
    return link !== null && link.state === "down" && nowMs >= link.retryAtMs;
  }

  /** A connect begins. Returns the address. */
  connecting(legIndex: number, nowMs: number): string {
    const link = this.#links[legIndex] as Link;
    link.state = "connecting";
    link.lastHeardMs = nowMs;
    return link.addresses[link.turn];
  }

  /** A connect has succeeded. False when nobody waits for it. */
  connected(legIndex: number, connection: number, nowMs: number): boolean {
    const link = this.#links[legIndex];
    if (link === null || link.state !== "connecting") return false;
    link.state = "greeting";
    link.connection = connection;
    link.lastHeardMs = nowMs;
    link.lastPingMs = nowMs;
    return true;
  }

  /** A connect has failed. It may be one that an earlier order began: a link that is up by now is not harmed by it. */
  connectFailed(legIndex: number, nowMs: number): void {
    if (this.#links[legIndex]?.state === "connecting") this.lost(legIndex, nowMs);
  }

  /** Something came from this leg. */
  heard(legIndex: number, nowMs: number): void {
    const link = this.#links[legIndex];
    if (link !== null) link.lastHeardMs = nowMs;
  }

  /** Calls `ping` for open links that are due, and `silent` for those from which nothing came for too long. */
  watch(nowMs: number, ping: (connection: number) => void, silent: (connection: number) => void): void {
    const sinceMs = nowMs - this.#watchedMs;
    this.#watchedMs = nowMs;
    for (const link of this.#links) {
      if (link === null) continue;
      if (sinceMs > STOPPED_MS) link.lastHeardMs = Math.min(nowMs, link.lastHeardMs + sinceMs);
      // Nobody may be there to refuse. Should it connect after all while another attempt is made, that is as good.
      if (link.state === "connecting" && nowMs - link.lastHeardMs > SILENCE_LIMIT_MS) this.#down(link, nowMs);
      if (link.connection < 0) continue;
      if (nowMs - link.lastHeardMs > SILENCE_LIMIT_MS) silent(link.connection);
      else if (nowMs - link.lastPingMs >= PING_MS) {
        link.lastPingMs = nowMs;
        ping(link.connection);
      }
    }
  }

  /** How long it may take until a leg has been looked for at all of its addresses once, in ms. */
  roundMs(legIndex: number): number {
    return (this.#links[legIndex]?.addresses.length ?? 0) * ATTEMPT_MS;
  }

  greeted(legIndex: number): void {
    const link = this.#links[legIndex];
    if (link?.state !== "greeting") return;
    link.state = "up";
    link.backoffMs = FIRST_BACKOFF_MS;
  }

  lost(legIndex: number, nowMs: number): void {
    const link = this.#links[legIndex];
    if (link !== null) this.#down(link, nowMs);
  }

  #down(link: Link, nowMs: number): void {
    link.state = "down";
    link.connection = -1;
    link.turn = (link.turn + 1) % link.addresses.length;
    link.retryAtMs = nowMs + link.backoffMs;
    link.backoffMs = Math.min(MOST_BACKOFF_MS, link.backoffMs * 2);
  }

  isUp(legIndex: number): boolean {
    return this.#links[legIndex]?.state === "up";
  }

  connectionOf(legIndex: number): number {
    return this.#links[legIndex]?.connection ?? -1;
  }

  /** The leg at the other end of `connection`, or -1. */
  indexOf(connection: number): number {
    return this.#links.findIndex((link) => link !== null && link.connection === connection && connection >= 0);
  }

  /** Forgets all links; `close` is called for each open one. */
  closeAll(close: (connection: number) => void): void {
    for (let index = 0; index < MAX_LEGS; index++) {
      const link = this.#links[index];
      if (link !== null && link.connection >= 0) close(link.connection);
      this.#links[index] = null;
    }
  }
}
