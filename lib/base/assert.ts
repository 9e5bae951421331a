/**
 * Assertions: always on, for bugs only. Facts of the world (a failed disk, a peer's bytes) never come here.
 *
 * @module
 */

/** Thrown when the program contradicts itself. */
export class AssertionFailure extends Error {
  override name = "AssertionFailure";
}

/** Throws unless `condition`. `claim` says what should hold; `values` are shown. */
export function assert(condition: boolean, claim: string, ...values: unknown[]): asserts condition {
  if (!condition) throw new AssertionFailure(values.length === 0 ? claim : `${claim} (got ${values.join(", ")})`);
}

/** For branches that cannot be reached. */
export function unreachable(what: string): never {
  throw new AssertionFailure(`Unreachable: ${what}`);
}
