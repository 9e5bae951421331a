/**
 * `brmr pool delete`: deletes every leg of a pool.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { findPool } from "../lib/control/pool_lookup.ts";
import { deletePool } from "../lib/control/pool_operations.ts";
import { colorOption, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodes } from "./node_session.ts";
import { painter } from "./paint.ts";
import { renderDeletedPool } from "./render_pool.ts";
import type { Terminal } from "./terminal.ts";

/** What `pool delete` is told. */
export interface PoolDeleteOptions extends NodeChoice {
  readonly pool: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function definePoolDelete(host: CommandHost) {
  return new Command("delete")
    .summary("delete a pool and its data")
    .description(
      "Deletes every leg of a pool, also one that was made or removed by a command that was interrupted: its metadata, and the " +
        "file if brmr made it. The data is gone then. " +
        "Refused while the pool is attached or a leg cannot be reached.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .addOption(nodeOption())
    .addOption(configOption())
    .option("--force", "delete although it is attached, or a leg cannot be reached and stays behind")
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr pool delete vol1 --node 127.0.0.1:7701")
    .action((pool, options) => host.run((terminal) => runPoolDelete({ ...options, pool }, terminal)));
}

/** Deletes the pool. Exit code DEGRADED when a leg stays behind. */
export async function runPoolDelete(options: PoolDeleteOptions, terminal: Terminal): Promise<ExitCode> {
  const result = await withNodes(options, async (nodes, addresses) => {
    const pool = await findPool(options.pool, addresses, nodes);
    return await deletePool(pool, options.force ?? false, nodes);
  });
  if (options.json) writeJson(terminal, result);
  else terminal.out(renderDeletedPool(result, painter(terminal.hasColor)));
  return result.left.length === 0 ? ExitCode.OK : ExitCode.DEGRADED;
}
