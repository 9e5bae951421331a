/**
 * `brmr status`: how pools stand, as storage nodes and the clients on this machine know.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { findAllPools, findPool, noNodes } from "../lib/control/pool_lookup.ts";
import { syncStatusOf } from "../lib/control/sync_status.ts";
import { attachedClient, attachedClients } from "./attached_clients.ts";
import { colorOption, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { EXIT_CODE_HELP, ExitCode } from "./exit_code.ts";
import { chooseNodes, type NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { painter } from "./paint.ts";
import { poolAsJson } from "./pool_show.ts";
import { type AttachedClient, renderLonelyClient, renderOverview, renderPoolStatus } from "./render_status.ts";
import type { Terminal } from "./terminal.ts";

/** What `status` is told. */
export interface StatusOptions extends NodeChoice {
  readonly pool?: string;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineStatus(host: CommandHost) {
  return new Command("status")
    .summary("how pools stand")
    .description(
      "Shows how one pool stands, or all of them: legs, what they lack, who has it attached. Without --node, the nodes " +
        "of the pools attached on this machine are asked.",
    )
    .argument("[pool]", "name or UUID of the pool; all pools if left out")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", `\nExample:\n  brmr status vol1 --node 127.0.0.1:7701\n\n${EXIT_CODE_HELP}`)
    .action((pool, options) => host.run((terminal) => runStatus({ ...options, pool }, terminal)));
}

/** Shows the status. Exit code DEGRADED when not all legs are in sync and reachable, or there is only one. */
export async function runStatus(options: StatusOptions, terminal: Terminal): Promise<ExitCode> {
  if (options.pool !== undefined) return await showOne(options.pool, options, terminal);
  const clients = await attachedClients((text) => terminal.err(text));
  const found = await withNodesAt(nodesToAsk(options, clients), (nodes, addresses) => findAllPools(addresses, nodes));
  if (options.json) {
    writeJson(terminal, {
      pools: found.pools.map((pool) => ({
        ...poolAsJson(pool),
        client: clients.find((client) => client.snapshot.poolUuid === pool.poolUuid) ?? null,
      })),
      broken: found.broken,
      unreachable: found.unreachable,
    });
  } else {
    terminal.out(renderOverview(found, clients, painter(terminal.hasColor)));
  }
  const isWhole = found.pools.every((pool) => syncStatusOf(pool).isRedundant) &&
    found.broken.length === 0 && found.unreachable.length === 0;
  return isWhole ? ExitCode.OK : ExitCode.DEGRADED;
}

async function showOne(name: string, options: StatusOptions, terminal: Terminal): Promise<ExitCode> {
  const byName = await attachedClient(name, (text) => terminal.err(text));
  const addresses = nodesToAsk(options, byName === null ? [] : [byName]);
  const pool = await withNodesAt(addresses, (nodes) => findPool(name, addresses, nodes)).catch((error) => {
    // Nobody can be asked about the legs, but for the client.
    if (byName !== null && !options.json) terminal.err(renderLonelyClient(byName));
    throw error;
  });
  // Sockets go by name: a UUID becomes one only now.
  const candidate = byName ??
    (pool.poolName === name ? null : await attachedClient(pool.poolName, (text) => terminal.err(text)));
  const client = candidate?.snapshot.poolUuid === pool.poolUuid ? candidate : null;
  const sync = syncStatusOf(pool);
  if (options.json) writeJson(terminal, { ...poolAsJson(pool), client });
  else terminal.out(renderPoolStatus(sync, client, painter(terminal.hasColor)));
  return sync.isRedundant ? ExitCode.OK : ExitCode.DEGRADED;
}

/** The nodes the user names, and else those of the pools attached here. */
export function nodesToAsk(choice: NodeChoice, clients: readonly AttachedClient[]): string[] {
  const chosen = chooseNodes(choice);
  if (chosen.length > 0) return chosen;
  const addresses = clients.flatMap((client) => client.snapshot.legs.map((leg) => leg.address));
  if (addresses.length > 0) return [...new Set(addresses)];
  throw noNodes();
}
