/**
 * Finds pools. Any one reachable node is enough: the newest epoch record it holds names the nodes of all other legs, and
 * those are asked in turn until no new address comes up. Nodes that do not answer are reported, never silently left out.
 *
 * @module
 */

import { compareRank, type SharedEpoch } from "../disk_format/records.ts";
import { type BrokenLeg, ControlError, type LegStatus, type NodeOperations } from "./control_api.ts";
import { canonicalNodeAddress } from "./node_address.ts";
import type { NodeConnections, NodeFailure } from "./node_connections.ts";

/** One leg of a found pool. */
export interface FoundLeg {
  readonly legIndex: number;
  readonly legUuid: string;
  /** Where the leg table says its node is. */
  readonly address: string;
  readonly isInSyncMember: boolean;
  /** What its node says; null when the node was not reached or does not have it. */
  readonly status: LegStatus | null;
  /** Why there is no status, else null. */
  readonly problem: string | null;
  /** Its node answers and has it no more, not even as a leg that it cannot serve: deleted, or replaced. */
  readonly isGone: boolean;
}

/** A leg of a pool that a node has and the pool's table does not: formatted and not taken in, or removed. Never trusted. */
export interface StrayLeg {
  readonly address: string;
  readonly path: string;
  readonly legUuid: string;
  readonly legIndex: number;
  /** The leg of the same index in whose place it was made; "" for none. */
  readonly replacesUuid: string;
}

/** A pool as its reachable nodes describe it. */
export interface FoundPool {
  readonly poolUuid: string;
  readonly poolName: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly logicalBlockBytes: number;
  readonly extentBytes: number;
  readonly hotExtentCount: number;
  /** The highest-ranked record among the reachable legs. */
  readonly record: SharedEpoch;
  readonly legs: readonly FoundLeg[];
  /** Who has it attached, as the legs know; null when nobody does. */
  readonly heldBy: string | null;
  /** Nobody has it attached, and its legs reconcile or resync by themselves. */
  readonly isCaredFor: boolean;
  /** The node at which an operator's session of the pool runs; null when none does, as far as is known. */
  readonly operatorAt: string | null;
  readonly unreachable: readonly NodeFailure[];
  /** What its nodes have of it besides. */
  readonly strays: readonly StrayLeg[];
}

/** Of an index that nothing is at. `known`: what could have been meant. */
export function noLegText(pool: FoundPool, legIndex: number, known = pool.legs.map((leg) => leg.legIndex)): string {
  return `Pool "${pool.poolName}" has no leg ${legIndex}. Its legs are ${known.join(", ")}.`;
}

/** A node that answered, and what it says of itself. */
export type FoundNode =
  & { readonly address: string }
  & Readonly<Omit<NodeOperations["node.info"]["result"], "address" | "legs" | "broken">>;

/** What a search over nodes saw. */
export interface FoundPools {
  readonly pools: readonly FoundPool[];
  /** Nodes that answered, in no order, at the addresses by which they were asked: one may be there twice. */
  readonly nodes: readonly FoundNode[];
  /** Legs that a node knows and cannot serve. */
  readonly broken: readonly (BrokenLeg & { readonly address: string })[];
  readonly unreachable: readonly NodeFailure[];
}

interface Sighting {
  readonly address: string;
  readonly leg: LegStatus;
  readonly hasOperator: boolean;
}

/** What a node says of the legs that it has. */
interface NodeAnswer {
  readonly legs: readonly LegStatus[];
  readonly hasOperator?: boolean;
}

/**
 * The pool called `pool` (name or UUID), searched from `addresses`.
 * @throws {ControlError} "not-found" when every node answers and none knows it, "unreachable" when none of those that answer does
 *   and others do not, "bad-request" when the name stands for two pools.
 */
