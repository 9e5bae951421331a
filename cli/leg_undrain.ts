/**
 * `brmr leg undrain`: let a drained leg come back.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { asInteger, type CommandHost, configOption, jsonOption, nodeOption } from "./command_host.ts";
import { setDrained } from "./leg_drain.ts";

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
    .action((pool, leg, options) =>
      host.run((terminal) =>
        setDrained({ ...options, pool, leg }, false, "may come back and resyncs what it missed", terminal)
      )
    );
}
