/**
 * `brmr metrics`: what `status` and `sync-status` know, as metrics for Prometheus.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { canonicalNodeAddress } from "../lib/control/node_address.ts";
import type { NodeConnections } from "../lib/control/node_connections.ts";
import { findAllPools, type FoundPools } from "../lib/control/pool_lookup.ts";
import { listClientSockets, runtimeDir } from "../lib/control/runtime_dir.ts";
import { VERSION } from "../lib/node/version.ts";
import { attachedClient } from "./attached_clients.ts";
import { type CommandHost, configOption, nodeOption } from "./command_host.ts";
import { EXIT_CODE_HELP, ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { renderMetrics } from "./render_metrics.ts";
import type { AttachedClient } from "./render_status.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

/** What `metrics` is told. */
export interface MetricsOptions extends NodeChoice {
  /** Name or UUID. */
  readonly pool?: string;
  /** File to write; standard output if left out. */
  readonly out?: string;
}

/** Describes the subcommand. */
export function defineMetrics(host: CommandHost) {
  return new Command("metrics")
    .summary("how pools stand, as metrics for Prometheus")
    .description(
      "Prints metrics of storage nodes, pools and legs, and of the clients on this machine, in Prometheus's text format. " +
        "With --out it writes a file, whole or not at all, for the textfile collector of node_exporter. One such file a " +
        "machine: two would tell of the same node twice, which the collector refuses. Ends with 0 once the metrics are " +
        "written, whatever they tell: a node that does not answer is brmr_node_up 0.",
    )
    .argument("[pool]", "name or UUID of the pool; all pools if left out")
    .option("--out <file>", "write this file instead of standard output")
    .addOption(nodeOption())
    .addOption(configOption())
    .addHelpText(
      "after",
      `\nExample:\n  brmr metrics --node 127.0.0.1:7701 --out /var/lib/prometheus/node-exporter/brmr.prom\n\n${EXIT_CODE_HELP}`,
    )
    .action((pool, options) => host.run((terminal) => runMetrics({ ...options, pool }, terminal)));
}

/**
 * Prints or writes the metrics.
 * @throws {ControlError} "bad-request" when no node is named and no pool attached here, "not-found" for a pool that none of the
 *   nodes has though all answer, "not-found" or "refused" when the file cannot be written.
 */
export async function runMetrics(options: MetricsOptions, terminal: Terminal): Promise<ExitCode> {
  const { clients, silentClients } = await lookAtClients(options.pool, (text) => terminal.err(text));
  const found = await withNodesAt(nodesToAsk(options, clients), async (nodes, addresses) => {
    const all = await findPools(addresses, nodes);
    return options.pool === undefined ? all : onlyPool(options.pool, all, addresses);
  });
  const text = renderMetrics({ version: VERSION, found, clients, silentClients });
  if (options.out === undefined) terminal.out(text);
  else await replaceFile(options.out, text);
  return ExitCode.OK;
}

/** The clients of this machine that answer, and the pools whose clients do not; of one pool, or of all. */
async function lookAtClients(
  pool: string | undefined,
  warn: (text: string) => void,
): Promise<{ clients: AttachedClient[]; silentClients: string[] }> {
  const names = await listClientSockets(runtimeDir());
  const answers = await Promise.all(names.map((name) => attachedClient(name, warn)));
  const clients = answers.filter((client) => client !== null);
  const silentClients = names.filter((_, at) => answers[at] === null);
  if (pool === undefined) return { clients, silentClients };
  return {
    clients: clients.filter(({ snapshot }) => snapshot.poolName === pool || snapshot.poolUuid === pool),
    silentClients: silentClients.filter((name) => name === pool),
  };
}

/** As `findAllPools`; but that no node answers is an answer as well. */
async function findPools(addresses: readonly string[], nodes: NodeConnections): Promise<FoundPools> {
  try {
    return await findAllPools(addresses, nodes);
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== "unreachable") throw error;
    return { pools: [], nodes: [], broken: [], unreachable: nodes.failures };
  }
}

/** What concerns pool `name`: the pool, the nodes that were asked for, and those of its legs. */
function onlyPool(name: string, all: FoundPools, addresses: readonly string[]): FoundPools {
  const pools = all.pools.filter((pool) => pool.poolName === name || pool.poolUuid === name);
  // A node that is down, or a leg that cannot be served, may be the pool's.
  if (pools.length === 0 && all.unreachable.length === 0 && all.broken.length === 0) {
    throw new ControlError("not-found", `No storage node knows a pool called "${name}". Look with "brmr pool list".`);
  }
  const legs = pools.flatMap((pool) => pool.legs.map((leg) => leg.address));
  const concerned = new Set([...addresses, ...legs].map(canonicalNodeAddress));
  return {
    pools,
    nodes: all.nodes.filter(({ address }) => concerned.has(address)),
    broken: all.broken.filter(({ address }) => concerned.has(address)),
    unreachable: all.unreachable.filter(({ address }) => concerned.has(address)),
  };
}

/**
 * Writes `path`: who reads it meanwhile sees the old text or the new one whole.
 * @throws {ControlError} "not-found" without its directory, else "refused" with the reason; nothing is left behind.
 */
async function replaceFile(path: string, text: string): Promise<void> {
  // In the same directory, since a rename does not cross file systems; the collector takes only names that end in ".prom".
  const temporary = `${path}.${Deno.pid}.new`;
  try {
    const file = await Deno.open(temporary, { create: true, write: true, truncate: true, mode: 0o644 });
    try {
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      await Deno.rename(temporary, path);
    } catch (error) {
      await Deno.remove(temporary);
      throw error;
    } finally {
      file.close();
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ControlError(
      error instanceof Deno.errors.NotFound ? "not-found" : "refused",
      `${path} cannot be written: ${reason}. Give a file in a directory that this user may write to.`,
    );
  }
}
