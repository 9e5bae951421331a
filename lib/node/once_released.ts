/**
 * Waiting for what the process before still holds.
 *
 * A process that was killed keeps its files and its listening sockets until the kernel is through with the I/O of its ring.
 * That is after the process is gone for all who look, and on a loaded machine it was seen to take three seconds.
 *
 * @module
 */

import { ControlError } from "../control/control_api.ts";

/** How long to wait. Whoever holds something for longer is not on his way out. */
export const RELEASE_LIMIT_MS = 10_000;
const RETRY_MS = 50;

/**
 * What `attempt` gives, which is made again while it fails with "in-use", until `untilMs` (of `performance.now()`).
 *
 * @param onHeld hears once, at the first of these failures, what it said
 */
export async function onceReleased<T>(
  attempt: () => Promise<T>,
  untilMs: number,
  onHeld: (message: string) => void,
): Promise<T> {
  for (let isFirst = true;; isFirst = false) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ControlError && error.code === "in-use") || performance.now() >= untilMs) throw error;
      if (isFirst) onHeld(error.message);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
