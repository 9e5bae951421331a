/**
 * What an operator does to the legs of a pool: drain, undrain, add, remove.
 *
 * Each change of the leg table is one record that whoever serves the pool makes (its client, or an operator's session of a storage node); the devices are made and unmade by the storage nodes. Between the
 * two a crash may leave a formatted leg that is in no table. Nothing trusts such a leg: it is recognised by its superblock, and
 * repeating the command takes it up again, or makes it anew.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";
import type { ClientLegSnapshot } from "../core/snapshot.ts";
import {
  type ClientOperations,
  type ControlClient,
  ControlError,
  type LegCreate,
  type LegShape,
  type NodeOperations,
} from "./control_api.ts";
import { isUuid } from "../base/uuid.ts";
import { canonicalNodeAddress, type LegPlace, parseLegPlace } from "./node_address.ts";
import { doneBy, type NodeConnections } from "./node_connections.ts";
import type { FoundPool } from "./pool_lookup.ts";

/** Whoever serves the pool, and the pool as the nodes know it. */
export interface ServedPool {
  /** The client, or the operator's session of a node. */
  readonly client: ControlClient<ClientOperations>;
  readonly pool: FoundPool;
  readonly nodes: NodeConnections;
}

/** What became of a leg. */
export interface ChangedLeg {
  readonly poolName: string;
  readonly legIndex: number;
  readonly legUuid: string;
  readonly address: string;
  readonly path: string | null;
  /** What is left to do or to know, in a sentence; "" when nothing is. */
  readonly note: string;
}

/** The leg table as whoever serves the pool has it, which is the one in force. */
export async function tableOf(client: ControlClient<ClientOperations>): Promise<readonly ClientLegSnapshot[]> {
  return (await client.request("client.status", {})).snapshot.legs;
}

/**
 * Makes the device at `place` a leg, and puts it into the leg table, all dirty.
 * @param replacesIndex the leg that is removed once this one is in sync; -1 for none
 * @throws {ControlError} "exists" (it is a leg of the pool), "foreign-data", "refused", or what the node says
 */
export async function addLeg(
  served: ServedPool,
  place: LegPlace,
  options: { readonly force: boolean; readonly replacesIndex: number },
): Promise<ChangedLeg> {
  const { client, pool, nodes } = served;
  const table = await tableOf(client);
  const node = await nodes.get(place.address);
  const legIndex = freeIndex(table);
  const made = await doneBy(place.address, existingLeg(node, pool, place.path));
  if (made !== null && table.some((leg) => leg.legUuid === made.legUuid)) {
    const { legIndex: index } = table.find((leg) => leg.legUuid === made.legUuid) as ClientLegSnapshot;
    throw new ControlError(
      "exists",
      `${place.path} on ${place.address} is leg ${index} of pool "${pool.poolName}" already.`,
    );
  }
  let legUuid: string;
  let index = legIndex;
  if (made !== null && !table.some((leg) => leg.legIndex === made.legIndex) && !made.isReplacement) {
    // Formatted by a command that did not get further: it is taken up where it stopped.
    ({ legUuid, legIndex: index } = made);
  } else {
    if (made !== null) {
      await node.request("leg.delete", { poolUuid: pool.poolUuid, legUuid: made.legUuid, force: true });
    }
    legUuid = crypto.randomUUID();
    const tableUuids = table.map((leg) => leg.legUuid);
    const force = options.force || (made === null && await isLeftover(node, pool.poolUuid, tableUuids, place.path));
    const plan = planLeg(shapeOfPool(pool), place.path, legUuid, legIndex, force, node);
    await doneBy(place.address, plan.then((leg) => node.request("leg.create", leg)));
  }
  const { replacesIndex } = options;
  try {
    const address = place.address;
    await client.request("client.changeLegs", { kind: "add", legIndex: index, legUuid, address, replacesIndex });
  } catch (error) {
    // Only what this command made goes again, and only when the client said no; after a silence the leg may be in the table.
    if (made === null && error instanceof ControlError && error.code === "refused") {
      await node.request("leg.delete", { poolUuid: pool.poolUuid, legUuid, force: true });
    }
    throw error;
  }
  const note = "It copies everything from the legs that are in sync.";
  return { poolName: pool.poolName, legIndex: index, legUuid, address: place.address, path: place.path, note };
}

