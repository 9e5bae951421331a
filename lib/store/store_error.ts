/**
 * What can go wrong when a backing device is opened, probed or formatted: facts that a person must act on. On the data
 * path there are no exceptions, only negative errnos.
 *
 * @module
 */

/** A closed set, a part of the control API's codes, so that a node can hand it on as it is. */
export type StoreErrorCode = "bad-request" | "not-found" | "in-use" | "device" | "foreign-data" | "refused";

/** Says what is wrong with which path, and what to do. */
export class StoreError extends Error {
  override name = "StoreError";
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
