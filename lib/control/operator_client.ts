/**
 * Speaks to the operator's session of a storage node as to a client node: what a command changes of a pool that nobody has attached.
 *
 * @module
 */

import { type ClientOperations, type ControlClient, ControlError, type NodeOperations } from "./control_api.ts";
import type { NodeConnections } from "./node_connections.ts";
import type { FoundPool } from "./pool_lookup.ts";

/** A session at a node. `end` lets it go. */
export interface OperatorClient extends ControlClient<ClientOperations> {
  /** Lets the pool go, unless other operators still use the session. No error when it is over already. */
  end(): Promise<void>;
}

/**
 * Begins a session at a node of the pool: at the one where one runs already, else at the first that can have the pool.
 * @throws {ControlError} "in-use" when a client has it attached; what the first node said, when none can have it
 */
export async function beginOperator(pool: FoundPool, nodes: NodeConnections): Promise<OperatorClient> {
  if (pool.heldBy !== null) {
    throw new ControlError(
      "in-use",
      `Pool "${pool.poolName}" is attached by ${pool.heldBy}. Run this command on that machine: the client that has a pool ` +
        `carries it out.`,
    );
  }
  let failure: ControlError | null = null;
  for (const address of addressesOf(pool)) {
    try {
      const node = await nodes.get(address);
      const { holder } = await node.request("operator.begin", { pool: pool.poolUuid });
      return new SessionClient(node, pool.poolUuid, holder);
    } catch (error) {
      if (!(error instanceof ControlError) || error.code === "internal") throw error;
      failure ??= error;
    }
  }
  throw failure ?? new ControlError("unreachable", `No storage node of pool "${pool.poolName}" can be reached.`);
}

/** Nodes that have a leg of the pool, in order of preference. */
function addressesOf(pool: FoundPool): string[] {
  const legs = pool.legs.filter((leg) => leg.status !== null);
  legs.sort((a, b) => Number(b.isInSyncMember) - Number(a.isInSyncMember));
  return [...new Set([...pool.operatorAt === null ? [] : [pool.operatorAt], ...legs.map((leg) => leg.address)])];
}

class SessionClient implements OperatorClient {
  readonly #node: ControlClient<NodeOperations>;
  readonly #pool: string;
  readonly #holder: number;

  constructor(node: ControlClient<NodeOperations>, pool: string, holder: number) {
    this.#node = node;
    this.#pool = pool;
    this.#holder = holder;
  }

  // deno-lint-ignore no-explicit-any -- the interface types the results; here they are what the node answered
  request(operation: keyof ClientOperations, request: unknown): Promise<any> {
    return this.#node.request("operator.ask", { pool: this.#pool, holder: this.#holder, operation, request });
  }

  async end(): Promise<void> {
    try {
      await this.request("client.detach", {});
    } catch (error) {
      // It is over already: a client has taken the pool, or the node is gone. Then there is nothing to let go of.
      if (!(error instanceof ControlError) || error.code === "internal") throw error;
    }
  }

  get isClosed(): boolean {
    return this.#node.isClosed;
  }

  /** The connection belongs to the command's NodeConnections. */
  close(): void {}
}