/**
 * Takes a leg out of the pool, and has its node forget it; a leg that is in no table any more is only forgotten.
 * @param leg its index; or what names it when another leg has that index by now: its UUID, or its place, HOST:PORT:/PATH
 * @throws {ControlError} "refused", "not-found", "bad-request" (the leg is named by none of these)
 */
export async function removeLeg(served: ServedPool, leg: number | string): Promise<ChangedLeg> {
  const { client, pool, nodes } = served;
  const table = await tableOf(client);
  // By the table in force: if only a node of a former leg was asked, what it knows of the pool is old.
  const strays = [...pool.strays, ...reachedLegs(pool)].filter((each) => {
    return !table.some(({ legUuid }) => legUuid === each.legUuid);
  });
  const isMeant = meaningOf(leg, pool);
  const member = table.find(isMeant);
  const meant = strays.filter(isMeant);
  if (member === undefined && meant.length === 0) {
    throw new ControlError(
      "not-found",
      `Pool "${pool.poolName}" has no leg ${leg}, as far as the nodes that were asked know. See "brmr pool show"; a leg that ` +
        `was removed while its node was away is found when that node is named with --node.`,
    );
  }
  if (member !== undefined && meant.length > 0) {
    const ways = meant.map((stray) => `"${removalOf(pool.poolName, stray)}"`);
    throw new ControlError(
      "refused",
      `Index ${leg} stands for two legs: ${member.address} has the one that is in the pool, and ` +
        `${meant.map((stray) => `${stray.address}:${stray.path}`).join(", ")} one that is not. Erase the latter with ` +
        `${ways.join(", ")}, or name the former by its UUID, ${member.legUuid}.`,
    );
  }
  if (member !== undefined) await client.request("client.changeLegs", { kind: "remove", legIndex: member.legIndex });
  const forgotten = member === undefined ? meant : [member];
  const { address, legUuid, legIndex } = forgotten[0];
  let note = "";
  for (const each of forgotten) note ||= await forgetLeg(nodes, pool, each);
  if (member !== undefined) {
    note = [note, restText(table.length - 1, pool.record.minInSync)].filter((text) => text).join(" ");
  }
  return { poolName: pool.poolName, legIndex, legUuid, address, path: null, note };
}

/** What is worth knowing of a pool that has `count` legs now; "" for nothing. */
function restText(count: number, minInSync: number): string {
  if (count === 1) return "One leg is left: there is no second copy.";
  if (count > minInSync) return "";
  return `${count} legs are left, and min-in-sync is ${minInSync}: I/O waits as soon as one of them is lost.`;
}

/** Legs of the table as its reachable nodes have it. */
function reachedLegs(pool: FoundPool): NamedLeg[] {
  return pool.legs.flatMap(({ status, legIndex, legUuid, address }) => {
    return status === null ? [] : [{ legIndex, legUuid, address, path: status.path }];
  });
}

/** What a leg can be named by. */
interface NamedLeg {
  readonly legIndex: number;
  readonly legUuid: string;
  readonly address: string;
  readonly path?: string;
}

/** Tells whether a leg is the one that was named. */
function meaningOf(leg: number | string, pool: FoundPool): (candidate: NamedLeg) => boolean {
  if (typeof leg === "number") return (candidate) => candidate.legIndex === leg;
  if (isUuid(leg)) return (candidate) => candidate.legUuid === leg;
  const place = parseLegPlace(leg);
  const atPlace = [...pool.strays, ...reachedLegs(pool)].filter(({ address, path }) => {
    return path === place.path && canonicalNodeAddress(address) === place.address;
  });
  return (candidate) => atPlace.some(({ legUuid }) => legUuid === candidate.legUuid);
}

