/**
 * `brmr list`: the pools attached on this machine, and their devices.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { findAttachments } from "./attachments.ts";
import { colorOption, type CommandHost, jsonOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import { painter } from "./paint.ts";
import { renderAttachments } from "./render_attachments.ts";
import type { Terminal } from "./terminal.ts";

/** What `list` is told. */
export interface ListOptions {
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineList(host: CommandHost) {
  return new Command("list")
    .summary("pools attached on this machine, and their devices")
    .description(
      "Lists the pools that are attached on this machine: device, NBD sockets, process, who uses the device. A device " +
        'whose process is gone is "left": the next brmr attach of the pool takes it over, brmr detach removes it.',
    )
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr list")
    .action((options) => host.run((terminal) => runList(options, terminal)));
}

/** Shows what is attached. */
export async function runList(options: ListOptions, terminal: Terminal): Promise<ExitCode> {
  // Loaded here, since they need foreign functions and other commands do not.
  const [{ isOfPool }, { usesOf }, { removeDeviceLink }] = await Promise.all([
    import("../lib/frontend/left_device.ts"),
    import("../lib/frontend/device_use.ts"),
    import("../lib/node/device_link.ts"),
  ]);
  const view = { isOfPool, usesOf, removeLink: removeDeviceLink };
  const attachments = await findAttachments(view, (text) => terminal.err(text));
  if (options.json) writeJson(terminal, { attachments });
  else terminal.out(renderAttachments(attachments, runtimeDir(), painter(terminal.hasColor)));
  return ExitCode.OK;
}
