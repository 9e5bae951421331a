/**
 * The exit codes of every command. Scripts rely on them: never renumber.
 *
 * @module
 */

import type { ControlErrorCode } from "../lib/control/control_api.ts";

/** What the process ends with. */
export const ExitCode = {
  /** Done; for `status` and `sync-status`: everything is in sync. */
  OK: 0,
  /** A bug of brmr's, or of something it stands on. */
  INTERNAL: 1,
  /** The command line is wrong. */
  USAGE: 2,
  /** What was named does not exist or does not answer. */
  NOT_FOUND: 3,
  /** Understood and refused: in use, exists already, carries data, not allowed. */
  REFUSED: 4,
  /** Answered in full, and the answer is that redundancy is lost or a leg cannot be reached. */
  DEGRADED: 5,
  /** verify: legs differ, or cannot be read in places. */
  DIFFERENT: 6,
  /** verify: they differed, and all of it is repaired. */
  REPAIRED: 7,
  /** Interrupted by a second signal. As shells write it: 128 + SIGINT. */
  INTERRUPTED: 130,
} as const;
export type ExitCode = typeof ExitCode[keyof typeof ExitCode];

/** The exit code that stands for `code`. */
export function exitCodeOf(code: ControlErrorCode): ExitCode {
  switch (code) {
    case "bad-request":
      return ExitCode.USAGE;
    case "not-found":
    case "unreachable":
    case "timeout":
      return ExitCode.NOT_FOUND;
    case "exists":
    case "in-use":
    case "device":
    case "foreign-data":
    case "refused":
      return ExitCode.REFUSED;
    case "internal":
      return ExitCode.INTERNAL;
  }
}

/** The codes as `--help` shows them. */
export const EXIT_CODE_HELP = `Exit codes:
  0  done; status: all legs in sync
  1  internal error
  2  wrong command line
  3  not found, or not reachable
  4  refused (in use, exists, carries data, not allowed)
  5  status, sync-status: answered, but not all legs are in sync and reachable;
     pool delete, leg remove, replace, resync, detach: done, but something is left to do
  6  verify: legs differ
  7  verify: legs differed and are repaired`;
