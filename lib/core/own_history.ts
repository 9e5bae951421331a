/**
 * The history that a client has served, and what others have made of the pool since: a leg that holds another history is left alone; a client
 * whose legs have gone on without it is over.
 *
 * @module
 */

import type { SharedEpoch } from "../disk_format/records.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { isRivalHistory } from "./forced_start.ts";

/** Why an attach is over that another has taken the pool from. */
export const SUPERSEDED_TEXT =
  "Another client has taken the pool over since; attach anew to go on from what it has written";

/** What one client has made of the pool. */
export class OwnHistory {
  readonly #pool: ClientContext;
  /** The newest record that we have made. */
  #newest: SharedEpoch | null = null;

  constructor(pool: ClientContext) {
    this.#pool = pool;
  }

  /** We have made a record. */
  made(shared: SharedEpoch): void {
    this.#newest = shared;
    this.#pool.lastServed.made = shared.generation;
  }

  /** Whether another client has served the pool, in our history, since we did: what we still hold must never be written over what it wrote. */
  isSupersededBy(record: SharedEpoch): boolean {
    const own = this.#served;
    return own !== null && record.clientGeneration > own.generation && !this.isOutlived(record);
  }

  /** Whether we have served a later history than this one: without a leg of ours we do not go on from the older. */
  isOutlived(record: SharedEpoch): boolean {
    return this.#served !== null && record.historyNumber < this.#served.historyNumber;
  }

  /** Whether `shared` is of a history that ours may not overwrite. */
  hasRival(shared: SharedEpoch): boolean {
    return this.#served !== null && isRivalHistory(shared, this.#served);
  }

  /**
   * A leg greets while the pool is assembled anew. If it holds another history it is left alone. Returns why the attach is over, if the leg
   * was in sync here: its writes have gone on there; else "".
   */
  greeted(link: LegLink): string {
    const own = this.#served;
    if (own === null || !isLeftAlone(this.#pool, link, own)) return "";
    const { legIndex, legUuid } = link;
    if ((own.inSyncMask & (1 << legIndex)) === 0 || own.legs[legIndex]?.uuid !== legUuid) return "";
    return `Leg ${legIndex} (${link.address}) has gone on in another history of the pool, started by force elsewhere. ` +
      `Attach anew to go on from that one, or with --force --without the legs whose writes are given up`;
  }

  /** {@link newest}, if we have served under it. */
  get #served(): SharedEpoch | null {
    return this.#pool.wasReady ? this.#newest : null;
  }
}

/** Whether a leg that greets holds a history that `latest` may not overwrite: it counts for nothing and is left alone. Says so, once a connection. */
export function isLeftAlone(pool: ClientContext, link: LegLink, latest: SharedEpoch): boolean {
  if (link.isRival) return true;
  if (!isRivalHistory(link.welcome?.record?.shared as SharedEpoch | undefined, latest)) return false;
  link.isRival = true;
  const text =
    `Leg ${link.legIndex} (${link.address}) holds another history of the pool, started by force; it is left alone. ` +
    `Detach, and attach with --force --without the leg whose writes are given up`;
  pool.event("error", "other-history", text, link.legIndex);
  return true;
}
