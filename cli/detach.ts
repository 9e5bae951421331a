/**
 * `brmr detach`: ends a running `brmr attach` on this machine.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { readAttachStates } from "../lib/control/attach_state.ts";
import { connectClient } from "../lib/control/client_control_client.ts";
import { ControlError } from "../lib/control/control_api.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import { clear } from "./attachments.ts";
import { nameAttachedAs } from "./attached_clients.ts";
import { asDurationMs, type CommandHost } from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import type { Terminal } from "./terminal.ts";

/** What `detach` is told. */
export interface DetachOptions {
  readonly pool: string;
  readonly timeout?: number;
  readonly force?: boolean;
}

/** Requests in flight may wait for a storage node as long as the pool's I/O timeout, 30 s by default. */
const DETACH_TIMEOUT_MS = 60_000;

/** Describes the subcommand. */
export function defineDetach(host: CommandHost) {
  return new Command("detach")
    .summary("end a running attach")
    .description(
      "Ends the brmr attach of a pool on this machine: closes the NBD socket, completes what is in flight, flushes " +
        "and releases the pool. Returns when that is done, with exit code 5 where legs did not take part to the end: they " +
        "are compared at the next attach, and nothing that was flushed is lost. A block device that is mounted or held is " +
        "left alone. One that a dead attach has left is removed.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .option("--force", "take the block device away from those who use it, who then get I/O errors")
    .option("--timeout <duration>", "how long to wait (default: 60s)", asDurationMs)
    .addHelpText("after", "\nExample:\n  brmr detach vol1")
    .action((pool, options) => host.run((terminal) => runDetach({ ...options, pool }, terminal)));
}

/** Detaches the pool. */
export async function runDetach(options: DetachOptions, terminal: Terminal): Promise<ExitCode> {
  const timeoutMs = options.timeout ?? DETACH_TIMEOUT_MS;
  const poolName = await nameAttachedAs(options.pool, terminal);
  let client;
  try {
    client = await connectClient(poolName, { runtimeDir: runtimeDir(), timeoutMs });
  } catch (error) {
    if (error instanceof ControlError && error.code === "not-found" && await removeLeftDevice(options, terminal)) {
      return ExitCode.OK;
    }
    throw error;
  }
  let unclean;
  try {
    ({ unclean } = await client.request("client.detach", { force: options.force ?? false }));
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== "timeout") throw error;
    throw new ControlError(
      "timeout",
      `${poolName} is still being detached after ${
        timeoutMs / 1000
      } s: it waits for legs, or for who has it open. It goes on, ` +
        `and requests that wait will fail. "brmr list" shows when it is gone.`,
    );
  } finally {
    client.close();
  }
  terminal.out(`${poolName} is detached\n`);
  if (unclean === undefined) return ExitCode.OK;
  terminal.err(`warning: not in an orderly way. ${unclean}. Nothing that was flushed is lost.\n`);
  return ExitCode.DEGRADED;
}

/** Removes the device that a dead client of the pool has left; false when there is none. */
async function removeLeftDevice({ pool, force }: DetachOptions, terminal: Terminal): Promise<boolean> {
  const dir = runtimeDir();
  const states = await readAttachStates(dir, (text) => terminal.err(text));
  const state = states.find(({ poolName, poolUuid }) => pool === poolName || pool === poolUuid);
  if (state === undefined || state.device === null) return false;
  const [{ isOfPool, removeLeft }, { usesOf }, { DeviceUnavailable }, { removeDeviceLink }] = await Promise.all([
    import("../lib/frontend/left_device.ts"),
    import("../lib/frontend/device_use.ts"),
    import("../lib/frontend/device_unavailable.ts"),
    import("../lib/node/device_link.ts"),
  ]);
  const { poolName, poolUuid, device } = state;
  if (!isOfPool(device, poolUuid)) return false;
  const uses = usesOf(device);
  if (uses.length > 0 && !force) {
    throw new ControlError(
      "in-use",
      `${device}, which a dead attach has left, is ${
        uses.join(", ")
      }. Attach ${poolName} again to serve it, or take it ` +
        `away with --force.`,
    );
  }
  try {
    removeLeft(device);
  } catch (error) {
    if (error instanceof DeviceUnavailable) throw new ControlError("device", error.message);
    throw error;
  }
  removeDeviceLink(poolName, device);
  await clear(dir, poolName);
  terminal.out(`${device}, which a dead attach of ${poolName} had left, is removed\n`);
  return true;
}
