/**
 * Where in the address space a leg lacks data, as the in-sync legs of its pool know: their maps, merged.
 *
 * Each in-sync leg keeps its own map, and they may differ for a moment (one has cleared a chunk, another not yet). A chunk is
 * dirty when any of them says so. Runs are merged exactly as long as each leg could list all of its runs; beyond that, and for
 * the buckets of the strip, the larger count stands.
 *
 * @module
 */

import { ControlError, type NodeOperations } from "./control_api.ts";
import type { NodeConnections } from "./node_connections.ts";
import { type FoundLeg, type FoundPool, noLegText } from "./pool_lookup.ts";

type NodeDirtyMap = NodeOperations["pool.dirtyMap"]["result"];

/** A stretch of the address space that a leg lacks. */
export interface DirtyRun {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** What one leg lacks, and where. */
export interface DirtyMapReport {
  readonly legIndex: number;
  readonly legUuid: string;
  readonly address: string;
  readonly sizeBytes: number;
  readonly chunkBytes: number;
  readonly dirtyChunks: number;
  readonly dirtyBytes: number;
  /** Memory the map takes, on the in-sync leg where it takes most. */
  readonly memoryBytes: number;
  /** Dirty chunks in equal parts of the address space. */
  readonly buckets: readonly number[];
  /** Stretches of dirty chunks in all; `runs` holds the first of them. */
  readonly runCount: number;
  readonly runs: readonly DirtyRun[];
  /** In-sync legs whose maps were merged. */
  readonly toldBy: readonly number[];
}

/** What to ask for. */
export interface DirtyMapQuery {
  /** This leg only; else every leg outside the in-sync set. */
  readonly legIndex?: number;
  /** Parts to count by: columns of the strip. */
  readonly buckets: number;
  /** Most runs to list. */
  readonly maxRuns: number;
}

/**
 * The dirty maps of `pool`'s legs.
 * @throws {ControlError} "not-found" for a leg index that is not in the leg table, "unreachable" when no in-sync leg answers.
 */
export async function gatherDirtyMaps(
  pool: FoundPool,
  query: DirtyMapQuery,
  nodes: NodeConnections,
): Promise<DirtyMapReport[]> {
  const witnesses = pool.legs.filter((leg) => leg.isInSyncMember && leg.status !== null);
  if (witnesses.length === 0) {
    throw new ControlError(
      "unreachable",
      `No in-sync leg of pool "${pool.poolName}" answers, and only those know what the others lack. ` +
        `Start ${pool.legs.filter((leg) => leg.isInSyncMember).map((leg) => leg.address).join(" or ")}.`,
    );
  }
  const targets = targetsOf(pool, query);
  return await Promise.all(targets.map((target) => gatherOne(pool, target, witnesses, query, nodes)));
}

function targetsOf(pool: FoundPool, query: DirtyMapQuery): readonly FoundLeg[] {
  if (query.legIndex === undefined) return pool.legs.filter((leg) => !leg.isInSyncMember);
  const target = pool.legs.find((leg) => leg.legIndex === query.legIndex);
  if (target === undefined) throw new ControlError("not-found", noLegText(pool, query.legIndex));
  return [target];
}

async function gatherOne(
  pool: FoundPool,
  target: FoundLeg,
  witnesses: readonly FoundLeg[],
  query: DirtyMapQuery,
  nodes: NodeConnections,
): Promise<DirtyMapReport> {
  const { legIndex, legUuid, address } = target;
  const maps: NodeDirtyMap[] = [];
  const toldBy: number[] = [];
  for (const witness of witnesses) {
    if (witness.legIndex === legIndex) continue; // what a member of the set lacks is on the others' list
    const client = await nodes.get(witness.address);
    maps.push(
      await client.request("pool.dirtyMap", {
        pool: pool.poolUuid,
        legIndex,
        buckets: query.buckets,
        maxRuns: query.maxRuns,
      }),
    );
    toldBy.push(witness.legIndex);
  }
  const merged = mergeDirtyMaps(maps, query.buckets, query.maxRuns);
  const { sizeBytes, chunkBytes } = pool;
  return { legIndex, legUuid, address, sizeBytes, chunkBytes, ...merged, toldBy };
}

/** Merges several legs' maps of one leg. Pure. */
export function mergeDirtyMaps(
  maps: readonly NodeDirtyMap[],
  bucketCount: number,
  maxRuns: number,
): Pick<DirtyMapReport, "dirtyChunks" | "dirtyBytes" | "memoryBytes" | "buckets" | "runCount" | "runs"> {
  const buckets = new Array<number>(bucketCount).fill(0);
  let dirtyChunks = 0;
  let dirtyBytes = 0;
  let memoryBytes = 0;
  let runCount = 0;
  let areRunsComplete = true;
  for (const map of maps) {
    for (let i = 0; i < bucketCount; i++) buckets[i] = Math.max(buckets[i], map.buckets[i] ?? 0);
    dirtyChunks = Math.max(dirtyChunks, map.dirtyChunks);
    dirtyBytes = Math.max(dirtyBytes, map.dirtyBytes);
    memoryBytes = Math.max(memoryBytes, map.memoryBytes);
    runCount = Math.max(runCount, map.runCount);
    areRunsComplete &&= map.runs.length === map.runCount;
  }
  const runs = uniteRuns(maps.map((map) => map.runs));
  if (areRunsComplete && maps.length > 0) {
    dirtyBytes = runs.reduce((sum, run) => sum + run.lengthBytes, 0);
    dirtyChunks = Math.ceil(dirtyBytes / maps[0].chunkBytes);
    runCount = runs.length;
  }
  return { dirtyChunks, dirtyBytes, memoryBytes, buckets, runCount, runs: runs.slice(0, maxRuns) };
}

/** Union of several lists of runs: sorted, and touching ones joined. */
function uniteRuns(lists: readonly (readonly DirtyRun[])[]): DirtyRun[] {
  const sorted = lists.flat().sort((a, b) => a.offsetBytes - b.offsetBytes);
  const united: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const run of sorted) {
    const last = united.at(-1);
    if (last !== undefined && run.offsetBytes <= last.offsetBytes + last.lengthBytes) {
      last.lengthBytes = Math.max(last.lengthBytes, run.offsetBytes + run.lengthBytes - last.offsetBytes);
    } else {
      united.push({ offsetBytes: run.offsetBytes, lengthBytes: run.lengthBytes });
    }
  }
  return united;
}
