/**
 * Replacing the device of a leg, and taking that back.
 *
 * A leg that is in sync is replaced *hot*: a further leg is added that says whose place it takes, and once it is in sync whoever serves the
 * pool removes the other. A leg that is not is replaced *cold*: its node formats the new device, by itself, as a leg in place of the old
 * one; whoever serves the pool takes it in, all dirty, when it reaches it. That needs nobody else, so a node that is cut off does it too.
 *
 * @module
 */

import { compareRank } from "../disk_format/records.ts";
import { ControlError, type LegShape } from "./control_api.ts";
import {
  addLeg,
  type ChangedLeg,
  isLeftover,
  planLeg,
  removeLeg,
  type ServedPool,
  shapeOfPool,
  tableOf,
} from "./leg_changes.ts";
import { doneBy, type NodeConnections } from "./node_connections.ts";
import { type FoundPool, noLegText } from "./pool_lookup.ts";

/** A replacement that has begun. */
export interface Replacement extends ChangedLeg {
  readonly poolUuid: string;
  /** "hot": the old leg stays until the new one, at `legIndex`, is in sync. "cold": the new one has its index. */
  readonly way: "hot" | "cold";
  readonly replacedIndex: number;
  readonly replacedUuid: string;
  /** Whether the node that did it reaches no other leg of the pool. */
  readonly isAlone: boolean;
}

/**
 * Replaces a leg by a new device on the same node, through whoever serves the pool.
 * @throws {ControlError} "not-found", "foreign-data", "refused", or what the node says
 */
export async function replaceLeg(
  served: ServedPool,
  legIndex: number,
  path: string,
  force: boolean,
): Promise<Replacement> {
  const { client, pool, nodes } = served;
  const table = await tableOf(client);
  const leg = table.find((each) => each.legIndex === legIndex);
  if (leg === undefined) throw noSuchLeg(pool, legIndex, path);
  const begun = await begunReplacement(served, leg, path);
  if (begun !== null) return begun;
  if (leg.state === "in-sync") {
    const added = await addLeg(served, { address: leg.address, path }, { force, replacesIndex: legIndex });
    const note = `Leg ${legIndex} stays until it is in sync.`;
    const replaced = { replacedIndex: legIndex, replacedUuid: leg.legUuid };
    return { ...added, ...replaced, poolUuid: pool.poolUuid, way: "hot", isAlone: false, note };
  }
  const shape = shapeOfPool(pool);
  const note = "The client takes it in place of the old one and it copies everything.";
  const tableUuids = table.map((each) => each.legUuid);
  return await replaceCold(nodes, shape, leg.address, leg.legUuid, { legIndex, path, force, tableUuids, note });
}

/** The replacement of `leg` by the leg at `path` that an interrupted command has begun; null when there is none. */
async function begunReplacement(
  { pool, nodes }: ServedPool,
  leg: { readonly legIndex: number; readonly legUuid: string; readonly address: string },
  path: string,
): Promise<Replacement | null> {
  const newIndex = pool.record.legs.findIndex((entry) => entry?.replacesIndex === leg.legIndex);
  if (newIndex < 0) return null;
  const legUuid = pool.record.legs[newIndex]!.uuid;
  const node = await nodes.get(leg.address);
  const { legs } = await node.request("node.info", {});
  if (!legs.some((each) => each.path === path && each.snapshot.legUuid === legUuid)) return null;
  const { poolUuid, poolName } = pool;
  const place = { poolUuid, poolName, legIndex: newIndex, legUuid, address: leg.address, path };
  const note = `It was begun before. Leg ${leg.legIndex} stays until it is in sync.`;
  return { ...place, replacedIndex: leg.legIndex, replacedUuid: leg.legUuid, way: "hot", isAlone: false, note };
}

/** Whoever repeats a replacement after its end is told that it has ended. */
function noSuchLeg(pool: FoundPool, legIndex: number, path: string): ControlError {
  const there = pool.legs.filter((leg) => leg.status?.path === path)
    .map((leg) => ` ${path} on ${leg.address} is leg ${leg.legIndex}: if it was to take its place, that is done.`);
  return new ControlError("not-found", `Pool "${pool.poolName}" has no leg ${legIndex}.${there.join("")}`);
}

/**
 * Replaces a leg cold where nobody serves the pool, or nobody here: its disk is dead, or it is out of the in-sync set.
 * @param pool as its nodes know it; null when none of them serves a leg of it, and a node has to know from its state directory
 * @returns null when the leg works and is in sync: then it takes whoever serves the pool
 * @throws {ControlError} "not-found", "foreign-data", "unreachable", or what the node says
 */
