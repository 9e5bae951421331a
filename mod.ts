/**
 * brmr: block-level replication in userspace, active-active, with one network hop. This module is the public API: it
 * re-exports, and holds nothing of its own.
 *
 * - {@link runStorageNode} and {@link runClientNode} run a node in this process; {@link runWorker} is their data plane.
 * - {@link connectNode} and {@link connectClient} speak to running nodes.
 * - {@link createPool}, {@link findPool}, {@link deletePool}, {@link setResync}, {@link syncStatusOf} and
 *   {@link gatherDirtyMaps} are what the command line does, as functions.
 *
 * @example Running a storage node
 * ```ts
 * import { isDataPlaneWorker, runStorageNode, runWorker } from "@brmr/brmr";
 *
 * if (isDataPlaneWorker()) {
 *   runWorker();
 * } else {
 *   const node = await runStorageNode({
 *     stateDir: "/var/lib/brmr",
 *     listen: ["127.0.0.1:7701"],
 *     workerUrl: import.meta.url,
 *   });
 *   await node.finished;
 * }
 * ```
 *
 * @module
 */

export * from "./lib/node/mod.ts";
export * from "./lib/control/control_api.ts";
export { type ClientControlOptions, connectClient } from "./lib/control/client_control_client.ts";
export { connectNode, type NodeControlOptions } from "./lib/control/node_control_client.ts";
export { type DialNode, NodeConnections, type NodeFailure } from "./lib/control/node_connections.ts";
export { type CreatedPool, createPool } from "./lib/control/pool_creation.ts";
export { findAllPools, findPool, type FoundLeg, type FoundPool, type FoundPools } from "./lib/control/pool_lookup.ts";
export {
  type DeletedPool,
  deletePool,
  type ResyncSet,
  type ResyncSetting,
  setResync,
} from "./lib/control/pool_operations.ts";
export type { PoolPlan } from "./lib/control/pool_rules.ts";
export { type LegPlace, type NodeAddress, parseLegPlace, parseNodeAddress } from "./lib/control/node_address.ts";
export { type DirtyMapQuery, type DirtyMapReport, gatherDirtyMaps } from "./lib/control/dirty_map_report.ts";
export { type LegSync, type SyncStatus, syncStatusOf } from "./lib/control/sync_status.ts";
export { runtimeDir } from "./lib/control/runtime_dir.ts";
export { type DeviceChoice, parseDeviceChoice } from "./lib/frontend/device_choice.ts";
export { NbdClient, NbdError, type NbdTarget } from "./lib/frontend/nbd_client.ts";
export {
  type DemoEvent,
  type DemoOptions,
  type DemoPulse,
  type DemoResult,
  type DemoStep,
  runDemo,
} from "./lib/demo/demo.ts";
export type { CoreEvent } from "./lib/core/output.ts";
export type * from "./lib/core/snapshot.ts";
export type { EpochRecord, LegEntry, SharedEpoch } from "./lib/disk_format/records.ts";
