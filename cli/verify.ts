/**
 * `brmr verify`: compares the in-sync legs of a pool, in use or not, and repairs what differs.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { type ClientOperations, type ControlClient, ControlError } from "../lib/control/control_api.ts";
import type { VerifySnapshot } from "../lib/core/snapshot.ts";
import { asRate, type CommandHost, configOption, jsonOption, nodeOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { renderVerify, renderVerifyProgress } from "./render_leg.ts";
import { withServedPool } from "./served_pool.ts";
import { listenForStop } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

const LOOK_MS = 500;
/** Unless told otherwise: a share that an application on any disk of today hardly feels. */
const DEFAULT_RATE = 64 << 20;

/** What `verify` is told. */
export interface VerifyOptions extends NodeChoice {
  readonly pool: string;
  readonly repair?: boolean;
  /** Bytes per second; 0 for no limit. */
  readonly rate?: number;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function defineVerify(host: CommandHost) {
  return new Command("verify")
    .summary("compare the in-sync legs")
    .description(
      "Compares the legs that are in sync by checksum, 1 MiB after the other, while the pool goes on: only the range being " +
        "compared is held back from writes. When nobody has the pool attached, a storage node does it. With --repair, what differs is written anew to all legs from the data that most " +
        "legs have, or with two legs from the first one; so is what a leg cannot read; that needs all legs that are not drained to be in sync. A verify ends when a leg leaves the set or comes into it. Interrupting the command ends the verify. " +
        "Exit code 6: legs differ; 7: they differed and are repaired.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--repair", "write what differs, or cannot be read, anew")
    .option("--rate <rate>", 'most bytes per second, with K, M or G, or "unlimited" (default: 64M)', asRate)
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr verify vol1 --repair --rate 100M")
    .action((pool, options) => host.run((terminal) => runVerify({ ...options, pool }, terminal)));
}

/** Compares, shows progress on a terminal, and tells what was found. */
export async function runVerify(options: VerifyOptions, terminal: Terminal): Promise<ExitCode> {
  return await withServedPool(options.pool, options, terminal, async ({ client, pool: { poolName } }) => {
    const rateBytesPerSecond = options.rate ?? DEFAULT_RATE;
    await client.request("client.verify", { repair: options.repair ?? false, rateBytesPerSecond });
    const { verify, isStopping } = await untilOver(client, options, terminal);
    if (options.json) writeJson(terminal, { poolName, ...verifyAsJson(verify) });
    else terminal.out(renderVerify(poolName, verify));
    if (verify.state === "failed") throw new ControlError("refused", `The verify could not go on: ${verify.message}.`);
    if (verify.state === "stopped" && !isStopping && verify.differences === 0) {
      throw new ControlError(
        "refused",
        "The verify has ended early: a leg left the set or came into it meanwhile, or somebody else stopped it. Begin it anew.",
      );
    }
    return exitCodeOfVerify(verify);
  });
}

/** A verify for programs. */
function verifyAsJson(verify: VerifySnapshot): Record<string, unknown> {
  return { ...verify, told: verify.told.map(({ offset, ...difference }) => ({ offsetBytes: offset, ...difference })) };
}

/** What the outcome of a verify is as an exit code. */
export function exitCodeOfVerify(verify: VerifySnapshot): ExitCode {
  if (verify.differences === 0) return verify.state === "stopped" ? ExitCode.INTERRUPTED : ExitCode.OK;
  // What differs on one leg and cannot be read from another counts twice here: then 6 is told, and a second verify tells 0. Never 7 too early.
  const foundBytes = verify.differingBytes + verify.unreadableBytes;
  const isMended = verify.isRepairing && verify.repairedBytes >= foundBytes &&
    verify.told.every((difference) => difference.isRepaired) &&
    verify.lostBytes === 0 && verify.differences === verify.told.length && verify.state === "done";
  return isMended ? ExitCode.REPAIRED : ExitCode.DIFFERENT;
}

async function untilOver(
  client: ControlClient<ClientOperations>,
  options: VerifyOptions,
  terminal: Terminal,
): Promise<{ verify: VerifySnapshot; isStopping: boolean }> {
  const stop = listenForStop();
  let isStopping = false;
  stop.first.then(() => isStopping = true);
  try {
    for (;;) {
      if (isStopping) await client.request("client.verifyStop", {});
      const { verify } = (await client.request("client.status", {})).snapshot;
      if (verify.state !== "running") return { verify, isStopping };
      if (terminal.isLive && !options.json) terminal.err(`\r${renderVerifyProgress(verify)}`);
      await Promise.race([stop.first, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
    }
  } finally {
    stop.close();
    if (terminal.isLive && !options.json) terminal.err("\r\x1b[K");
  }
}
