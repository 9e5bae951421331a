/**
 * What a storage node knows of each of its connections: whose it is, and what may come over it.
 *
 * @module
 */

import { ConnectionKeys } from "./connection_keys.ts";
import type { LegDriver } from "./leg_driver.ts";

/** What a connection is for. */
export const ConnectionRole = {
  /** No such connection. */
  NONE: 0,
  /** Accepted; its HELLO has not come. */
  STRANGER: 1,
  /** A client or a peer of `driver`. */
  LEG: 2,
  /** An operator. */
  CONTROL: 3,
  /** Ours, to leg `legIndex` of `driver`'s pool; not up yet. */
  CONNECTING: 4,
  /** Ours, of the caretaker of `driver`, whose tag is kept as `legIndex`; not up yet. */
  CARETAKER_CONNECTING: 5,
  /** The same, up. */
  CARETAKER: 6,
  /** Ours, of the operator's session at `driver`, to leg `legIndex`; not up yet. */
  OPERATOR_CONNECTING: 7,
  /** The same, up. */
  OPERATOR: 8,
} as const;

/** Entries by connection number; each holder of a number has a key of its own. */
export class ConnectionTable {
  readonly #roles: number[] = [];
  readonly #drivers: (LegDriver | null)[] = [];
  readonly #legIndices: number[] = [];
  readonly keys = new ConnectionKeys();
  readonly #sinceMs: number[] = [];
  readonly #placedSlots: number[] = [];
  readonly #pendingCounts: number[] = [];
  /** Connections that have not said who they are. */
  strangerCount = 0;

  /** Makes an entry. */
  open(connection: number, role: number, driver: LegDriver | null, legIndex: number, nowMs: number): void {
    while (this.#roles.length <= connection) {
      this.#roles.push(ConnectionRole.NONE);
      this.#drivers.push(null);
      this.#legIndices.push(-1);
      this.#sinceMs.push(0);
      this.#placedSlots.push(-1);
      this.#pendingCounts.push(0);
    }
    this.#roles[connection] = role;
    this.#drivers[connection] = driver;
    this.#legIndices[connection] = legIndex;
    this.keys.open(connection);
    this.#sinceMs[connection] = nowMs;
    this.#pendingCounts[connection] = 0;
    if (role === ConnectionRole.STRANGER) this.strangerCount++;
  }

  /** The connection has said what it is for. */
  become(connection: number, role: number, driver: LegDriver | null): void {
    if (this.#roles[connection] === ConnectionRole.STRANGER) this.strangerCount--;
    this.#roles[connection] = role;
    this.#drivers[connection] = driver;
  }

  /** Forgets the connection. */
  remove(connection: number): void {
    this.become(connection, ConnectionRole.NONE, null);
    this.keys.close(connection);
  }

  role(connection: number): number {
    return connection < this.#roles.length ? this.#roles[connection] : ConnectionRole.NONE;
  }

  driver(connection: number): LegDriver | null {
    return connection < this.#drivers.length ? this.#drivers[connection] : null;
  }

  legIndex(connection: number): number {
    return this.#legIndices[connection];
  }

  /** The slot that the payload under way is received into, -1 for none. */
  placedSlot(connection: number): number {
    return this.#placedSlots[connection];
  }

  setPlacedSlot(connection: number, slot: number): void {
    this.#placedSlots[connection] = slot;
  }

  /** An operator's requests that have not been answered. */
  pendingCount(connection: number): number {
    return this.#pendingCounts[connection];
  }

  addPending(connection: number, count: number): void {
    this.#pendingCounts[connection] += count;
  }

  sinceMs(connection: number): number {
    return this.#sinceMs[connection];
  }

  /** One more than the highest connection number seen. */
  get limit(): number {
    return this.#roles.length;
  }
}
