/**
 * Makes a pool: all of its legs, or nothing.
 *
 * 1. Every node is reached and every path looked at before anything is made; one refusal and nothing has happened.
 * 2. The legs are made one after the other. When one fails, those made before it are deleted again.
 *
 * Legs that are known to be equal start in sync: files made sparse just now, which read as zeroes. Of anything else we
 * know nothing (an empty-looking device may hold old blocks), and doubt means dirty: then leg 0 alone starts in sync
 * and its content becomes the pool's; the others are all dirty and pull everything.
 *
 * @module
 */

import { formatBytes } from "../base/units.ts";
import type { LegEntry, SharedEpoch } from "../disk_format/records.ts";
import { ControlError, type LegCreate, type LegProbe } from "./control_api.ts";
import { isLoopbackHost, parseNodeAddress } from "./node_address.ts";
import type { NodeConnections } from "./node_connections.ts";
import {
  checkPoolPlan,
  DEFAULT_CHUNK_BYTES,
  DEFAULT_EXTENT_BYTES,
  DEFAULT_HOT_EXTENT_COUNT,
  DEFAULT_IO_TIMEOUT_MS,
  defaultMinInSync,
  type PoolPlan,
} from "./pool_rules.ts";

/** A pool that now exists. */
export interface CreatedPool {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly logicalBlockBytes: number;
  readonly minInSync: number;
  readonly legs: readonly {
    readonly legIndex: number;
    readonly legUuid: string;
    readonly address: string;
    readonly path: string;
    readonly isInSync: boolean;
  }[];
  /** What the creator may not have meant, one sentence each. */
  readonly warnings: readonly string[];
}

/** What creation takes from its surroundings, for tests. */
export interface CreationSources {
  readonly newUuid?: () => string;
  readonly nowMs?: () => number;
}

/**
 * Makes the pool that `plan` describes.
 * @throws {ControlError} "bad-request" (the plan), "exists", "foreign-data", "device", "unreachable", "refused".
 */
export async function createPool(
  plan: PoolPlan,
  nodes: NodeConnections,
  sources: CreationSources = {},
): Promise<CreatedPool> {
  checkPoolPlan(plan);
  await refuseTakenName(plan, nodes);
  const probes = await probeLegs(plan, nodes);
  const requests = planLegs(plan, probes, sources);
  await createLegs(plan, requests, nodes);
  const { shared, poolUuid, chunkBytes, logicalBlockBytes } = requests[0];
  return {
    poolUuid,
    poolName: plan.poolName,
    sizeBytes: plan.sizeBytes,
    chunkBytes,
    logicalBlockBytes,
    minInSync: shared.minInSync,
    legs: requests.map((request, legIndex) => ({
      legIndex,
      legUuid: request.legUuid,
      address: plan.legs[legIndex].address,
      path: request.path,
      isInSync: (shared.inSyncMask >> legIndex & 1) === 1,
    })),
    warnings: warningsAbout(plan, shared, probes),
  };
}

/** Two pools of one name on a node could not be told apart by name. */
async function refuseTakenName(plan: PoolPlan, nodes: NodeConnections): Promise<void> {
  const addresses = [...new Set(plan.legs.map((leg) => leg.address))];
  await Promise.all(addresses.map(async (address) => {
    const client = await nodes.get(address);
    const info = await client.request("node.info", {});
    const isTaken = info.legs.some((leg) => leg.snapshot.poolName === plan.poolName) ||
      info.broken.some(({ leg }) => leg?.poolName === plan.poolName);
    if (isTaken) {
      throw new ControlError(
        "exists",
        `The storage node ${address} already has a pool called "${plan.poolName}". ` +
          `Choose another name, or delete it with "brmr pool delete ${plan.poolName}".`,
      );
    }
  }));
}

async function probeLegs(plan: PoolPlan, nodes: NodeConnections): Promise<LegProbe[]> {
  const probes = await Promise.all(plan.legs.map(async (leg) => {
    const client = await nodes.get(leg.address);
    return await client.request("leg.probe", { path: leg.path, signaturesOnly: plan.force === true });
  }));
  for (const [index, probe] of probes.entries()) {
    const { address, path } = plan.legs[index];
    if (probe.found !== null && plan.force !== true) {
      throw new ControlError(
        "foreign-data",
        `${path} on ${address} carries ${probe.found}. Choose another path, or add --force to overwrite it.`,
      );
    }
  }
  return probes;
}