/** The command that erases exactly this leg, wherever it is. */
export function removalOf(
  poolName: string,
  leg: { readonly legUuid: string; readonly address: string },
): string {
  return `brmr leg remove ${poolName} ${leg.legUuid} --node ${leg.address}`;
}

/** Makes the node of a leg that is in no table any more forget it. Returns "", or what is left to do. */
export async function forgetLeg(
  nodes: NodeConnections,
  pool: { readonly poolUuid: string; readonly poolName: string },
  leg: { readonly address: string; readonly legUuid: string },
): Promise<string> {
  try {
    const node = await nodes.get(leg.address);
    await node.request("leg.delete", { poolUuid: pool.poolUuid, legUuid: leg.legUuid, force: true });
    return "";
  } catch (error) {
    if (!(error instanceof ControlError) || error.code === "internal") throw error;
    if (error.code === "not-found") return "";
    return `Its node could not erase it (${error.message}). It is a stranger to the pool now and is never trusted; ` +
      `when its node is back, "${removalOf(pool.poolName, leg)}" erases it.`;
  }
}

function freeIndex(table: readonly ClientLegSnapshot[]): number {
  for (let index = 0; index < MAX_LEGS; index++) if (!table.some((leg) => leg.legIndex === index)) return index;
  throw new ControlError("refused", `The pool has ${MAX_LEGS} legs, which is the most. Remove one first.`);
}

/** The leg of this pool that the node serves at `path`, if it does. */
async function existingLeg(
  node: ControlClient<NodeOperations>,
  pool: FoundPool,
  path: string,
): Promise<{ legUuid: string; legIndex: number; isReplacement: boolean } | null> {
  const { legs } = await node.request("node.info", {});
  const snapshot = legs.find((leg) => leg.path === path && leg.snapshot.poolUuid === pool.poolUuid)?.snapshot;
  if (snapshot === undefined) return null;
  return { legUuid: snapshot.legUuid, legIndex: snapshot.legIndex, isReplacement: snapshot.replacesUuid !== "" };
}

/** Whether what is at `path` is a leg of this pool that is in no table: formatted and left, or removed. */
export async function isLeftover(
  node: ControlClient<NodeOperations>,
  poolUuid: string,
  tableUuids: readonly string[],
  path: string,
): Promise<boolean> {
  const { leg, found } = await node.request("leg.probe", { path, signaturesOnly: true });
  if (found === null || leg === null) return false;
  return leg.poolUuid === poolUuid && !tableUuids.includes(leg.legUuid);
}

/** What legs of this pool are like. */
export function shapeOfPool(pool: FoundPool): Omit<LegShape, "legUuid" | "legIndex"> {
  const { poolUuid, poolName, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes, hotExtentCount, record } = pool;
  return {
    ...{ poolUuid, poolName, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes, hotExtentCount },
    shared: record,
  };
}

/**
 * What a leg at `path` is to be made of.
 * @throws {ControlError} "foreign-data", which says what is on the device
 */
export async function planLeg(
  shape: Omit<LegShape, "legUuid" | "legIndex">,
  path: string,
  legUuid: string,
  legIndex: number,
  force: boolean,
  node: ControlClient<NodeOperations>,
): Promise<LegCreate> {
  const { found } = await node.request("leg.probe", { path, signaturesOnly: force });
  if (found !== null && !force) {
    throw new ControlError(
      "foreign-data",
      `${path} carries ${found}. Choose another path, or add --force to overwrite it.`,
    );
  }
  // It ranks below every record of the pool's: it says where the others are, and nothing about who is in sync.
  const lowest = { historyNumber: 0, generation: 0, clientGeneration: 0, epoch: 0 };
  const inSyncMask = shape.shared.inSyncMask & ~(1 << legIndex);
  return { ...shape, legUuid, legIndex, path, force, shared: { ...shape.shared, ...lowest, inSyncMask } };
}
