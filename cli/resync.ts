/**
 * `brmr resync`: pauses, resumes or limits the resync of a pool.
 *
 * @module
 */

import { formatRate } from "../lib/base/units.ts";
import { Argument, Command } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { findPool } from "../lib/control/pool_lookup.ts";
import { type ResyncSetting, setResync } from "../lib/control/pool_operations.ts";
import { attachedClient } from "./attached_clients.ts";
import { asRate, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

const ACTIONS = ["pause", "resume", "throttle"] as const;

/** What `resync` is told. */
export interface ResyncOptions extends NodeChoice {
  readonly pool: string;
  readonly action: typeof ACTIONS[number];
  /** Bytes per second, 0 for no limit; goes with "throttle". */
  readonly rate?: number;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineResync(host: CommandHost) {
  return new Command("resync")
    .summary("pause, resume or limit resync")
    .description(
      "Pauses or resumes the resync of a pool's legs, or limits its rate. A limit comes on top of the adaptive throttle, " +
        "which gives way to the application. Pause and limit last until changed or until the storage node restarts.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .addArgument(new Argument("<action>", "what to do").choices(ACTIONS))
    .addArgument(
      new Argument("[rate]", 'for throttle: bytes per second with K, M or G, or "unlimited"').argParser(asRate),
    )
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr resync vol1 throttle 50M --node 127.0.0.1:7701")
    .action((pool, action, rate, options) =>
      host.run((terminal) => runResync({ ...options, pool, action, rate }, terminal))
    );
}

/** Steers the resync. Exit code DEGRADED when a node did not take it. */
export async function runResync(options: ResyncOptions, terminal: Terminal): Promise<ExitCode> {
  const setting = settingOf(options);
  const client = await attachedClient(options.pool, (text) => terminal.err(text));
  const result = await withNodesAt(
    nodesToAsk(options, client === null ? [] : [client]),
    async (nodes, addresses) => setResync(await findPool(options.pool, addresses, nodes), setting, nodes),
  );
  if (options.json) {
    writeJson(terminal, { ...setting, ...result });
  } else {
    terminal.out(`${options.pool}: ${sentenceOf(options)} on ${result.set.map((node) => node.address).join(", ")}\n`);
    for (const node of result.missed) terminal.err(`not on ${node.address}: ${node.message}\n`);
  }
  return result.missed.length === 0 ? ExitCode.OK : ExitCode.DEGRADED;
}

function settingOf(options: ResyncOptions): ResyncSetting {
  if (options.action === "throttle") {
    if (options.rate === undefined) {
      throw new ControlError(
        "bad-request",
        'throttle needs a rate, e.g. "brmr resync vol1 throttle 50M", or "unlimited"',
      );
    }
    return { rateBytesPerSecond: options.rate };
  }
  if (options.rate !== undefined) {
    throw new ControlError("bad-request", `${options.action} takes no rate; throttle does`);
  }
  return { paused: options.action === "pause" };
}

function sentenceOf(options: ResyncOptions): string {
  switch (options.action) {
    case "pause":
      return "resync is paused";
    case "resume":
      return "resync goes on";
    case "throttle":
      return options.rate === 0 ? "resync has no fixed limit" : `resync is limited to ${formatRate(options.rate ?? 0)}`;
  }
}
