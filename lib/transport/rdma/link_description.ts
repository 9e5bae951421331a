/**
 * A link as people are shown it.
 *
 * @module
 */

/** What status shows of a link. */
export interface LinkDescription {
  readonly device: string;
  readonly gid: string;
  readonly mtuBytes: number;
  /** "local address -> peer's address". */
  readonly path: string;
  /** Bytes registered for this connection: the pool to send from, and the landing. */
  readonly registeredBytes: number;
}
