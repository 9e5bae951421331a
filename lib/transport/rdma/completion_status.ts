/**
 * What a failed request means to a connection.
 *
 * @module
 */

import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { CloseReason } from "../close_reason.ts";

/** Why a connection ends. */
export interface Failure {
  /** The errno that says it best. */
  readonly reason: number;
  /** For people. */
  readonly text: string;
}

/** What the status of a completion says: IBV_WC_*, not success. */
export function failureOf(status: number): Failure {
  switch (status) {
    case VERBS_LAYOUT.IBV_WC_RETRY_EXC_ERR:
      return { reason: CloseReason.TIMED_OUT, text: "the peer's device does not acknowledge what is sent" };
    case VERBS_LAYOUT.IBV_WC_RNR_RETRY_EXC_ERR:
      return { reason: CloseReason.QUEUE_FULL, text: "the peer has no room for a packet that it should have room for" };
    case VERBS_LAYOUT.IBV_WC_REM_INV_REQ_ERR:
    case VERBS_LAYOUT.IBV_WC_REM_ACCESS_ERR:
    case VERBS_LAYOUT.IBV_WC_REM_OP_ERR:
      return { reason: CloseReason.PROTOCOL, text: `the peer's device refuses a request (${status})` };
    default:
      return { reason: CloseReason.IO_ERROR, text: `a request failed (${status})` };
  }
}
