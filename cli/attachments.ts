/**
 * What is attached on this machine: clients that run, and what clients that are gone have left.
 *
 * @module
 */

import { type AttachState, readAttachStates, removeAttachState } from "../lib/control/attach_state.ts";
import { clientSocketPath, runtimeDir } from "../lib/control/runtime_dir.ts";
import { attachedClients } from "./attached_clients.ts";

/** A pool that is attached here, or was. */
export interface Attachment {
  readonly poolName: string;
  readonly poolUuid: string;
  /** As the client says ("ready", "waiting", …); "left": there is no process, but its device waits for the next attach. */
  readonly state: string;
  /** "/dev/ublkb0", "/dev/nbd0"; null without a block device. */
  readonly device: string | null;
  /** Other places where the pool is offered. */
  readonly sockets: readonly string[];
  /** Of the client, or of the one that is gone. */
  readonly pid: number;
  /** Who uses the device, in plain words. */
  readonly uses: readonly string[];
}

/** The kernel, as far as devices are concerned. */
export interface DeviceView {
  isOfPool(device: string, poolUuid: string): boolean;
  usesOf(device: string): string[];
  /** Removes the pool's link to the device. */
  removeLink(poolName: string, device: string): void;
}

/** All of them, by name of pool. What a dead client left of which nothing remains is cleared away. */
export async function findAttachments(view: DeviceView, warn: (text: string) => void): Promise<Attachment[]> {
  const dir = runtimeDir();
  const running = (await attachedClients(warn)).map((client): Attachment => {
    const uris = client.uris ?? [client.uri];
    return {
      poolName: client.snapshot.poolName,
      poolUuid: client.snapshot.poolUuid,
      state: client.snapshot.state,
      device: client.device ?? null,
      sockets: uris.filter((uri) => uri !== "" && uri !== client.device),
      pid: client.pid,
      uses: client.uses ?? [],
    };
  });
  const left: Attachment[] = [];
  for (const state of await readAttachStates(dir, warn)) {
    if (running.some(({ poolName }) => poolName === state.poolName)) continue;
    if (isLeft(state, running, view)) {
      const { poolName, poolUuid, pid, device } = state;
      left.push({ poolName, poolUuid, state: "left", device, sockets: [], pid, uses: view.usesOf(device!) });
    } else {
      if (state.device !== null) view.removeLink(state.poolName, state.device);
      await clear(dir, state.poolName);
    }
  }
  return [...running, ...left].sort((a, b) => a.poolName < b.poolName ? -1 : 1);
}

function isLeft({ device, poolUuid }: AttachState, running: readonly Attachment[], view: DeviceView): boolean {
  if (device === null || running.some((attachment) => attachment.device === device)) return false;
  return view.isOfPool(device, poolUuid);
}

/** Removes the files of a dead client: its state, and a socket that nobody answers on. */
export async function clear(dir: string, poolName: string): Promise<void> {
  removeAttachState(dir, poolName);
  const path = clientSocketPath(dir, poolName);
  try {
    (await Deno.connect({ transport: "unix", path })).close(); // one that starts just now keeps its socket
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) await Deno.remove(path);
    else if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
