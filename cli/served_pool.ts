/**
 * The pool that a command changes: whoever serves it, and its nodes. That is the client that has it attached on this machine or, when nobody
 * has it attached, a storage node of the pool, which takes it for as long as the command needs.
 *
 * @module
 */

import { connectClient } from "../lib/control/client_control_client.ts";
import { type ClientOperations, type ControlClient, ControlError } from "../lib/control/control_api.ts";
import type { ServedPool } from "../lib/control/leg_changes.ts";
import { beginOperator } from "../lib/control/operator_client.ts";
import { findPool } from "../lib/control/pool_lookup.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { nameAttachedAs } from "./attached_clients.ts";
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
  const { client, addresses, poolKey } = await attachedHere(pool, choice, terminal);
  try {
    return await withNodesAt(addresses, async (nodes) => {
      const found = await findPool(poolKey, addresses, nodes);
      if (client !== null) return await work({ client, pool: found, nodes });
      const operator = await beginOperator(found, nodes);
      try {
        return await work({ client: operator, pool: found, nodes });
      } finally {
        await operator.end();
      }
    });
  } finally {
    client?.close();
  }
}

/** Who may change a pool from this machine. */
export interface AttachedHere {
  /** The client that has it attached here for writing; null when none has: then its storage nodes may do it. */
  readonly client: ControlClient<ClientOperations> | null;
  /** Storage nodes to ask: those named, else those of the pool as it is attached here. */
  readonly addresses: readonly string[];
  /** What to call the pool when they are asked: its UUID, if it is attached here. */
  readonly poolKey: string;
}

/**
 * Looks who has `pool` attached on this machine.
 * @throws {ControlError} "refused" when another user has, "not-found" when nobody has and no storage node is named either
 */
export async function attachedHere(pool: string, choice: NodeChoice, terminal: Terminal): Promise<AttachedHere> {
  const name = await nameAttachedAs(pool, terminal);
  let client: ControlClient<ClientOperations>;
  try {
    client = await connectClient(name, { runtimeDir: runtimeDir(), timeoutMs: CHANGE_TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== "not-found") throw error;
    const addresses = chooseNodes(choice);
    if (addresses.length > 0) return { client: null, addresses, poolKey: pool };
    throw new ControlError(
      "not-found",
      `Pool "${name}" is not attached on this machine, and no storage node is named. Add --node HOST:PORT, set BRMR_NODES, ` +
        `or write a config file: while nobody has the pool attached, its storage nodes do it themselves.`,
    );
  }
  try {
    const status = await client.request("client.status", {});
    const addresses = nodesToAsk(choice, [status]);
    const poolKey = status.snapshot.poolUuid;
    if (status.snapshot.isReadOnly !== true) return { client, addresses, poolKey };
    client.close();
    return { client: null, addresses, poolKey };
  } catch (error) {
    client.close();
    throw error;
  }
}