export async function replaceUnserved(
  nodes: NodeConnections,
  addresses: readonly string[],
  name: string,
  pool: FoundPool | null,
  wanted: { readonly legIndex: number; readonly path: string; readonly force: boolean },
): Promise<Replacement | null> {
  const { legIndex } = wanted;
  if (pool !== null) {
    const leg = pool.legs.find((each) => each.legIndex === legIndex);
    if (leg === undefined) throw noSuchLeg(pool, legIndex, wanted.path);
    if (leg.status !== null && leg.isInSyncMember) return null;
    const shape = shapeOfPool(pool);
    const note = noteOf(leg.isInSyncMember && pool.heldBy === null);
    const tableUuids = pool.legs.map((each) => each.legUuid);
    const replacement = await replaceCold(nodes, shape, leg.address, leg.legUuid, { ...wanted, tableUuids, note });
    return { ...replacement, isAlone: pool.legs.every((each) => each.status === null || each === leg) };
  }
  const dead = await deadLeg(nodes, addresses, name, legIndex);
  if (dead === null) {
    throw new ControlError(
      "not-found",
      `No reachable storage node serves a leg of a pool called "${name}", nor knows its leg ${legIndex} as one that it cannot ` +
        `serve. Look with "brmr status".`,
    );
  }
  const { address, shape } = dead;
  const tableUuids = shape.shared.legs.flatMap((entry) => entry === null ? [] : [entry.uuid]);
  const note = noteOf((shape.shared.inSyncMask & (1 << legIndex)) !== 0);
  const replacement = await replaceCold(nodes, shape, address, shape.legUuid, { ...wanted, tableUuids, note });
  return { ...replacement, isAlone: true };
}

/**
 * Takes a replacement back: the new leg goes, the old one stays or comes back.
 * @param withServed runs something with whoever serves the pool
 * @returns what has become of it, in a sentence
 * @throws {ControlError} "refused" when there is none that could be taken back
 */
export async function undoReplacement(
  nodes: NodeConnections,
  pool: FoundPool,
  legIndex: number,
  withServed: <T>(work: (served: ServedPool) => Promise<T>) => Promise<T>,
): Promise<string> {
  const entry = pool.record.legs[legIndex] ?? null;
  if (entry === null) throw new ControlError("not-found", noLegText(pool, legIndex));
  const newIndex = pool.record.legs.findIndex((each) => each?.replacesIndex === legIndex);
  if (newIndex >= 0) {
    const { note } = await withServed((served) => removeLeg(served, pool.record.legs[newIndex]!.uuid));
    return `leg ${newIndex}, which was to replace it, is removed. ${note}`.trimEnd();
  }
  const pending = pool.strays.find((each) => each.legIndex === legIndex && each.replacesUuid === entry.uuid);
  if (pending === undefined) {
    throw new ControlError(
      "refused",
      `Leg ${legIndex} of pool "${pool.poolName}" has no replacement that could be undone. A disk that the pool has taken in is ` +
        `what it relies on, and the one before is never trusted again, whatever is on it; to use that one, replace the ` +
        `leg once more, by it.`,
    );
  }
  const node = await nodes.get(pending.address);
  const { poolUuid } = pool;
  const { path, problem } = await node.request("leg.undoReplace", { poolUuid, legUuid: pending.legUuid });
  return `it is ${path} again` + (problem === "" ? "" : `, which cannot be served: ${problem}`);
}

function noteOf(mayBeMissed: boolean): string {
  return "It is taken in place of the old one, and copies everything, when another leg of the pool is reachable." +
    (mayBeMissed
      ? " The old disk was in sync as far as is known here: unless the pool has gone on without it since, it starts only " +
        "with --force."
      : "");
}

/** What is wanted, and what tells a leftover of ours from a foreign disk. */
interface ColdReplacement {
  readonly legIndex: number;
  readonly path: string;
  readonly force: boolean;
  readonly tableUuids: readonly string[];
  readonly note: string;
}

async function replaceCold(
  nodes: NodeConnections,
  shape: Omit<LegShape, "legUuid" | "legIndex">,
  address: string,
  replacedUuid: string,
  { legIndex, path, force, tableUuids, note }: ColdReplacement,
): Promise<Replacement> {
  const node = await nodes.get(address);
  const isOurs = await doneBy(address, isLeftover(node, shape.poolUuid, tableUuids, path));
  const create = await doneBy(address, planLeg(shape, path, crypto.randomUUID(), legIndex, force || isOurs, node));
  await doneBy(address, node.request("leg.replace", { ...create, replacesUuid: replacedUuid }));
  const { poolUuid, poolName } = shape;
  const place = { poolUuid, poolName, legIndex, legUuid: create.legUuid, address, path };
  return { ...place, replacedIndex: legIndex, replacedUuid, way: "cold", isAlone: false, note };
}

/** The leg as a node knows it that cannot serve it; by the newest record when several do. */
async function deadLeg(
  nodes: NodeConnections,
  addresses: readonly string[],
  name: string,
  legIndex: number,
): Promise<{ readonly address: string; readonly shape: LegShape } | null> {
  let dead: { address: string; shape: LegShape } | null = null;
  for (const address of addresses) {
    const info = await nodes.tryAsk(address, (node) => node.request("node.info", {}));
    for (const { leg } of info?.broken ?? []) {
      if (leg === undefined || leg.legIndex !== legIndex) continue;
      if (leg.poolName !== name && leg.poolUuid !== name) continue;
      if (dead === null || compareRank(leg.shared, dead.shape.shared) > 0) dead = { address, shape: leg };
    }
  }
  return dead;
}
