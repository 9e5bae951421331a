/**
 * `brmr leg undrain`: let a drained leg come back.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { withServedPool } from "./served_pool.ts";
import {
  asInteger,
  type CommandHost,
  configOption,
  jsonOption,
  nodeOption,
  required,
  writeJson,
} from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import type { Terminal } from "./terminal.ts";

/** What `leg undrain` is told. */
export interface LegUndrainOptions extends NodeChoice {
  readonly pool: string;
  readonly leg: number;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineLegUndrain(host: CommandHost) {
  return new Command("undrain")
    .summary("let a drained leg come back")
    .description(
      "Lets a drained leg come back: it resyncs what it missed and joins the in-sync set by itself.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .argument("<leg>", "index of the leg, as status shows it", asInteger(0, 7))
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr leg undrain vol1 1")
    .action((pool, leg, options) => host.run((terminal) => runLegUndrain({ ...options, pool, leg }, terminal)));
}

/** Undrains the leg. */
export async function runLegUndrain(options: LegUndrainOptions, terminal: Terminal): Promise<ExitCode> {
  const legIndex = required(options.leg, "<leg>");
  return await withServedPool(options.pool, options, terminal, async ({ client, pool }) => {
    await client.request("client.changeLegs", { kind: "undrain", legIndex });
    if (options.json) writeJson(terminal, { poolName: pool.poolName, legIndex, isDrained: false });
    else terminal.out(`${pool.poolName}: leg ${legIndex} may come back and resyncs what it missed\n`);
    return ExitCode.OK;
  });
}
