/**
 * `brmr verify`: compares the in-sync legs of an attached pool while it is in use, and repairs what differs.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { type ClientOperations, type ControlClient, ControlError } from "../lib/control/control_api.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import type { VerifySnapshot } from "../lib/core/snapshot.ts";
import { poolNameOf } from "./attached_pool.ts";
import { asRate, type CommandHost, jsonOption, writeJson } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import { renderVerify, renderVerifyProgress } from "./render_leg.ts";
import { listenForStop } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

/** A client answers from memory. */
const TIMEOUT_MS = 10_000;
const LOOK_MS = 500;
/** Unless told otherwise: a share that an application on any disk of today hardly feels. */
const DEFAULT_RATE = 64 << 20;

/** What `verify` is told. */
export interface VerifyOptions {
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
        "compared is held back from writes. With --repair, what differs is written anew to all legs from the data that most " +
        "legs have, or with two legs from the first one; so is what a leg cannot read. Interrupting the command ends the verify. " +
        "Exit code 6: legs differ; 7: they differed and are repaired.",
    )
    .argument("<pool>", "name or UUID of the pool, attached on this machine")
    .option("--repair", "write what differs, or cannot be read, anew")
    .option("--rate <rate>", 'most bytes per second, with K, M or G, or "unlimited" (default: 64M)', asRate)
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr verify vol1 --repair --rate 100M")
    .action((pool, options) => host.run((terminal) => runVerify({ ...options, pool }, terminal)));
}

/** Compares, shows progress on a terminal, and tells what was found. */
export async function runVerify(options: VerifyOptions, terminal: Terminal): Promise<ExitCode> {
  const poolName = await poolNameOf(options.pool, terminal);
  const client = await connectClient(poolName, { runtimeDir: runtimeDir(), timeoutMs: TIMEOUT_MS });
  try {
    const rateBytesPerSecond = options.rate ?? DEFAULT_RATE;
    await client.request("client.verify", { repair: options.repair ?? false, rateBytesPerSecond });
    const verify = await untilOver(client, options, terminal);
    if (options.json) writeJson(terminal, { poolName, ...verify });
    else terminal.out(renderVerify(poolName, verify));
    if (verify.state === "failed") throw new ControlError("refused", `The verify could not go on: ${verify.message}.`);
    return exitCodeOfVerify(verify);
  } finally {
    client.close();
  }
}

/** What the outcome of a verify is as an exit code. */
export function exitCodeOfVerify(verify: VerifySnapshot): ExitCode {
  if (verify.differences === 0) return verify.state === "stopped" ? ExitCode.INTERRUPTED : ExitCode.OK;
  const isMended = verify.isRepairing && verify.told.every((difference) => difference.isRepaired) &&
    verify.lostBytes === 0 && verify.differences === verify.told.length && verify.state === "done";
  return isMended ? ExitCode.REPAIRED : ExitCode.DIFFERENT;
}

async function untilOver(
  client: ControlClient<ClientOperations>,
  options: VerifyOptions,
  terminal: Terminal,
): Promise<VerifySnapshot> {
  const stop = listenForStop();
  let isStopping = false;
  stop.first.then(() => isStopping = true);
  try {
    for (;;) {
      if (isStopping) await client.request("client.verifyStop", {});
      const { verify } = (await client.request("client.status", {})).snapshot;
      if (verify.state !== "running") return verify;
      if (terminal.isLive && !options.json) terminal.err(`\r${renderVerifyProgress(verify)}`);
      await Promise.race([stop.first, new Promise((resolve) => setTimeout(resolve, LOOK_MS))]);
    }
  } finally {
    stop.close();
    if (terminal.isLive && !options.json) terminal.err("\r\x1b[K");
  }
}
