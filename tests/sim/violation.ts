/**
 * What a checker throws: a property of the system does not hold.
 *
 * @module
 */

/** The properties the simulator checks. */
export type Property =
  | "linearizable" // a read returned what no legal order of requests explains
  | "exactly-once" // a request completed twice, or never
  | "converges" // after the last fault the pool did not become whole in bounded time
  | "identical" // legs differ at rest
  | "slots" // a payload slot was leaked, freed twice or used after it was freed
  | "monotone" // a record or a generation went backwards, or two clients share a generation
  | "suspicion" // a completion came before the survivors durably knew what a missing leg lacks
  | "flushed" // a flush or FUA completed before its data was on stable storage
  | "applied" // a write completed that a leg of the in-sync set has not done
  | "histories" // a history that was started by force began with what its founders did not hold
  | "superseded" // a client lost the pool though no other came after it
  | "table" // a record that no change of the leg table may lead to
  | "verify" // in-sync legs were found to differ under the lock of a verify
  | "bounds" // more waits in a process than its limits allow
  | "served" // a frame of somebody without a claim was carried out
  | "assertion"; // the core contradicted itself

/** Thrown at the first violation; the world stops there. */
export class Violation extends Error {
  override name = "Violation";
  readonly property: Property;

  constructor(property: Property, message: string) {
    super(`${property}: ${message}`);
    this.property = property;
  }
}
