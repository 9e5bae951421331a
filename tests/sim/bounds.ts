/**
 * Nothing grows without bound: after every step, how much waits in a process is held to what its limits allow.
 *
 * @module
 */

import { CHUNKS_PER_MAP_PAGE } from "../../lib/disk_format/map_page.ts";
import type { ClientProcess } from "./client_process.ts";
import type { LegProcess } from "./leg_process.ts";
import { SlotOwner } from "./slots.ts";
import { Violation } from "./violation.ts";

/** Operations of peers, of resync and of sessions beside the client's (operation_table.ts). */
const OTHER_OPERATIONS = 256;
/** Records that clients wait for: one a change of the set, and a leg comes and goes a few times while one is written. */
const MOST_PENDING_EPOCHS = 64;
/** Dirty pages, records and what a claim writes, beside one write a block of the intent log. */
const MOST_METADATA_WRITES = 128;
/** A page of a dirty map in memory: one bit a chunk, its place in the list, and its count. */
const MAP_PAGE_MEMORY_BYTES = CHUNKS_PER_MAP_PAGE / 8 + 8 + 2;

/** `connections`: those that the driver knows. */
export function expectLegBounds(leg: LegProcess, connections: number): void {
  const { world } = leg;
  const { creditRequests, pullsInFlight } = world.plan.legOptions;
  const load = leg.core!.load();
  const most = 2 * creditRequests + OTHER_OPERATIONS;
  expectAtMost(leg, "operations", load.operations, most);
  expectAtMost(leg, "operations of the client", load.clientOperations, load.operations);
  expectAtMost(leg, "waiting operations", load.waiting, load.clientOperations);
  expectAtMost(leg, "waiting reads of peers", load.waitingPeerReads, creditRequests + OTHER_OPERATIONS / 2 + 1);
  expectAtMost(leg, "connections", load.connections, connections);
  expectAtMost(leg, "records on their way", load.pendingEpochs, MOST_PENDING_EPOCHS);
  expectAtMost(leg, "metadata writes", load.pendingMetadata, MOST_METADATA_WRITES + world.layout.intentBlockCount);
  // Of requests under way, and what resync pulls; answers on their way out are the transport's.
  let buffers = 0;
  for (const slot of world.slots.usedBy(leg.id)) if (slot.owner !== SlotOwner.TRANSPORT) buffers++;
  expectAtMost(leg, "payload buffers", buffers, most + pullsInFlight);
  const pages = Math.ceil(world.plan.shape.sizeBytes / world.plan.shape.chunkBytes / CHUNKS_PER_MAP_PAGE);
  expectAtMost(leg, "bytes of a dirty map", load.mostMapBytes, pages * MAP_PAGE_MEMORY_BYTES);
}

/** The same for a client. */
export function expectClientBounds(client: ClientProcess): void {
  const { world } = client;
  const { maxRequests, maxWriteBytes } = world.plan.clientOptions;
  const load = client.core!.load();
  expectAtMost(client, "requests", load.requests, maxRequests);
  expectAtMost(client, "waiting requests", load.waiting, load.requests);
  // A single write may be larger than the limit; then it is alone.
  expectAtMost(client, "bytes of writes in flight", load.writeBytes, Math.max(maxWriteBytes, 1 << 20));
}

function expectAtMost(process: LegProcess | ClientProcess, what: string, count: number, most: number): void {
  if (count <= most) return;
  throw new Violation("bounds", `${process.name} has ${count} ${what}; ${most} are the most`);
}