function planLegs(plan: PoolPlan, probes: readonly LegProbe[], sources: CreationSources): LegCreate[] {
  const newUuid = sources.newUuid ?? (() => crypto.randomUUID());
  const nowMs = (sources.nowMs ?? Date.now)();
  const isFresh = probes.every(isBlank);
  // With one leg in sync a pool that wants two could never start, hence never resync.
  const minInSync = plan.minInSync ?? (isFresh ? defaultMinInSync(plan.legs.length) : 1);
  if (!isFresh && minInSync > 1) {
    throw new ControlError(
      "refused",
      `Not all legs are new files, so all but the first must be filled by resync, and until then the pool has one leg ` +
        `in sync; min-in-sync ${minInSync} would keep it from starting. Leave out --min-in-sync, or use new files.`,
    );
  }
  const legUuids = plan.legs.map(() => newUuid());
  const legs: LegEntry[] = plan.legs.map((leg, index) => {
    const isInSync = isFresh || index === 0;
    return {
      uuid: legUuids[index],
      address: leg.address,
      mapIncarnation: 1,
      mapDefaultDirty: !isInSync,
      outSinceMs: isInSync ? 0 : nowMs,
      isDrained: false,
    };
  });
  const shared: SharedEpoch = {
    historyId: newUuid(),
    historyNumber: 0,
    generation: 0,
    clientGeneration: 0,
    epoch: 1,
    inSyncMask: isFresh ? (1 << plan.legs.length) - 1 : 1,
    minInSync,
    ioTimeoutMs: plan.ioTimeoutMs ?? DEFAULT_IO_TIMEOUT_MS,
    legs,
  };
  const poolUuid = newUuid();
  const logicalBlockBytes = Math.max(...probes.map((probe) => probe.logicalBlockBytes));
  return plan.legs.map((leg, legIndex) => ({
    poolUuid,
    poolName: plan.poolName,
    legUuid: legUuids[legIndex],
    legIndex,
    path: leg.path,
    sizeBytes: plan.sizeBytes,
    chunkBytes: plan.chunkBytes ?? DEFAULT_CHUNK_BYTES,
    logicalBlockBytes,
    extentBytes: plan.extentBytes ?? DEFAULT_EXTENT_BYTES,
    hotExtentCount: plan.hotExtentCount ?? DEFAULT_HOT_EXTENT_COUNT,
    force: plan.force ?? false,
    shared,
  }));
}

/** Whether what is at the path is sure to read as zeroes once it is a leg. */
function isBlank(probe: LegProbe): boolean {
  return probe.kind === "absent" || (probe.kind === "file" && probe.sizeBytes === 0);
}

async function createLegs(plan: PoolPlan, requests: readonly LegCreate[], nodes: NodeConnections): Promise<void> {
  for (const [index, request] of requests.entries()) {
    try {
      const client = await nodes.get(plan.legs[index].address);
      await client.request("leg.create", request);
    } catch (error) {
      // The one that failed may have been made too, if only its answer was lost.
      const left = await deleteLegs(plan, requests.slice(0, index + 1), nodes);
      const failure = error instanceof ControlError ? error : new ControlError("internal", String(error));
      throw new ControlError(
        failure.code,
        `Leg ${index} (${plan.legs[index].address}:${request.path}) could not be made: ${failure.message}` +
          (left.length === 0 ? "" : ` What could not be undone: ${left.join("; ")}.`),
      );
    }
  }
}

/** Deletes legs, newest first. Returns a sentence for each that may still be there. */
async function deleteLegs(plan: PoolPlan, requests: readonly LegCreate[], nodes: NodeConnections): Promise<string[]> {
  const left: string[] = [];
  for (const request of [...requests].reverse()) {
    const { address } = plan.legs[request.legIndex];
    try {
      const client = await nodes.get(address);
      await client.request("leg.delete", { poolUuid: request.poolUuid, legUuid: request.legUuid, force: true });
    } catch (error) {
      if (error instanceof ControlError && error.code === "not-found") continue; // never made: nothing to undo
      left.push(`${address}:${request.path} (${error instanceof Error ? error.message : String(error)})`);
    }
  }
  return left;
}

function warningsAbout(plan: PoolPlan, shared: SharedEpoch, probes: readonly LegProbe[]): string[] {
  const warnings: string[] = [];
  for (const [index, probe] of probes.entries()) {
    if (probe.kind !== "file" || probe.sizeBytes === 0 || probe.sizeBytes >= plan.sizeBytes) continue;
    const { address, path } = plan.legs[index];
    warnings.push(`${path} on ${address} was a file of ${formatBytes(probe.sizeBytes)} and was made larger.`);
  }
  if (new Set(plan.legs.map((leg) => leg.address)).size < plan.legs.length) {
    warnings.push("Some legs are on the same storage node: the loss of that node loses them together.");
  }
  const loopback = plan.legs.filter((leg) => isLoopbackHost(parseNodeAddress(leg.address).host));
  if (loopback.length > 0 && loopback.length < plan.legs.length) {
    warnings.push(
      `Only this machine reaches ${
        loopback.map((leg) => leg.address).join(", ")
      }: a storage node on another machine cannot ` +
        "resync from there.",
    );
  }
  if (shared.inSyncMask === 1) {
    warnings.push(
      "Leg 0 is the source: the other legs copy all of it, beginning now, whether the pool is attached or not.",
    );
  }
  return warnings;
}
