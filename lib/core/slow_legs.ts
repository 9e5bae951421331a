/**
 * Which legs keep requests for too long.
 *
 * @module
 */

import { RequestState, type RequestTable } from "./request_table.ts";

/** The legs that have not answered a request sent before `sinceMs`, as a mask. */
export function slowLegs(requests: RequestTable, sinceMs: number): number {
  let mask = 0;
  for (let request = 0; request < requests.capacity; request++) {
    if (requests.state[request] !== RequestState.ACTIVE || requests.issuedMs[request] >= sinceMs) continue;
    mask |= requests.waitMask[request];
    if (requests.readLeg[request] >= 0) mask |= 1 << requests.readLeg[request];
  }
  return mask;
}
