/**
 * `brmr pool show`: one pool's properties and legs.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { findPool, type FoundPool } from "../lib/control/pool_lookup.ts";
import { syncStatusOf } from "../lib/control/sync_status.ts";
import { colorOption, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodes } from "./node_session.ts";
import { painter } from "./paint.ts";
import { renderPoolStatus } from "./render_status.ts";
import type { Terminal } from "./terminal.ts";

/** What `pool show` is told. */
export interface PoolShowOptions extends NodeChoice {
  readonly pool: string;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function definePoolShow(host: CommandHost) {
  return new Command("show")
    .summary("show one pool and its legs")
    .description("Shows a pool's properties and legs, as its storage nodes know them.")
    .argument("<pool>", "name or UUID of the pool")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr pool show vol1 --node 127.0.0.1:7701")
    .action((pool, options) => host.run((terminal) => runPoolShow({ ...options, pool }, terminal)));
}

/** Shows the pool. */
export async function runPoolShow(options: PoolShowOptions, terminal: Terminal): Promise<ExitCode> {
  const pool = await withNodes(options, (nodes, addresses) => findPool(options.pool, addresses, nodes));
  if (options.json) writeJson(terminal, poolAsJson(pool));
  else terminal.out(renderPoolStatus(syncStatusOf(pool), null, painter(terminal.hasColor), pool));
  return ExitCode.OK;
}

/** A pool for programs: what is fixed, the record in force, and how the legs stand. */
export function poolAsJson(pool: FoundPool): Record<string, unknown> {
  return {
    ...syncStatusOf(pool),
    chunkBytes: pool.chunkBytes,
    logicalBlockBytes: pool.logicalBlockBytes,
    ioTimeoutMs: pool.record.ioTimeoutMs,
    historyId: pool.record.historyId,
    unreachable: pool.unreachable,
  };
}
