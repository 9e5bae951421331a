/**
 * `brmr leg add`: makes a device a further leg of a pool.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { addLeg } from "../lib/control/leg_changes.ts";
import { parseLegPlace } from "../lib/control/node_address.ts";
import { withServedPool } from "./served_pool.ts";
import { type CommandHost, configOption, jsonOption, nodeOption, required, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { renderAddedLeg } from "./render_leg.ts";
import type { Terminal } from "./terminal.ts";

/** What `leg add` is told. */
export interface LegAddOptions extends NodeChoice {
  readonly pool: string;
  /** "HOST:PORT:/PATH". */
  readonly leg: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineLegAdd(host: CommandHost) {
  return new Command("add")
    .summary("add a leg to a pool")
    .description(
      "Makes a file or block device on a storage node a further leg of a pool, up to 8. It begins all dirty and copies " +
        "everything while the pool goes on. Repeating the command finishes what an interrupted one began.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--leg <host:port:path>", "storage node and absolute path there (required)")
    .option("--force", "take a device that carries data, and overwrite it")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr leg add vol1 --leg 127.0.0.1:7703:/data/c.img")
    .action((pool, options) =>
      host.run((terminal) =>
        runLegAdd({ ...options, pool, leg: required(options.leg, "--leg <host:port:path>") }, terminal)
      )
    );
}

/** Adds the leg. */
export async function runLegAdd(options: LegAddOptions, terminal: Terminal): Promise<ExitCode> {
  const place = parseLegPlace(options.leg);
  return await withServedPool(options.pool, options, terminal, async (attached) => {
    const added = await addLeg(attached, place, { force: options.force ?? false, replacesIndex: -1 });
    if (options.json) writeJson(terminal, added);
    else terminal.out(renderAddedLeg(added));
    return ExitCode.OK;
  });
}
