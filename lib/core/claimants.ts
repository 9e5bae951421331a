/**
 * Who gives way to whom at a leg.
 *
 * @module
 */

import type { Claim } from "../wire/bodies.ts";
import type { Session } from "./leg_context.ts";

/** What kind of claimant it is. */
export function claimantOf(claim: Claim): { readonly isCaretaker: boolean; readonly isOrdered: boolean } {
  const isCaretaker = claim.caretaker === true;
  return { isCaretaker, isOrdered: isCaretaker && claim.ordered === true };
}

/** A claim ends the session of whoever has less of it: a caretaker, one that an operator has given orders, a client. */
export function rightOf(
  { isCaretaker, isOrdered }: { readonly isCaretaker: boolean; readonly isOrdered: boolean },
): number {
  return isCaretaker ? Number(isOrdered) : 2;
}

/** Why a claim is refused while the session is in force. */
export function heldText({ clientName, isCaretaker, isOrdered }: Session): string {
  if (isOrdered) return `${clientName} is carrying out an operator's command on the pool; try again when it is done`;
  if (isCaretaker) return `${clientName} is making the legs of the pool equal`;
  return `The pool is attached by ${clientName}; detach it there, or attach with --takeover`;
}
