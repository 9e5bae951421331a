/**
 * `brmr leg remove`: takes a leg out of a pool for good.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { removeLeg } from "../lib/control/leg_changes.ts";
import { withServedPool } from "./served_pool.ts";
import { asInteger, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { renderRemovedLeg } from "./render_leg.ts";
import type { Terminal } from "./terminal.ts";

/** What `leg remove` is told. */
export interface LegRemoveOptions extends NodeChoice {
  readonly pool: string;
  /** Index, UUID, or HOST:PORT:/PATH. */
  readonly leg: number | string;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineLegRemove(host: CommandHost) {
  return new Command("remove")
    .summary("take a leg out of a pool for good")
    .description(
      "Takes a leg out of the in-sync set, then out of the leg table; its node erases its metadata, and the file if brmr made " +
        "it. Refused when it is the last leg in sync, or too few would remain. A node that cannot be reached keeps a leg that is " +
        "a stranger to the pool: it is never trusted again, and is erased by the command that is shown then.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .argument("<leg>", "index of the leg, as status shows it; or its UUID, or HOST:PORT:/PATH", asLeg)
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr leg remove vol1 2")
    .action((pool, leg, options) => host.run((terminal) => runLegRemove({ ...options, pool, leg }, terminal)));
}

/** An index; anything longer is what else can name a leg. */
function asLeg(text: string): number | string {
  return /[:-]/.test(text) ? text : asInteger(0, 7)(text);
}

/** Removes the leg. Exit code DEGRADED when its node could not erase it. */
export async function runLegRemove(options: LegRemoveOptions, terminal: Terminal): Promise<ExitCode> {
  return await withServedPool(options.pool, options, terminal, async (attached) => {
    const removed = await removeLeg(attached, options.leg);
    if (options.json) writeJson(terminal, removed);
    else terminal.out(renderRemovedLeg(removed));
    return removed.note === "" ? ExitCode.OK : ExitCode.DEGRADED;
  });
}
