/**
 * `brmr sync-status`: per leg its state, bytes missing, rate and estimated time; live with --watch.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import type { NodeConnections } from "../lib/control/node_connections.ts";
import { findPool } from "../lib/control/pool_lookup.ts";
import { type SyncStatus, syncStatusOf } from "../lib/control/sync_status.ts";
import { attachedClient } from "./attached_clients.ts";
import {
  asDurationMs,
  colorOption,
  type CommandHost,
  configOption,
  jsonOption,
  nodeOption,
  writeJson,
} from "./command_host.ts";
import { EXIT_CODE_HELP, ExitCode } from "./exit_code.ts";
import type { NodeChoice } from "./node_list.ts";
import { withNodesAt } from "./node_session.ts";
import { painter, widthOf } from "./paint.ts";
import { renderSyncStatus } from "./render_sync.ts";
import { nodesToAsk } from "./status.ts";
import type { Terminal } from "./terminal.ts";

/** What `sync-status` is told. */
export interface SyncStatusOptions extends NodeChoice {
  readonly pool: string;
  readonly watch?: boolean;
  /** Milliseconds between two looks. */
  readonly interval?: number;
  readonly json?: boolean;
}

/** Smooth to the eye, and no load worth naming on the nodes. */
const DEFAULT_INTERVAL_MS = 500;

/** Describes the subcommand. */
export function defineSyncStatus(host: CommandHost) {
  return new Command("sync-status")
    .summary("what each leg lacks, and how fast that shrinks")
    .description(
      "Shows per leg its state, the bytes it lacks, the rate of its resync and the time left. " +
        "With --watch it shows this again and again until all legs are in sync; on a terminal with a live bar.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--watch", "go on until all legs are in sync, or until interrupted")
    .option("--interval <duration>", "time between two looks (default: 500ms)", asDurationMs)
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText("after", `\nExample:\n  brmr sync-status vol1 --watch --node 127.0.0.1:7701\n\n${EXIT_CODE_HELP}`)
    .action((pool, options) => host.run((terminal) => runSyncStatus({ ...options, pool }, terminal)));
}

/** Shows where the legs stand. Exit code DEGRADED when, at the last look, not all were in sync. */
export async function runSyncStatus(options: SyncStatusOptions, terminal: Terminal): Promise<ExitCode> {
  const client = await attachedClient(options.pool, (text) => terminal.err(text));
  let addresses: readonly string[] = nodesToAsk(options, client === null ? [] : [client]);
  const look = async (nodes: NodeConnections) => {
    const pool = await findPool(options.pool, addresses, nodes);
    // Once the leg table is known, every leg's node can tell: the one named at first may go away meanwhile.
    addresses = [...new Set([...addresses, ...pool.legs.map((leg) => leg.address)])];
    return syncStatusOf(pool);
  };
  if (options.watch !== true) {
    const status = await withNodesAt(addresses, look);
    if (options.json) writeJson(terminal, status);
    else terminal.out(render(status, terminal));
    return status.isWhole ? ExitCode.OK : ExitCode.DEGRADED;
  }
  const interrupted = interruption();
  try {
    return await watch(() => withNodesAt(addresses, look), options, terminal, interrupted.promise);
  } finally {
    interrupted.close();
  }
}

/**
 * Looks and shows until all is in sync or `interrupted` resolves. The first look must succeed; later, a moment in which no node
 * answers is shown and waited out.
 */
export async function watch(
  look: () => Promise<SyncStatus>,
  options: Pick<SyncStatusOptions, "interval" | "json">,
  terminal: Terminal,
  interrupted: Promise<void>,
): Promise<ExitCode> {
  let lineCount = 0;
  let isOver = false;
  let isSilent = false;
  interrupted.then(() => isOver = true);
  let status = await look();
  for (;;) {
    if (options.json) {
      if (!isSilent) terminal.out(JSON.stringify(status) + "\n"); // one object a line
    } else {
      const text = render(status, terminal) + (isSilent ? "No storage node answers at the moment; this is old.\n" : "");
      terminal.out((terminal.isLive ? upAndClear(lineCount) : "") + text);
      lineCount = screenLines(text, terminal.columns);
    }
    if (status.isWhole && !isSilent) return ExitCode.OK;
    if (!isOver) await pause(options.interval ?? DEFAULT_INTERVAL_MS, interrupted);
    if (isOver) return ExitCode.DEGRADED;
    try {
      status = await look();
      isSilent = false;
    } catch (error) {
      const isPassing = error instanceof ControlError && (error.code === "unreachable" || error.code === "timeout");
      if (!isPassing) throw error;
      isSilent = true;
    }
  }
}

function render(status: SyncStatus, terminal: Terminal): string {
  const paint = painter(terminal.hasColor);
  return renderSyncStatus(status, { paint, columns: terminal.columns, nowMs: Date.now() });
}

/** Lines that `text` takes on the screen, which breaks those that are too long for it. */
function screenLines(text: string, columns: number): number {
  const lines = text.split("\n").slice(0, -1);
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(widthOf(line) / columns)), 0);
}

/** Moves the cursor up `lines` lines and clears from there (ECMA-48 CPL and ED). */
function upAndClear(lines: number): string {
  return lines === 0 ? "" : `\x1b[${lines}F\x1b[J`;
}

/** Resolves after `ms`, or as soon as `sooner` does. Leaves no timer behind. */
async function pause(ms: number, sooner: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise, sooner]);
  clearTimeout(timer);
}

function interruption(): { promise: Promise<void>; close(): void } {
  let interrupt!: () => void;
  const promise = new Promise<void>((resolve) => interrupt = resolve);
  Deno.addSignalListener("SIGINT", interrupt);
  return { promise, close: () => Deno.removeSignalListener("SIGINT", interrupt) };
}
