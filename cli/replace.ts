/**
 * `brmr replace`: puts a new device in the place of a leg's.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { forgetLeg, replaceLeg, type Replacement, type ServedPool, tableOf } from "../lib/control/leg_changes.ts";
import { ControlError } from "../lib/control/control_api.ts";
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
import { renderReplacement } from "./render_leg.ts";
import type { Terminal } from "./terminal.ts";

/** How often the new leg is looked at. */
const LOOK_MS = 500;

/** What `replace` is told. */
export interface ReplaceOptions extends NodeChoice {
  readonly pool: string;
  readonly leg: number;
  /** Absolute path on the leg's node. */
  readonly device: string;
  readonly force?: boolean;
  readonly wait?: boolean;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineReplace(host: CommandHost) {
  return new Command("replace")
    .summary("replace the device of a leg")
    .description(
      "Replaces a leg by a new device on the same storage node. A leg that is in sync goes on until the new one, a further leg " +
        "for the while, is in sync; the client then removes it by itself. A leg that is not in sync (its disk is dead, its node " +
        "was away) is replaced at once. Repeating the command finishes what an interrupted one began.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--leg <index>", "the leg to be replaced, as status shows it (required)", asInteger(0, 7))
    .option("--device <path>", "the new file or block device on the leg's node (required)")
    .option("--force", "take a device that carries data, and overwrite it")
    .option("--no-wait", "return once the new leg is in the table; the old one's metadata stays until it is removed")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr replace vol1 --leg 1 --device /dev/sdc")
    .action((pool, options) =>
      host.run((terminal) =>
        runReplace({
          ...options,
          pool,
          leg: required(options.leg, "--leg <index>"),
          device: required(options.device, "--device <path>"),
        }, terminal)
      )
    );
}

/** Replaces the leg. Exit code DEGRADED when the old one could not be erased. */
export async function runReplace(options: ReplaceOptions, terminal: Terminal): Promise<ExitCode> {
  if (!options.device.startsWith("/")) {
    throw new ControlError("bad-request", "--device is an absolute path on the leg's node");
  }
  return await withServedPool(options.pool, options, terminal, async (attached) => {
    const replacement = await replaceLeg(attached, options.leg, options.device, options.force ?? false);
    if (!options.json) terminal.out(renderReplacement(replacement));
    let note = "";
    if (options.wait !== false) {
      await inSync(attached, replacement);
      if (replacement.way === "hot") {
        note = await forgetLeg(attached.nodes, attached.pool, replacement.address, replacement.replacedUuid);
      }
      if (!options.json) {
        terminal.out(`${attached.pool.poolName}: the new leg ${replacement.legIndex} is in sync. ${note}\n`);
      }
    }
    if (options.json) writeJson(terminal, { ...replacement, note: note === "" ? replacement.note : note });
    return note === "" ? ExitCode.OK : ExitCode.DEGRADED;
  });
}

/** Waits until the new leg is in sync and, if another was to go for it, that is gone. A resync may take hours, so there is no limit. */
async function inSync({ client }: ServedPool, replacement: Replacement): Promise<void> {
  for (;;) {
    const table = await tableOf(client);
    const isIn = table.some((leg) =>
      leg.legIndex === replacement.legIndex && leg.state === "in-sync" && leg.legUuid !== replacement.replacedUuid
    );
    if (isIn && !table.some((leg) => leg.legUuid === replacement.replacedUuid)) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
