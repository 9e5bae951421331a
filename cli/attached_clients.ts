/**
 * The clients that run on this machine, found by their control sockets.
 *
 * @module
 */

import { isUuid } from "../lib/base/uuid.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import { ControlError } from "../lib/control/control_api.ts";
import { listClientSockets, runtimeDir } from "../lib/control/runtime_dir.ts";
import type { AttachedClient } from "./render_status.ts";
import type { Terminal } from "./terminal.ts";

/** A client answers from memory. */
const STATUS_TIMEOUT_MS = 3_000;

/** Tells the user about a client that is there and does not answer. */
type Warn = (text: string) => void;

/** The client that has `pool` attached here; null when none has, or when it does not answer, which `warn` is told. */
export async function attachedClient(pool: string, warn: Warn): Promise<AttachedClient | null> {
  try {
    const client = await connectClient(pool, { runtimeDir: runtimeDir(), timeoutMs: STATUS_TIMEOUT_MS });
    try {
      return await client.request("client.status", {});
    } finally {
      client.close();
    }
  } catch (error) {
    if (!(error instanceof ControlError) || error.code === "internal") throw error;
    // Not attached here; or attached by another user, whose business it is. Both are ordinary.
    if (error.code !== "not-found" && error.code !== "refused") warn(`warning: ${error.message}\n`);
    return null;
  }
}

/** All clients of this user, or of everybody for root. */
export async function attachedClients(warn: Warn): Promise<AttachedClient[]> {
  const names = await listClientSockets(runtimeDir());
  const clients = await Promise.all(names.map((name) => attachedClient(name, warn)));
  return clients.filter((client) => client !== null);
}

/** Control sockets go by name: that of the client which has the pool with this UUID attached here; what is no UUID, or not here, is returned. */
export async function nameAttachedAs(pool: string, terminal: Terminal): Promise<string> {
  if (!isUuid(pool)) return pool;
  const clients = await attachedClients((text) => terminal.err(text));
  return clients.find((client) => client.snapshot.poolUuid === pool)?.snapshot.poolName ?? pool;
}
