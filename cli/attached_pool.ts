/**
 * The pool that a command changes while it is in use: its client on this machine, and its nodes.
 *
 * @module
 */

import { isUuid } from "../lib/base/uuid.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import type { AttachedPool } from "../lib/control/leg_changes.ts";
import { findPool } from "../lib/control/pool_lookup.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { attachedClients } from "./attached_clients.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

/** A record waits for every in-sync leg to have it on disk, and gives up after 20 s. */
const CHANGE_TIMEOUT_MS = 40_000;

/**
 * Runs `work` with the client that has `pool` attached here.
 * @throws {ControlError} "not-found" when it is not attached on this machine: only its client may change its leg table
 */
export async function withAttachedPool<T>(
  pool: string,
  choice: NodeChoice,
  terminal: Terminal,
  work: (attached: AttachedPool) => Promise<T>,
): Promise<T> {
  const name = await poolNameOf(pool, terminal);
  const client = await connectClient(name, { runtimeDir: runtimeDir(), timeoutMs: CHANGE_TIMEOUT_MS });
  try {
    const status = await client.request("client.status", {});
    return await withNodesAt(nodesToAsk(choice, [status]), async (nodes, addresses) => {
      return await work({ client, pool: await findPool(status.snapshot.poolUuid, addresses, nodes), nodes });
    });
  } finally {
    client.close();
  }
}

/** Control sockets go by name; a UUID is looked up among the clients that run here. */
export async function poolNameOf(pool: string, terminal: Terminal): Promise<string> {
  if (!isUuid(pool)) return pool;
  const clients = await attachedClients((text) => terminal.err(text));
  return clients.find((client) => client.snapshot.poolUuid === pool)?.snapshot.poolName ?? pool;
}
