/**
 * The command line as a whole: which subcommands there are, how they are parsed, what happens to errors. The only file, with
 * the `define*` part of each subcommand, that knows the parser.
 *
 * @module
 */

import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { VERSION } from "../lib/node/version.ts";
import { defineAttach } from "./attach.ts";
import type { CommandHost } from "./command_host.ts";
import type { CommandShape, OptionShape, ValueKind } from "./completion_script.ts";
import { defineCompletions } from "./completions.ts";
import { defineDemo } from "./demo.ts";
import { defineDetach } from "./detach.ts";
import { defineDirtyMap } from "./dirty_map.ts";
import { EXIT_CODE_HELP, ExitCode, exitCodeOf } from "./exit_code.ts";
import { defineLeg } from "./leg.ts";
import { defineList } from "./list.ts";
import { defineMetrics } from "./metrics.ts";
import { definePool } from "./pool.ts";
import { defineReplace } from "./replace.ts";
import { defineResync } from "./resync.ts";
import { defineServe } from "./serve.ts";
import { defineStatus } from "./status.ts";
import { defineSyncStatus } from "./sync_status.ts";
import { type ColorChoice, processTerminal, type Terminal } from "./terminal.ts";
import { defineVerify } from "./verify.ts";
import { defineVersion } from "./version.ts";

/** Longer lines of prose are hard to read. */
const MAX_HELP_COLUMNS = 110;

/** What surrounds a run of the command line. */
export interface CommandLineOptions {
  /** The program's entry module; data-plane workers start from it. */
  readonly workerUrl: string;
  /** Makes the terminal for a colour choice; the process's own by default. */
  readonly terminal?: (color: ColorChoice) => Terminal;
}

/** Parses `args`, runs what they ask for, and returns the exit code. Prints its own errors; never throws for a user's mistake. */
export async function runCommandLine(args: readonly string[], options: CommandLineOptions): Promise<ExitCode> {
  const makeTerminal = options.terminal ?? processTerminal;
  let terminal = makeTerminal("auto");
  let exitCode: ExitCode = ExitCode.OK;
  const host: CommandHost = {
    get terminal() {
      return terminal;
    },
    workerUrl: options.workerUrl,
    async run(work) {
      exitCode = await work(terminal);
    },
  };
  const program = defineProgram(host);
  program.hook("preAction", (_program, command) => {
    const { color } = command.opts() as { color?: ColorChoice };
    if (color !== undefined) terminal = makeTerminal(color);
  });
  configure(program, () => terminal);
  try {
    await program.parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help that was asked for is no mistake; everything else commander ends with is one. It has printed its text.
      return error.exitCode === 0 ? ExitCode.OK : ExitCode.USAGE;
    }
    if (error instanceof ControlError) {
      terminal.err(`error: ${error.message}\n`);
      return exitCodeOf(error.code);
    }
    const detail = error instanceof Error ? error.stack ?? error.message : String(error);
    terminal.err(
      `internal error: ${detail}\nThis is a bug of brmr ${VERSION}. Please report it with the lines above.\n`,
    );
    return ExitCode.INTERNAL;
  }
}

/** The program with all its subcommands. */
export function defineProgram(host: CommandHost): CommandUnknownOpts {
  const program = new Command("brmr");
  program
    .description("Block storage replicated to several nodes at once, over one network hop.")
    .version(`brmr ${VERSION}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show help")
    .addCommand(defineServe(host))
    .addCommand(definePool(host))
    .addCommand(defineAttach(host))
    .addCommand(defineDetach(host))
    .addCommand(defineList(host))
    .addCommand(defineStatus(host))
    .addCommand(defineSyncStatus(host))
    .addCommand(defineDirtyMap(host))
    .addCommand(defineMetrics(host))
    .addCommand(defineResync(host))
    .addCommand(defineLeg(host))
    .addCommand(defineReplace(host))
    .addCommand(defineVerify(host))
    .addCommand(defineDemo(host))
    .addCommand(defineCompletions(host, () => describeCommand(program as unknown as CommandUnknownOpts)))
    .addCommand(defineVersion(host))
    .addHelpText(
      "after",
      "\nExample:\n" +
        "  brmr serve --state /var/lib/brmr --listen tcp://127.0.0.1:7701\n" +
        "  brmr pool create vol1 --size 1G --leg 127.0.0.1:7701:/data/a.img --leg 127.0.0.1:7702:/data/b.img\n" +
        "  brmr attach vol1 --node 127.0.0.1:7701 --nbd /run/vol1.sock\n" +
        "  brmr status vol1 --node 127.0.0.1:7701\n\n" +
        EXIT_CODE_HELP,
    );
  return program as unknown as CommandUnknownOpts;
}

/** Settings that subcommands added ready-made do not inherit: errors are thrown, text goes to the terminal. */
function configure(command: CommandUnknownOpts, terminal: () => Terminal, path = "brmr"): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => terminal().out(text),
    writeErr: (text) => terminal().err(text),
    getOutHelpWidth: () => Math.min(terminal().columns, MAX_HELP_COLUMNS),
    getErrHelpWidth: () => Math.min(terminal().columns, MAX_HELP_COLUMNS),
    getOutHasColors: () => terminal().hasColor,
    getErrHasColors: () => terminal().hasColor,
  });
  command.showHelpAfterError(`(try "${path} --help")`);
  command.helpOption("-h, --help", "show help");
  if (command.commands.length > 0) command.helpCommand("help [command]", "show help");
  for (const child of command.commands) configure(child, terminal, `${path} ${child.name()}`);
}

/** `command` as the completion scripts need it. */
export function describeCommand(command: CommandUnknownOpts): CommandShape {
  const help = command.createHelp();
  return {
    name: command.name(),
    description: command.summary() === "" ? command.description() : command.summary(),
    options: help.visibleOptions(command).map((option): OptionShape => ({
      names: [option.short, option.long].filter((name) => name !== undefined),
      description: option.description.replace(/ \((?:required|default|or \$)[^)]*\)$/, ""),
      value: valueKindOf(option.flags, option.long ?? ""),
      choices: option.argChoices ?? [],
    })),
    positionals: command.registeredArguments.map((argument) => argument.argChoices ?? []),
    commands: command.commands.map(describeCommand),
  };
}

function valueKindOf(flags: string, name: string): ValueKind {
  if (!flags.includes("<")) return "none";
  if (flags.includes("<dir>")) return "directory";
  return flags.includes("<file>") || name === "--nbd" ? "file" : "word";
}
