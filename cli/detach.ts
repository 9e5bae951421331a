/**
 * `brmr detach`: ends a running `brmr attach` on this machine.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { isUuid } from "../lib/base/uuid.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { attachedClients } from "./attached_clients.ts";
import { asDurationMs, type CommandHost } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { Terminal } from "./terminal.ts";

/** What `detach` is told. */
export interface DetachOptions {
  readonly pool: string;
  readonly timeout?: number;
}

/** Requests in flight may wait for a storage node as long as the pool's I/O timeout, 30 s by default. */
const DETACH_TIMEOUT_MS = 60_000;

/** Describes the subcommand. */
export function defineDetach(host: CommandHost) {
  return new Command("detach")
    .summary("end a running attach")
    .description(
      "Ends the brmr attach of a pool on this machine: closes the NBD socket, completes what is in flight, flushes " +
        "and releases the pool. Returns when that is done.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--timeout <duration>", "how long to wait (default: 60s)", asDurationMs)
    .addHelpText("after", "\nExample:\n  brmr detach vol1")
    .action((pool, options) => host.run((terminal) => runDetach({ ...options, pool }, terminal)));
}

/** Detaches the pool. */
export async function runDetach(options: DetachOptions, terminal: Terminal): Promise<ExitCode> {
  const timeoutMs = options.timeout ?? DETACH_TIMEOUT_MS;
  const poolName = await poolNameOf(options.pool, terminal);
  const client = await connectClient(poolName, { runtimeDir: runtimeDir(), timeoutMs });
  try {
    await client.request("client.detach", {});
  } finally {
    client.close();
  }
  terminal.out(`${poolName} is detached\n`);
  return ExitCode.OK;
}

/** Control sockets go by name; a UUID is looked up among the clients that run here. */
async function poolNameOf(pool: string, terminal: Terminal): Promise<string> {
  if (!isUuid(pool)) return pool;
  const clients = await attachedClients((text) => terminal.err(text));
  return clients.find((client) => client.snapshot.poolUuid === pool)?.snapshot.poolName ?? pool;
}
