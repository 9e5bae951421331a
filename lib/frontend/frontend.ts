/**
 * The frontend contract: how requests of an application reach the client core.
 *
 * A frontend splits what an application asks into requests of a size that the pool can take, gives each a slot where
 * data is involved, and hands it to the host. The host answers each exactly once with `complete`.
 *
 * @module
 */

/** Most bytes of one data-carrying request of any pool. */
export const MAX_REQUEST_BYTES = 1 << 20;

export { RequestFlag, RequestKind } from "../core/request_kind.ts";

/** What a frontend tells an application about the pool. */
export interface PoolGeometry {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly readOnly: boolean;
  /** Most bytes of one data-carrying request; {@link MAX_REQUEST_BYTES} at most. Larger ones are split by the frontend. */
  readonly maxPayloadBytes: number;
  /** Most bytes of one zeroing or discarding request; larger ones are split by the frontend. */
  readonly maxRangeBytes: number;
}

/** The client node, as a frontend sees it. */
export interface FrontendHost {
  readonly geometry: PoolGeometry;
  /** Whether another request may be submitted now. When false the frontend waits for `onReady`. */
  readonly canSubmit: boolean;
  /**
   * Submits a request. `tag` (u32, the frontend's) comes back in `complete`. For READ the slot is where the data shall be
   * put; for WRITE it holds the data and must stay untouched until completion; otherwise -1. The frontend owns the slots.
   */
  submit(kind: number, flags: number, offset: number, lengthBytes: number, slot: number, tag: number): void;
}

/** A frontend, as the client node sees it. */
export interface Frontend {
  /** The request is done: `status` is 0 or a negative errno. Called exactly once per submitted request. */
  complete(tag: number, status: number): void;
  /** `canSubmit` turned true again, or pool memory was freed. */
  onReady(): void;
  /** Once a turn: queued answers leave. */
  flushSends(): void;
  /** No new connections; ends when the last request was answered. */
  stop(): void;
  /** The URI an application uses ("nbd+unix:///vol1?socket=/run/vol1.sock"). */
  readonly uri: string;
  /** Connections open now; a block device is one. */
  readonly connectionCount: number;
  /** False until applications can use it; left out by frontends that are ready from the start. */
  readonly isReady?: boolean;
  /** Why it will never be ready; null or left out when nothing is wrong. */
  readonly failure?: string | null;
  /** Whether its applications are those of a former process. */
  readonly isTakenOver?: boolean;
  /** Whether the kernel is taking it away, which it does not bring to an end without this process. */
  readonly isEnding?: boolean;
  /** The pool is let go of: what waits for it, and what still comes, fails. Left out by frontends that end by themselves. */
  failAll?(): void;
  /** When `flushSends` wants to be called at the latest; left out by frontends without timers. */
  readonly deadlineMs?: number;
}
