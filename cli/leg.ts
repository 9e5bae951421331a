/**
 * `brmr leg`: drains, undrains, adds and removes legs of a pool.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import type { CommandHost } from "./command_host.ts";
import { defineLegAdd } from "./leg_add.ts";
import { defineLegDrain } from "./leg_drain.ts";
import { defineLegRemove } from "./leg_remove.ts";
import { defineLegUndrain } from "./leg_undrain.ts";

/** Describes the subcommand and those under it. */
export function defineLeg(host: CommandHost) {
  return new Command("leg")
    .summary("drain, add or remove a leg")
    .description(
      "Drains, undrains, adds and removes legs of a pool: on the machine that has it attached or, while nobody has, anywhere with " +
        "a storage node of it named by --node, $BRMR_NODES or the config file.",
    )
    .addCommand(defineLegDrain(host))
    .addCommand(defineLegUndrain(host))
    .addCommand(defineLegAdd(host))
    .addCommand(defineLegRemove(host))
    .addHelpText("after", "\nExample:\n  brmr leg drain vol1 1");
}
