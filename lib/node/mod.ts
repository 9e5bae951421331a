/**
 * Running nodes: a storage node (`brmr serve`), a client node (`brmr attach`), and their common worker.
 *
 * @module
 */

export {
  type ClientNodeOptions,
  DEFAULT_CLIENT_MEMORY_BYTES,
  DEFAULT_HEARTBEAT_MS,
  runClientNode,
} from "./client_node.ts";
export type { NodeHandle } from "./node_handle.ts";
export { DEFAULT_STORAGE_MEMORY_BYTES, runStorageNode, type StorageNodeOptions } from "./storage_node.ts";
export { VERSION } from "./version.ts";
export { isDataPlaneWorker, runWorker } from "./worker.ts";
