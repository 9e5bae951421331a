/**
 * The pool that a command changes: whoever serves it, and its nodes. That is the client that has it attached on this machine or, when nobody
 * has it attached, a storage node of the pool, which takes it for as long as the command needs.
 *
 * @module
 */

import { isUuid } from "../lib/base/uuid.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import { type ClientOperations, type ControlClient, ControlError } from "../lib/control/control_api.ts";
import type { ServedPool } from "../lib/control/leg_changes.ts";
import { beginOperator } from "../lib/control/operator_client.ts";
import { findPool, type FoundPool } from "../lib/control/pool_lookup.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { attachedClients } from "./attached_clients.ts";
import { chooseNodes, type NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

/** A record waits for every in-sync leg to have it on disk, and gives up after 20 s. */
const CHANGE_TIMEOUT_MS = 40_000;

/**
 * Runs `work` with whoever serves `pool`.
 * @throws {ControlError} "in-use" when a client on another machine has it, "not-found" when it is not attached here and no storage node
 *   is named, what the nodes say when they cannot have it
 */
export async function withServedPool<T>(
  pool: string,
  choice: NodeChoice,
  terminal: Terminal,
  work: (served: ServedPool) => Promise<T>,
): Promise<T> {
  const attached = await clientHere(pool, choice, terminal);
  if (attached !== null) {
    const { client } = attached;
    try {
      const status = await client.request("client.status", {});
      return await withNodesAt(nodesToAsk(choice, [status]), async (nodes, addresses) => {
        return await work({ client, pool: await findPool(status.snapshot.poolUuid, addresses, nodes), nodes });
      });
    } finally {
      client.close();
    }
  }
  return await withNodesAt(chooseNodes(choice), async (nodes, addresses) => {
    const found = await findPool(pool, addresses, nodes);
    const operator = await beginOperator(found, nodes);
    try {
      return await work({ client: operator, pool: found, nodes });
    } finally {
      await operator.end();
    }
  });
}

/**
 * The client that has `pool` attached on this machine; null when none has, and storage nodes are named that may know more.
 * @throws {ControlError} "refused" when it belongs to another user, "not-found" when there is nobody else to ask
 */
export async function clientHere(
  pool: string,
  choice: NodeChoice,
  terminal: Terminal,
): Promise<{ readonly client: ControlClient<ClientOperations> } | null> {
  const name = await poolNameOf(pool, terminal);
  try {
    return { client: await connectClient(name, { runtimeDir: runtimeDir(), timeoutMs: CHANGE_TIMEOUT_MS }) };
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== "not-found") throw error;
    if (chooseNodes(choice).length > 0) return null;
    throw new ControlError(
      "not-found",
      `Pool "${name}" is not attached on this machine, and no storage node is named. Add --node HOST:PORT, set BRMR_NODES, ` +
        `or write a config file: while nobody has the pool attached, its storage nodes do it themselves.`,
    );
  }
}

/** Nodes to ask how the pool goes on: those named, else those of its legs. */
export function nodesOf(pool: FoundPool, choice: NodeChoice): string[] {
  const chosen = chooseNodes(choice);
  return chosen.length > 0 ? chosen : [...new Set(pool.legs.map((leg) => leg.address))];
}

/** Control sockets go by name; a UUID is looked up among the clients that run here. */
async function poolNameOf(pool: string, terminal: Terminal): Promise<string> {
  if (!isUuid(pool)) return pool;
  const clients = await attachedClients((text) => terminal.err(text));
  return clients.find((client) => client.snapshot.poolUuid === pool)?.snapshot.poolName ?? pool;
}
