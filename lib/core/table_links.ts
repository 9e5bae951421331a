/**
 * Keeps a client's links in step with the leg table: one link to each leg of it.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../disk_format/records.ts";
import { type ClientContext, type LegLink, newLink } from "./client_context.ts";
import { movePaths } from "./link_paths.ts";

/** Links for legs that have come into the table; those of legs that have left it end. `close` is called for open ones. */
export function followTable(
  pool: ClientContext,
  record: SharedEpoch,
  close: (link: LegLink, reason: string) => void,
): void {
  for (let index = 0; index < pool.links.length; index++) {
    const entry = record.legs[index] ?? null;
    const link = pool.links[index];
    if (entry === null) {
      if (link === null) continue;
      if (link.connection >= 0) close(link, "it is not in the leg table any more");
      pool.links[index] = null;
    } else if (link === null) pool.links[index] = newLink(index, entry.address);
    else link.legUuid = entry.uuid;
  }
}

/**
 * While the pool is being assembled: legs may know of others that we were not told of, because the table changed since. The newest
 * record among those that have greeted says where to look. No link ends here: what is newest may yet change.
 */
export function learnLegs(pool: ClientContext, close: (link: LegLink, reason: string) => void): void {
  let newest: SharedEpoch | null = null;
  for (const link of pool.links) {
    if (link === null || link.isRival) continue;
    const shared = link.welcome?.record?.shared as SharedEpoch | undefined;
    if (shared !== undefined && (newest === null || compareRank(shared, newest) > 0)) newest = shared;
  }
  newest?.legs.forEach((entry, index) => {
    if (entry === null) return;
    const link = pool.links[index];
    if (link === null) pool.links[index] = newLink(index, entry.address);
    else if (link.address !== entry.address) {
      movePaths(link, entry.address);
      if (link.connection >= 0) close(link, `the leg table has moved on: leg ${index} is at ${entry.address}`);
      link.hasFailed = false; // it has not been tried at its new place
    }
  });
}
