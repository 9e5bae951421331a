/**
 * `brmr dirty-map`: how much a leg lacks, and where.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { gatherDirtyMaps } from "../lib/control/dirty_map_report.ts";
import { findPool } from "../lib/control/pool_lookup.ts";
import { attachedClient } from "./attached_clients.ts";
import {
  asInteger,
  colorOption,
  type CommandHost,
  configOption,
  jsonOption,
  nodeOption,
  writeJson,
} from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { painter } from "./paint.ts";
import { DEFAULT_RUN_LIMIT, MAP_ROWS, mapColumns, renderDirtyMap } from "./render_dirty_map.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

/** What `dirty-map` is told. */
export interface DirtyMapOptions extends NodeChoice {
  readonly pool: string;
  readonly leg?: number;
  /** Most runs to list. */
  readonly runs?: number;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineDirtyMap(host: CommandHost) {
  return new Command("dirty-map")
    .summary("how much a leg lacks, and where")
    .description(
      "Shows what each leg outside the in-sync set lacks: how much, in how many runs, and where in the address space, " +
        "as the in-sync legs keep it.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--leg <index>", "this leg only", asInteger(0, 7))
    .option("--runs <count>", `runs to list (default: ${DEFAULT_RUN_LIMIT})`, asInteger(0, 10_000))
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr dirty-map vol1 --leg 1 --node 127.0.0.1:7701")
    .action((pool, options) => host.run((terminal) => runDirtyMap({ ...options, pool }, terminal)));
}

/** Shows the maps. */
export async function runDirtyMap(options: DirtyMapOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await attachedClient(options.pool, (text) => terminal.err(text));
  const query = {
    legIndex: options.leg,
    buckets: mapColumns(terminal.columns) * MAP_ROWS,
    maxRuns: options.runs ?? DEFAULT_RUN_LIMIT,
  };
  const { pool, maps } = await withNodesAt(
    nodesToAsk(options, client === null ? [] : [client]),
    async (nodes, addresses) => {
      const pool = await findPool(options.pool, addresses, nodes);
      return { pool, maps: await gatherDirtyMaps(pool, query, nodes) };
    },
  );
  const { poolName, poolUuid, sizeBytes, chunkBytes } = pool;
  if (options.json) {
    writeJson(terminal, { poolName, poolUuid, sizeBytes, chunkBytes, legs: maps });
    return ExitCode.OK;
  }
  const paint = painter(terminal.hasColor);
  if (maps.length === 0) {
    terminal.out(`${poolName}: ${paint("green", "all legs are in sync")}, no leg lacks anything\n`);
  }
  terminal.out(maps.map((map) => renderDirtyMap(map, paint)).join("\n"));
  return ExitCode.OK;
}
