/**
 * What an operator does to a pool that exists: delete it, steer its resync.
 *
 * @module
 */

import { ControlError } from "./control_api.ts";
import type { NodeConnections } from "./node_connections.ts";
import type { FoundLeg, FoundPool } from "./pool_lookup.ts";

/** What became of each leg. */
export interface DeletedPool {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly deleted: readonly { readonly legIndex: number; readonly address: string; readonly path: string }[];
  /** Legs that their nodes did not have any more. */
  readonly gone: readonly { readonly legIndex: number; readonly address: string }[];
  /** Legs that could not be reached and still exist, with the reason. */
  readonly left: readonly { readonly legIndex: number; readonly address: string; readonly message: string }[];
}

/**
 * Deletes every leg of `pool`, and what its nodes have of it besides. Without `force`, refuses when it is attached or a leg cannot
 * be reached, before anything is deleted; with it, deletes what can be reached and reports the rest.
 * @throws {ControlError} "in-use", "unreachable", or what a node answered.
 */
export async function deletePool(pool: FoundPool, force: boolean, nodes: NodeConnections): Promise<DeletedPool> {
  if (pool.heldBy !== null && !force) {
    throw new ControlError(
      "in-use",
      `Pool "${pool.poolName}" is attached by ${pool.heldBy}. Detach it first with "brmr detach ${pool.poolName}".`,
    );
  }
  // Gone: an earlier deletion got that far.
  const gone = pool.legs.filter((leg) => leg.isGone).map(({ legIndex, address }) => ({ legIndex, address }));
  const away = pool.legs.filter((leg) => leg.status === null && !leg.isGone);
  if (away.length > 0 && !force) {
    throw new ControlError(
      "unreachable",
      `Leg ${
        away.map((leg) => `${leg.legIndex} (${leg.address}${leg.problem ? `: ${leg.problem}` : ""})`).join(", ")
      } of pool "${pool.poolName}" cannot be reached or served, and would be left behind. Bring it back, or add --force to ` +
        `delete the others.`,
    );
  }
  const deleted: { legIndex: number; address: string; path: string }[] = [];
  const left = away.map((leg) => ({ legIndex: leg.legIndex, address: leg.address, message: leg.problem ?? "" }));
  const members = pool.legs.flatMap(({ legIndex, legUuid, address, status }) => {
    return status === null ? [] : [{ legIndex, legUuid, address, path: status.path }];
  });
  for (const { legIndex, legUuid, address, path } of [...members, ...pool.strays]) {
    try {
      const client = await nodes.get(address);
      await client.request("leg.delete", { poolUuid: pool.poolUuid, legUuid, force });
      deleted.push({ legIndex, address, path });
    } catch (error) {
      if (deleted.length === 0 && !force) throw error; // nothing has happened yet: the plain refusal says it best
      left.push({ legIndex, address, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return { poolUuid: pool.poolUuid, poolName: pool.poolName, deleted, gone, left };
}

/** How resync shall go on. Absent: as it is. */
export interface ResyncSetting {
  readonly paused?: boolean;
  /** 0 lifts the limit. */
  readonly rateBytesPerSecond?: number;
}

/** Which nodes took a resync setting. */
export interface ResyncSet {
  readonly set: readonly { readonly address: string; readonly legs: number }[];
  readonly missed: readonly { readonly address: string; readonly message: string }[];
}

/**
 * Applies `setting` to every reachable node of `pool`.
 * @throws {ControlError} what a node answered, when none took it.
 */
export async function setResync(
  pool: FoundPool,
  setting: ResyncSetting,
  nodes: NodeConnections,
): Promise<ResyncSet> {
  const set: { address: string; legs: number }[] = [];
  const missed = new Map<string, string>();
  const asked = new Set<string>();
  for (const leg of pool.legs) {
    if (asked.has(leg.address)) continue;
    asked.add(leg.address);
    if (!isReachable(leg)) {
      missed.set(leg.address, leg.problem ?? "");
      continue;
    }
    const answer = await nodes.tryAsk(
      leg.address,
      (client) => client.request("resync.set", { pool: pool.poolUuid, ...setting }),
    );
    if (answer !== null) set.push({ address: leg.address, legs: answer.legs });
    else missed.set(leg.address, nodes.failures.find((failure) => failure.address === leg.address)?.message ?? "");
  }
  if (set.length === 0) throw new ControlError("unreachable", [...missed.values()].join("\n"));
  return { set, missed: [...missed].map(([address, message]) => ({ address, message })) };
}

function isReachable(leg: FoundLeg): boolean {
  return leg.status !== null;
}
