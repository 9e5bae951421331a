/**
 * A running node, as its owner holds it.
 *
 * @module
 */

/** A storage node or a client node that runs in this process. */
export interface NodeHandle {
  /** Asks the node to end in an orderly way; resolves when it has. The process is then to be ended with `Deno.exit`. */
  stop(): Promise<void>;
  /**
   * Resolves when the node has ended in an orderly way, rejects when it died: with a ControlError for what a
   * person can mend, with another Error for a bug.
   */
  readonly finished: Promise<void>;
}
