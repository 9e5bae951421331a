/**
 * `brmr replace`: puts a new device in the place of a leg's, or takes that back.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { forgetLeg } from "../lib/control/leg_changes.ts";
import { replaceLeg, type Replacement, replaceUnserved, undoReplacement } from "../lib/control/leg_replacement.ts";
import { canonicalNodeAddress } from "../lib/control/node_address.ts";
import type { NodeConnections } from "../lib/control/node_connections.ts";
import { findPool, type FoundPool } from "../lib/control/pool_lookup.ts";
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
import { withNodesAt } from "./node_session.ts";
import { renderReplacement } from "./render_leg.ts";
import { attachedHere, withServedPool } from "./served_pool.ts";
import type { Terminal } from "./terminal.ts";

/** How often the new leg is looked at. */
const LOOK_MS = 500;

/** What `replace` is told. */
export interface ReplaceOptions extends NodeChoice {
  readonly pool: string;
  readonly leg: number;
  /** Absolute path on the leg's node. */
  readonly device?: string;
  readonly undo?: boolean;
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
        "for the while, is in sync; it is then removed by itself. A leg that is not in sync (its disk is dead, its node was " +
        "away) is replaced at once, by its node alone if it reaches no other: the pool takes the new disk in when it reaches it. " +
        "Repeating the command finishes what an interrupted one began. With --undo a replacement is taken back, for as long as " +
        "the pool does not rely on the new disk.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--leg <index>", "the leg to be replaced, as status shows it (required)", asInteger(0, 7))
    .option("--device <path>", "the new file or block device on the leg's node (required, unless --undo)")
    .option("--undo", "take back a replacement: the new leg goes, the old one stays or comes back")
    .option("--force", "take a device that carries data, and overwrite it")
    .option("--no-wait", "return once the new leg is made; the old one's metadata stays until it is removed")
    .addOption(nodeOption())
    .addOption(configOption())
    .addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  brmr replace vol1 --leg 1 --device /dev/sdc")
    .action((pool, options) =>
      host.run((terminal) => runReplace({ ...options, pool, leg: required(options.leg, "--leg <index>") }, terminal))
    );
}

/** Replaces the leg, or takes that back. Exit code DEGRADED when something is left to be done. */
export async function runReplace(options: ReplaceOptions, terminal: Terminal): Promise<ExitCode> {
  if (options.undo) return await undo(options, terminal);
  const device = required(options.device, "--device <path>");
  if (!device.startsWith("/")) {
    throw new ControlError("bad-request", "--device is an absolute path on the leg's node");
  }
  const { replacement, addresses } = await begin(options, device, terminal);
  if (!options.json) terminal.out(renderReplacement(replacement));
  let note = "";
  // A node that is alone has done what it can; the rest comes by itself, whenever that is.
  if (options.wait !== false && !replacement.isAlone) {
    await inSync(addresses, replacement);
    if (replacement.way === "hot") {
      note = await withNodesAt(
        addresses,
        (nodes) => forgetLeg(nodes, replacement, { address: replacement.address, legUuid: replacement.replacedUuid }),
      );
    }
    if (!options.json) {
      terminal.out(`${replacement.poolName}: the new leg ${replacement.legIndex} is in sync. ${note}`.trimEnd() + "\n");
    }
  }
  if (options.json) writeJson(terminal, { ...replacement, note: note === "" ? replacement.note : note });
  return note === "" && !replacement.isAlone ? ExitCode.OK : ExitCode.DEGRADED;
}

/** Begins the replacement, and says where to look how it goes. */
async function begin(
  options: ReplaceOptions,
  device: string,
  terminal: Terminal,
): Promise<{ replacement: Replacement; addresses: readonly string[] }> {
  const force = options.force ?? false;
  const { client, addresses, poolKey } = await attachedHere(options.pool, options, terminal);
  client?.close();
  if (client === null) {
    const replacement = await withNodesAt(addresses, async (nodes) => {
      const pool = await poolIfKnown(poolKey, addresses, nodes);
      return await replaceUnserved(nodes, addresses, options.pool, pool, {
        legIndex: options.leg,
        path: device,
        force,
      });
    });
    if (replacement !== null) return { replacement, addresses };
  }
  return await withServedPool(options.pool, options, terminal, async (served) => {
    return { replacement: await replaceLeg(served, options.leg, device, force), addresses };
  });
}

/** The pool as its nodes know it; null when none of those that answer serves a leg of it. Throws "unreachable" when none answers. */
async function poolIfKnown(
  pool: string,
  addresses: readonly string[],
  nodes: NodeConnections,
): Promise<FoundPool | null> {
  try {
    return await findPool(pool, addresses, nodes);
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    if (error.code === "not-found") return null;
    // A node that is alone may know the leg whose disk is dead.
    const silent = new Set(nodes.failures.map(({ address }) => address));
    if (error.code === "unreachable" && !addresses.every((each) => silent.has(canonicalNodeAddress(each)))) return null;
    throw error;
  }
}

async function undo(options: ReplaceOptions, terminal: Terminal): Promise<ExitCode> {
  const { client, addresses, poolKey } = await attachedHere(options.pool, options, terminal);
  client?.close();
  return await withNodesAt(addresses, async (nodes) => {
    const pool = await findPool(poolKey, addresses, nodes);
    const outcome = await undoReplacement(nodes, pool, options.leg, (work) => {
      return withServedPool(options.pool, options, terminal, work);
    });
    const { poolName } = pool;
    if (options.json) writeJson(terminal, { poolName, legIndex: options.leg, outcome });
    else terminal.out(`${poolName}: leg ${options.leg} is not being replaced any more: ${outcome}\n`);
    return ExitCode.OK;
  });
}

/**
 * Waits until the new leg is in sync and, if another was to go for it, that is gone, by what the nodes have on record: whoever serves the
 * pool may change meanwhile. A resync may take hours, so there is no limit.
 */
async function inSync(addresses: readonly string[], replacement: Replacement): Promise<void> {
  let known = addresses;
  for (;;) {
    const pool = await poolUnlessSilent(known, replacement.poolUuid);
    if (pool === null) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      continue;
    }
    const { record } = pool;
    // Every leg's node can tell: the one that was named may go away meanwhile.
    known = [...new Set([...addresses, ...pool.legs.map((leg) => leg.address)])];
    const isIn = record.legs[replacement.legIndex]?.uuid === replacement.legUuid &&
      (record.inSyncMask & (1 << replacement.legIndex)) !== 0;
    if (isIn && !record.legs.some((entry) => entry?.uuid === replacement.replacedUuid)) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** The pool; null while no node that knows it answers, which passes. */
async function poolUnlessSilent(addresses: readonly string[], poolUuid: string): Promise<FoundPool | null> {
  try {
    return await withNodesAt(addresses, (nodes) => findPool(poolUuid, addresses, nodes));
  } catch (error) {
    if (error instanceof ControlError && (error.code === "unreachable" || error.code === "timeout")) return null;
    throw error;
  }
}
