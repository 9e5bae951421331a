/**
 * `brmr demo`: shows on this machine what brmr does, with real processes, in about a quarter of a minute.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { colorOption, type CommandHost } from "./command_host.ts";
import { DemoScreen } from "./demo_screen.ts";
import { ExitCode } from "./exit_code.ts";
import { listenForStop } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

/** Describes the subcommand. */
export function defineDemo(host: CommandHost) {
  return new Command("demo")
    .summary("see it work: lose a node under load, watch it come back")
    .description(
      "Starts two storage nodes and a client on this machine, in a temporary directory; writes through the NBD socket; " +
        "kills one node, watches the dirty map grow; brings it back, watches the resync; proves both legs identical; " +
        "cleans up. Needs no privileges and changes nothing else.",
    )
    .option("--json", "print one JSON object at the end instead of the show")
    .addOption(colorOption())
    .addHelpText("after", "\nExample:\n  brmr demo")
    .action((options) => host.run((terminal) => runDemoCommand(options, terminal)));
}

/** Runs the demo. Exit code INTERNAL when the legs were not identical: that would be a bug. */
export async function runDemoCommand(options: { readonly json?: true }, terminal: Terminal): Promise<ExitCode> {
  // "brmr demo | head -5" must not leave nodes behind.
  terminal.outliveReaders();
  const { runDemo } = await import("../mod.ts");
  const signals = listenForStop();
  const abort = new AbortController();
  signals.first.then((signal) => abort.abort(new Error(signal)));
  const screen = options.json ? null : new DemoScreen(terminal);
  try {
    screen?.open();
    const result = await runDemo({ onEvent: (event) => screen?.show(event), signal: abort.signal });
    if (screen === null) terminal.out(JSON.stringify(result) + "\n");
    else screen.close(result);
    return result.identical ? ExitCode.OK : ExitCode.INTERNAL;
  } catch (error) {
    if (abort.signal.aborted) return ExitCode.INTERRUPTED;
    throw error;
  } finally {
    signals.close();
  }
}
