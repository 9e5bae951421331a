/**
 * What a completion's status means to a connection.
 *
 * @module
 */

import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { CloseReason } from "../close_reason.ts";

/** The errno that says best what a completion's status means. */
export function reasonOf(status: number): number {
  switch (status) {
    case VERBS_LAYOUT.IBV_WC_RETRY_EXC_ERR:
      return CloseReason.TIMED_OUT;
    case VERBS_LAYOUT.IBV_WC_RNR_RETRY_EXC_ERR:
      return CloseReason.QUEUE_FULL;
    case VERBS_LAYOUT.IBV_WC_REM_INV_REQ_ERR:
    case VERBS_LAYOUT.IBV_WC_REM_ACCESS_ERR:
    case VERBS_LAYOUT.IBV_WC_REM_OP_ERR:
      return CloseReason.PROTOCOL;
    default:
      return CloseReason.IO_ERROR;
  }
}
