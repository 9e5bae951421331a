/**
 * `brmr version`: which brmr this is, and what it runs on.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { PROTOCOL_VERSION } from "../lib/wire/message.ts";
import { VERSION } from "../lib/node/version.ts";
import { type CommandHost, jsonOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { Terminal } from "./terminal.ts";

/** What `version` is told. */
export interface VersionOptions {
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineVersion(host: CommandHost) {
  return new Command("version")
    .summary("version of brmr and of what it runs on")
    .description("Shows the version of brmr, of its protocol, and of Deno.")
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr version --json")
    .action((options) => host.run((terminal) => runVersion(options, terminal)));
}

/** Shows the versions. */
// deno-lint-ignore require-await -- every command has the same shape
export async function runVersion(options: VersionOptions, terminal: Terminal): Promise<ExitCode> {
  const deno = Deno.version.deno;
  const target = Deno.build.target;
  if (options.json) writeJson(terminal, { brmr: VERSION, protocol: PROTOCOL_VERSION, deno, target });
  else terminal.out(`brmr ${VERSION} (protocol ${PROTOCOL_VERSION}, Deno ${deno}, ${target})\n`);
  return ExitCode.OK;
}
