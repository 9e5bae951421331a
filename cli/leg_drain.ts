/**
 * `brmr leg drain`: take a leg out of the in-sync set, on purpose. What `leg undrain` shares with it is here, too.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { noLegText } from "../lib/control/pool_lookup.ts";
import { withServedPool } from "./served_pool.ts";
import { asInteger, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import type { Terminal } from "./terminal.ts";

/** What `leg drain` and `leg undrain` are told. */
export interface LegDrainOptions extends NodeChoice {
  readonly pool: string;
  readonly leg: number;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineLegDrain(host: CommandHost) {
  return new Command("drain")
    .summary("take a leg out of the in-sync set, on purpose")
    .description(
      "Takes a leg out of the in-sync set and keeps it out: its node can be serviced. What it misses meanwhile is recorded, " +
        "and undrain resyncs just that. Refused when it is the last leg in sync, or too few would remain (min-in-sync).",
    )
    .argument("<pool>", "name or UUID of the pool")
    .argument("<leg>", "index of the leg, as status shows it", asInteger(0, 7))
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr leg drain vol1 1")
    .action((pool, leg, options) =>
      host.run((terminal) =>
        setDrained(
          { ...options, pool, leg },
          true,
          'is drained; what it misses is recorded until "brmr leg undrain"',
          terminal,
        )
      )
    );
}

/** Drains the leg, or lets it come back. @param done what is said of the leg then, after its name */
export async function setDrained(
  options: LegDrainOptions,
  isDrained: boolean,
  done: string,
  terminal: Terminal,
): Promise<ExitCode> {
  const legIndex = options.leg;
  return await withServedPool(options.pool, options, terminal, async ({ client, pool }) => {
    if (!pool.record.legs[legIndex]) throw new ControlError("not-found", noLegText(pool, legIndex));
    await client.request("client.changeLegs", { kind: isDrained ? "drain" : "undrain", legIndex });
    if (options.json) writeJson(terminal, { poolName: pool.poolName, legIndex, isDrained });
    else terminal.out(`${pool.poolName}: leg ${legIndex} ${done}\n`);
    return ExitCode.OK;
  });
}
