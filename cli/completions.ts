/**
 * `brmr completions`: prints a completion script.
 *
 * @module
 */

import { Argument, Command } from "@commander-js/extra-typings";
import type { CommandHost } from "./command_host.ts";
import { type CommandShape, completionScript, type Shell, SHELLS } from "./completion_script.ts";
import { ExitCode } from "./exit_code.ts";
import type { Terminal } from "./terminal.ts";

/** Describes the subcommand. `describe` gives the whole program, this subcommand included. */
export function defineCompletions(host: CommandHost, describe: () => CommandShape) {
  return new Command("completions")
    .summary("print a completion script for a shell")
    .description("Prints a completion script for bash, zsh or fish.")
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .addHelpText(
      "after",
      "\nExample:\n" +
        "  source <(brmr completions bash)          # this bash; put it into ~/.bashrc to keep it\n" +
        "  source <(brmr completions zsh)           # this zsh, after compinit\n" +
        "  brmr completions fish | source           # this fish",
    )
    .action((shell) => host.run((terminal) => runCompletions(shell, describe(), terminal)));
}

/** Prints the script. */
// deno-lint-ignore require-await -- every command has the same shape
export async function runCompletions(shell: Shell, program: CommandShape, terminal: Terminal): Promise<ExitCode> {
  terminal.out(completionScript(shell, program));
  return ExitCode.OK;
}
