/**
 * `brmr pool list`: the pools that the storage nodes have legs of.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { findAllPools } from "../lib/control/pool_lookup.ts";
import { colorOption, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodes } from "./node_session.ts";
import { painter } from "./paint.ts";
import { renderPoolList } from "./render_pool.ts";
import { renderFailures } from "./render_status.ts";
import type { Terminal } from "./terminal.ts";

/** What `pool list` is told. */
export interface PoolListOptions extends NodeChoice {
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function definePoolList(host: CommandHost) {
  return new Command("list")
    .summary("list pools")
    .description("Lists the pools that the storage nodes have legs of. For how they stand, see brmr status.")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr pool list --node 127.0.0.1:7701")
    .action((options) => host.run((terminal) => runPoolList(options, terminal)));
}

/** Lists the pools. */
export async function runPoolList(options: PoolListOptions, terminal: Terminal): Promise<ExitCode> {
  const found = await withNodes(options, (nodes, addresses) => findAllPools(addresses, nodes));
  if (options.json) {
    writeJson(terminal, {
      pools: found.pools.map((pool) => ({
        poolName: pool.poolName,
        poolUuid: pool.poolUuid,
        sizeBytes: pool.sizeBytes,
        chunkBytes: pool.chunkBytes,
        logicalBlockBytes: pool.logicalBlockBytes,
        minInSync: pool.record.minInSync,
        legs: pool.legs.map(({ legIndex, legUuid, address }) => ({ legIndex, legUuid, address })),
      })),
      unreachable: found.unreachable,
    });
    return ExitCode.OK;
  }
  const paint = painter(terminal.hasColor);
  terminal.out(renderPoolList(found.pools, paint));
  terminal.err(renderFailures(found.unreachable, paint));
  return ExitCode.OK;
}