export async function findPool(pool: string, addresses: readonly string[], nodes: NodeConnections): Promise<FoundPool> {
  const broken: BrokenLeg[] = [];
  const sightings = await searchFrom(addresses, nodes, async (address) => {
    return await nodes.tryAsk<NodeAnswer>(address, async (client) => {
      broken.push(...(await client.request("node.info", {})).broken);
      return await client.request("pool.status", { pool }).catch((error) => {
        if (error instanceof ControlError && error.code === "not-found") return { legs: [] };
        throw error;
      });
    });
  });
  const pools = groupByPool(sightings, nodes.failures, broken);
  if (pools.length === 1) return pools[0];
  if (pools.length === 0) {
    const missed = nodes.failures.map((failure) => failure.address);
    // Those that are silent may know it: whoever waits for them must not take this for the last word.
    throw new ControlError(
      missed.length === 0 ? "not-found" : "unreachable",
      `No reachable storage node knows a pool called "${pool}". Look with "brmr pool list"` +
        (missed.length === 0 ? "." : `; ${missed.join(", ")} did not answer.`),
    );
  }
  const uuids = pools.map((found) => `${found.poolUuid} (${found.legs.map((leg) => leg.address).join(", ")})`);
  throw new ControlError(
    "bad-request",
    `"${pool}" stands for ${uuids.join(" and ")}. Give the UUID of the one you mean.`,
  );
}

/** All pools that the nodes at `addresses`, and the nodes these lead to, have legs of. Sorted by name. */
export async function findAllPools(addresses: readonly string[], nodes: NodeConnections): Promise<FoundPools> {
  const broken: (BrokenLeg & { address: string })[] = [];
  const found: FoundNode[] = [];
  const sightings = await searchFrom(addresses, nodes, async (address) => {
    const info = await nodes.tryAsk(address, (client) => client.request("node.info", {}));
    if (info === null) return null;
    const { nodeName, version, pid, residentBytes, bufferBytes } = info;
    found.push({ address, nodeName, version, pid, residentBytes, bufferBytes });
    for (const leg of info.broken) broken.push({ ...leg, address });
    return { legs: info.legs };
  });
  const unreachable = nodes.failures;
  return { pools: groupByPool(sightings, unreachable, broken), nodes: found, broken, unreachable };
}

/** Asks `addresses`, then every address that the answers' leg tables name, until there is no new one. */
async function searchFrom(
  addresses: readonly string[],
  nodes: NodeConnections,
  ask: (address: string) => Promise<NodeAnswer | null>,
): Promise<Sighting[]> {
  if (addresses.length === 0) throw noNodes();
  const sightings: Sighting[] = [];
  const asked = new Set<string>();
  let answerCount = 0;
  let wave = [...new Set(addresses.map(canonicalNodeAddress))];
  while (wave.length > 0) {
    for (const address of wave) asked.add(address);
    const answers = await Promise.all(wave.map(async (address) => ({ address, answer: await ask(address) })));
    const next = new Set<string>();
    for (const { address, answer } of answers) {
      if (answer === null) continue;
      answerCount++;
      for (const leg of answer.legs) {
        sightings.push({ address, leg, hasOperator: answer.hasOperator ?? false });
        for (const entry of leg.snapshot.record.shared.legs) {
          if (entry !== null) next.add(canonicalNodeAddress(entry.address));
        }
      }
    }
    wave = [...next].filter((address) => !asked.has(address));
  }
  if (answerCount === 0) {
    throw new ControlError("unreachable", nodes.failures.map((failure) => failure.message).join("\n"));
  }
  return sightings;
}

function groupByPool(
  sightings: readonly Sighting[],
  failures: readonly NodeFailure[],
  broken: readonly BrokenLeg[],
): FoundPool[] {
  const groups = new Map<string, Sighting[]>();
  for (const sighting of sightings) {
    const { poolUuid } = sighting.leg.snapshot;
    groups.set(poolUuid, [...groups.get(poolUuid) ?? [], sighting]);
  }
  const pools = [...groups.values()].map((group) => describePool(group, failures, broken));
  return pools.sort((a, b) => a.poolName === b.poolName ? 0 : a.poolName < b.poolName ? -1 : 1);
}

