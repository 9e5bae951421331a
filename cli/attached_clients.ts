/**
 * The clients that run on this machine, found by their control sockets.
 *
 * @module
 */

import { connectClient } from "../lib/control/client_control_client.ts";
import { ControlError } from "../lib/control/control_api.ts";
import { listClientSockets, runtimeDir } from "../lib/control/runtime_dir.ts";
import type { AttachedClient } from "./render_status.ts";

/** A client answers from memory. */
const STATUS_TIMEOUT_MS = 3_000;

/** The client that has `pool` attached here; null when none has. */
export async function attachedClient(pool: string): Promise<AttachedClient | null> {
  try {
    const client = await connectClient(pool, { runtimeDir: runtimeDir(), timeoutMs: STATUS_TIMEOUT_MS });
    try {
      return await client.request("client.status", {});
    } finally {
      client.close();
    }
  } catch (error) {
    // Not attached here; or attached by another user, whose business it is. Both are ordinary.
    if (error instanceof ControlError && (error.code === "not-found" || error.code === "refused")) return null;
    throw error;
  }
}

/** All clients of this user, or of everybody for root. */
export async function attachedClients(): Promise<AttachedClient[]> {
  const names = await listClientSockets(runtimeDir());
  const clients = await Promise.all(names.map(attachedClient));
  return clients.filter((client) => client !== null);
}
