/**
 * What the legs that a reader is connected to agree on: the view that all members of the newest record share.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../disk_format/records.ts";
import type { Welcome } from "../wire/bodies.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { LegLinks } from "./leg_links.ts";
import { giveUpOverdue } from "./link_paths.ts";
import { OutputKind } from "./output.ts";
import type { RequestTable } from "./request_table.ts";
import { LEG_TIMEOUT_MS, slowLegs } from "./slow_legs.ts";
import { indicesOf } from "./start_rule.ts";
import { followTable, learnLegs } from "./table_links.ts";

/** Legs that do not agree which record is the newest are asked again after so long: they do not say so unasked. */
const REGREET_MS = 500;

/** The record that all its members had when they greeted. */
export interface ReaderView {
  readonly shared: SharedEpoch;
  readonly memberMask: number;
}

/** The links of one reader. */
export class ReaderLinks {
  /** What the members agree on; null when they do not, or one is out of reach. */
  view: ReaderView | null = null;
  /** How long the pool lets I/O wait for legs, as the last view said. */
  ioTimeoutMs = 30_000;
  /** Why there is no view. */
  reason = "No leg of the pool is reachable";
  readonly #pool: ClientContext;
  readonly #links: LegLinks;
  /** Legs whose last connection has not ended yet; they are not connected to anew before. */
  #closingMask = 0;
  #greetedAtMs: number;

  constructor(pool: ClientContext) {
    this.#pool = pool;
    this.#links = new LegLinks(pool, "reader");
    this.#greetedAtMs = pool.nowMs;
  }

  /** The open link of a connection. */
  find(connection: number): LegLink | null {
    return this.#links.find(connection);
  }

  connect(): void {
    this.#links.connect(this.#closingMask);
  }

  /** A connection that was asked for is there. `isWanted`: false when the reader is at its end. */
  connected(legIndex: number, connection: number, attempt: number | undefined, isWanted: boolean): void {
    this.#links.connected(legIndex, connection, attempt, isWanted);
  }

  connectFailed(legIndex: number, attempt: number | undefined): void {
    const link = this.#links.attempted(legIndex, attempt);
    if (link === null) return;
    this.#links.down(link);
    this.look();
    this.connect();
  }

  /** A connection has ended. Returns the leg it was to, or -1. */
  closed(connection: number): number {
    const link = this.#links.ended(connection);
    if (link === null) return -1;
    if (link.connection === connection) this.#links.down(link);
    this.#closingMask &= ~(1 << link.legIndex);
    this.look();
    return link.legIndex;
  }

  /** WELCOME. */
  welcome(link: LegLink, welcome: Welcome): void {
    if (link.state !== "greeting") return;
    if (!this.#links.welcomed(link, welcome)) return this.close(link, link.lastRefusal);
    this.#links.taken(link);
    this.#greetedAtMs = this.#pool.nowMs;
    learnLegs(this.#pool, (each, reason) => this.close(each, reason));
    this.look();
    this.connect();
  }

  close(link: LegLink, reason: string): void {
    if (link.connection < 0) return;
    const text = `The connection to leg ${link.legIndex} is closed: ${reason}`;
    this.#pool.event("info", "link-closed", text, link.legIndex);
    this.#close(link);
    this.look();
  }

  /** A leg that keeps a request for too long is left: what was asked of it is over, and may be tried again. */
  closeSlow(requests: RequestTable): void {
    const { nowMs, links, options } = this.#pool;
    const limitMs = options.legTimeoutMs ?? LEG_TIMEOUT_MS;
    for (const index of indicesOf(slowLegs(requests, nowMs - limitMs))) {
      this.close(links[index] as LegLink, `it has not answered for ${limitMs} ms`);
    }
  }

  /** All legs are to tell their records anew. */
  regreet(): void {
    const pool = this.#pool;
    this.#greetedAtMs = pool.nowMs;
    for (const link of pool.links) {
      if (link === null || link.connection < 0) continue;
      this.#close(link);
      this.#links.hasten(link);
    }
    this.look();
  }

  /** Time passes. `stoppedMs`: how long this process was stopped, which says nothing about the legs. */
  tick(stoppedMs: number): void {
    const pool = this.#pool;
    const { nowMs, heartbeatLimitMs } = pool;
    for (const link of pool.links) {
      if (link === null) continue;
      if (giveUpOverdue(pool, link)) {
        this.#links.down(link);
        this.look();
      }
      if (link.connection >= 0 && this.#links.isSilent(link, stoppedMs)) {
        this.close(link, `it has been silent for ${heartbeatLimitMs} ms`);
      }
    }
    if (this.view === null && nowMs - this.#greetedAtMs >= REGREET_MS) this.regreet();
    this.connect();
  }

  /** Looks at what the legs have told: a view needs every member of the newest record, with just that record. */
  look(): void {
    this.view = null;
    const greeted = this.#pool.links.filter((link) => link?.state === "greeted") as LegLink[];
    let newest: SharedEpoch | null = null;
    for (const { welcome } of greeted) {
      const shared = welcome?.record?.shared as SharedEpoch | undefined;
      if (shared !== undefined && (newest === null || compareRank(shared, newest) > 0)) newest = shared;
    }
    if (newest === null) {
      this.reason = "No leg of the pool is reachable";
      return;
    }
    let missing = newest.inSyncMask;
    for (const { legIndex, legUuid, welcome } of greeted) {
      const own = welcome?.record?.shared as SharedEpoch | undefined;
      if (own === undefined || legUuid !== newest.legs[legIndex]?.uuid || own.historyId !== newest.historyId) continue;
      if (compareRank(own, newest) === 0) missing &= ~(1 << legIndex);
    }
    if (missing !== 0) {
      const { legs, epoch } = newest;
      const names = indicesOf(missing).map((index) => `leg ${index} (${legs[index]?.address ?? "unknown"})`);
      this.reason = `${names.join(" and ")} must be reachable, with the record of epoch ${epoch} that others have`;
      return;
    }
    this.view = { shared: newest, memberMask: newest.inSyncMask };
    this.ioTimeoutMs = newest.ioTimeoutMs;
    followTable(this.#pool, newest, (link) => this.#close(link));
  }

  #close(link: LegLink): void {
    this.#pool.outputs.push(OutputKind.CLOSE).connection = link.connection;
    this.#closingMask |= 1 << link.legIndex;
    this.#links.down(link);
  }
}
