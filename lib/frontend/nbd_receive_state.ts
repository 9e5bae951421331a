/**
 * The states of the receiving side of a connection in transmission, and what it may wait for.
 *
 * ```text
 * HEADER ──write──▶ PLACE ──slot──▶ PAYLOAD ──whole──▶ SUBMIT ──taken──▶ PLACE (more to come) or HEADER
 *   │  ──refused write──▶ DRAIN ──drained──▶ HEADER
 *   │  ──anything else the host has to do──▶ SPLIT ──all parts taken──▶ HEADER
 *   └──goodbye, stop, broken framing──▶ ENDED (from every state)
 * ```
 *
 * @module
 */

/** What comes next on the receiving side. */
export const Receive = {
  /** A request's header. */
  HEADER: 0,
  /** Nothing before the current request has been split to its end. */
  SPLIT: 1,
  /** The payload of the current write's next part, which has no slot yet. */
  PLACE: 2,
  /** The payload of the current part is on its way into its slot. */
  PAYLOAD: 3,
  /** Nothing before the current part, which is whole, has been taken by the host. */
  SUBMIT: 4,
  /** Payload of a write that was refused. */
  DRAIN: 5,
  /** Nothing: what still comes is thrown away. */
  ENDED: 6,
} as const;

/** What the receiving side waits for: nothing, its own earlier requests, or its turn in one of the common lines. */
export const Wait = { NOTHING: 0, OWN: 1, LINE: 2, SUBMIT_LINE: 3 } as const;
