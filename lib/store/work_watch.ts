/**
 * Looks after work on a device that may take long: how late it is, and whether the work is still wanted.
 *
 * @module
 */

/** Who asked for the work. */
export interface WorkWatch {
  /** A monotonic clock, milliseconds. */
  nowMs(): number;
  /** Called between two steps, of which none is longer than one call of the system; throws when the work is to end. */
  check(): void;
}

/** Work that nobody ends early. */
export const UNWATCHED: WorkWatch = { nowMs: () => performance.now(), check: () => undefined };