function describePool(
  group: readonly Sighting[],
  failures: readonly NodeFailure[],
  broken: readonly BrokenLeg[],
): FoundPool {
  let record = group[0].leg.snapshot.record.shared;
  for (const { leg } of group) {
    if (compareRank(leg.snapshot.record.shared, record) > 0) record = leg.snapshot.record.shared;
  }
  const { snapshot } = group[0].leg;
  const legs: FoundLeg[] = [];
  for (const [legIndex, entry] of record.legs.entries()) {
    if (entry === null) continue;
    // By UUID: one node may be known under two addresses, and then shows up twice.
    const sighting = group.find((candidate) => candidate.leg.snapshot.legUuid === entry.uuid);
    const failure = failures.find((candidate) => candidate.address === canonicalNodeAddress(entry.address));
    const brokenLeg = broken.find(({ legUuid }) => legUuid === entry.uuid);
    legs.push({
      legIndex,
      legUuid: entry.uuid,
      address: entry.address,
      isInSyncMember: (record.inSyncMask >> legIndex & 1) === 1,
      status: sighting?.leg ?? null,
      problem: sighting !== undefined ? null : pendingText(group, legIndex, entry.uuid) ?? failure?.message ??
        notServedText(entry.address, brokenLeg),
      isGone: sighting === undefined && failure === undefined && brokenLeg === undefined,
    });
  }
  const sessions = group.map(({ leg }) => leg.snapshot.session).filter((session) => session !== null);
  const holder = sessions.filter((session) => !session.isCaretaker).sort((a, b) => b.generation - a.generation)[0];
  return {
    poolUuid: snapshot.poolUuid,
    poolName: snapshot.poolName,
    sizeBytes: snapshot.sizeBytes,
    chunkBytes: snapshot.chunkBytes,
    logicalBlockBytes: snapshot.logicalBlockBytes,
    extentBytes: snapshot.extentBytes,
    hotExtentCount: snapshot.hotExtentLimit,
    record,
    legs,
    heldBy: holder?.clientName ?? null,
    isCaredFor: holder === undefined && sessions.length > 0,
    operatorAt: group.find(({ hasOperator }) => hasOperator)?.address ?? null,
    strays: straysOf(group, record),
    unreachable: failures.filter((failure) =>
      legs.some((leg) => canonicalNodeAddress(leg.address) === failure.address)
    ),
  };
}

/** Legs that are not in the table, each once: one node may be known under two addresses. */
function straysOf(group: readonly Sighting[], record: SharedEpoch): StrayLeg[] {
  const strays = new Map<string, StrayLeg>();
  for (const { address, leg: { path, snapshot: { legUuid, legIndex, replacesUuid } } } of group) {
    if (record.legs.some((entry) => entry?.uuid === legUuid) || strays.has(legUuid)) continue;
    strays.set(legUuid, { address, path, legUuid, legIndex, replacesUuid });
  }
  return [...strays.values()];
}

/** Why a node that answers has no status of its leg; `broken` is what it says itself. */
function notServedText(address: string, broken: BrokenLeg | undefined): string {
  return broken === undefined
    ? `The storage node ${address} answers, but does not have this leg. Look at its log.`
    : `The storage node ${address} cannot serve it: ${broken.message}`;
}

/** That a disk waits to be taken in place of leg `legUuid`; null when none does. */
function pendingText(group: readonly Sighting[], legIndex: number, legUuid: string): string | null {
  const pending = group.find(({ leg: { snapshot } }) =>
    snapshot.legIndex === legIndex && snapshot.replacesUuid === legUuid
  );
  if (pending === undefined) return null;
  return `${pending.leg.path} is to take its place: the pool takes it in when it reaches it, and enough others are there.`;
}

/** The error of a command that was told of no node. */
export function noNodes(): ControlError {
  return new ControlError(
    "bad-request",
    'No storage node is given. Add --node HOST:PORT, set BRMR_NODES, or write `nodes = ["HOST:PORT"]` into the config file.',
  );
}
