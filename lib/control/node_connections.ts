/**
 * The storage nodes that one command talks to: each address is dialled once, and again when its connection
 * was closed; failures are remembered and reported, and
 * everything is closed together.
 *
 * @module
 */

import { type ControlClient, ControlError, type NodeOperations } from "./control_api.ts";
import { canonicalNodeAddress } from "./node_address.ts";

/** Opens a connection to a node; `connectNode` in production, a fake in tests. */
export type DialNode = (address: string) => Promise<ControlClient<NodeOperations>>;

/** A node that could not be asked, and why. */
export interface NodeFailure {
  readonly address: string;
  readonly message: string;
}

/** Connections by address. */
export class NodeConnections {
  readonly #dial: DialNode;
  readonly #clients = new Map<string, Promise<ControlClient<NodeOperations>>>();
  readonly #failures = new Map<string, ControlError>();

  constructor(dial: DialNode) {
    this.#dial = dial;
  }

  /**
   * The node at `address`; dialled again when its connection has been closed meanwhile, as it is after an answer that was too late.
   * Throws what dialling it threw, the second time without dialling again.
   */
  async get(address: string): Promise<ControlClient<NodeOperations>> {
    const key = canonicalNodeAddress(address);
    for (;;) {
      const known = this.#clients.get(key);
      const client = await (known ?? this.#dialAnew(key));
      if (!client.isClosed) return client;
      // Unless somebody else has done so while we waited.
      if (this.#clients.get(key) === known) this.#clients.delete(key);
    }
  }

  #dialAnew(key: string): Promise<ControlClient<NodeOperations>> {
    const client = this.#dial(key);
    this.#clients.set(key, client);
    // The caller sees the rejection too; this branch only takes note of it.
    client.catch((error) => this.#failures.set(key, asControlError(error)));
    return client;
  }

  /** Asks the node at `address` with `ask`; null, and a failure noted, when it cannot be reached or does not answer. */
  async tryAsk<T>(address: string, ask: (client: ControlClient<NodeOperations>) => Promise<T>): Promise<T | null> {
    const key = canonicalNodeAddress(address);
    try {
      return await ask(await this.get(key));
    } catch (error) {
      const failure = asControlError(error);
      if (failure.code !== "unreachable" && failure.code !== "timeout" && failure.code !== "refused") throw failure;
      this.#failures.set(key, failure);
      return null;
    }
  }

  /** Nodes that could not be asked so far, by address. */
  get failures(): NodeFailure[] {
    return [...this.#failures].map(([address, error]) => ({ address, message: error.message }))
      .sort((a, b) => a.address < b.address ? -1 : 1);
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    for (const settled of await Promise.allSettled(this.#clients.values())) {
      if (settled.status === "fulfilled") settled.value.close();
    }
    this.#clients.clear();
  }
}

/** `error` as it is when it is a ControlError; anything else is a bug of ours and becomes "internal". */
function asControlError(error: unknown): ControlError {
  if (error instanceof ControlError) return error;
  return new ControlError("internal", error instanceof Error ? error.message : String(error));
}

/** What a node does for a command; what it refuses is told with where that was. */
export async function doneBy<T>(address: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof ControlError) || error.message.includes(address)) throw error;
    throw new ControlError(error.code, `On ${address}: ${error.message}`);
  }
}
