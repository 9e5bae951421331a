/**
 * What is sent again to a leg that is reached by another path: all that it has not answered, writes in the order of their sequences, so that
 * it has seen all before n when it has seen n. Doing a write again is harmless where it was done: it is not complete, so nothing of the
 * client's that overlaps it has begun since. A write that the leg still has under way is not sent again, for then its answer would come while
 * the leg has it once more. And none has failed with the answer lost, after which others might hold what was there before: a leg whose disk
 * has failed anything does not take its client back (leg_session.ts handleReturn).
 *
 * A JOIN may have been lost with the connection. It goes out again between the writes that were sent before it and those after it.
 *
 * @module
 */

import { MessageFlag } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { isWriteKind, sendFlushTo, sendHashTo, sendWriteTo } from "./request_frames.ts";
import { RequestKind } from "./request_kind.ts";
import { RequestState, type RequestTable } from "./request_table.ts";
import { sendJoin } from "./resync_orders.ts";

/** See the module comment. `underWay`: sequences of writes that the leg has under way. */
export function resend(
  pool: ClientContext,
  requests: RequestTable,
  link: LegLink,
  underWay: readonly number[],
): void {
  const bit = 1 << link.legIndex;
  const writes: number[] = [];
  const others: number[] = [];
  for (let request = 0; request < requests.capacity; request++) {
    if (requests.state[request] !== RequestState.ACTIVE || (requests.waitMask[request] & bit) === 0) continue;
    (isWriteKind(requests.kind[request]) ? writes : others).push(request);
  }
  writes.sort((a, b) => requests.sequence[a] - requests.sequence[b]);
  const skipped = new Set(underWay);
  const joining = pool.links.filter((each) => each !== null && each !== link && each.resyncSession !== 0)
    .filter((each) => (pool.activeMask & ~pool.failedMask & (1 << each!.legIndex)) !== 0) as LegLink[];
  joining.sort((a, b) => a.admittedAfter - b.admittedAfter);
  for (const request of writes) {
    const sequence = requests.sequence[request];
    while (joining.length > 0 && joining[0].admittedAfter < sequence) sendJoin(pool, link, joining.shift()!);
    if (!skipped.has(sequence)) sendWriteTo(pool, requests, request, link, MessageFlag.AGAIN);
  }
  for (const each of joining) sendJoin(pool, link, each);
  for (const request of others) {
    if (requests.kind[request] === RequestKind.FLUSH) sendFlushTo(pool, requests, request, link);
    else sendHashTo(pool, requests, request, link);
  }
}
