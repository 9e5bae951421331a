/**
 * Opens the connections of one command and closes them, whatever comes.
 *
 * @module
 */

import { connectNode } from "../lib/control/node_control_client.ts";
import { NodeConnections } from "../lib/control/node_connections.ts";
import { chooseNodes, type NodeChoice } from "./node_list.ts";

/** A node that is up accepts and greets at once; three seconds are for a busy one. */
const CONNECT_TIMEOUT_MS = 3_000;
/** A dirty map of a big pool takes its time. */
const REQUEST_TIMEOUT_MS = 30_000;
/**
 * Looking for data takes ten seconds at most, before a leg is made and once more when it is; but the metadata of a big leg is a gigabyte to
 * zero, and somebody else's leg may be made first.
 */
const DEVICE_TIMEOUT_MS = 120_000;

/** Runs `work` with the nodes that `choice`, environment and config file name. */
export async function withNodes<T>(
  choice: NodeChoice,
  work: (nodes: NodeConnections, addresses: readonly string[]) => Promise<T>,
): Promise<T> {
  return await withNodesAt(chooseNodes(choice), work);
}

/** Runs `work` with the nodes at `addresses`. */
export async function withNodesAt<T>(
  addresses: readonly string[],
  work: (nodes: NodeConnections, addresses: readonly string[]) => Promise<T>,
): Promise<T> {
  const nodes = new NodeConnections((address) =>
    connectNode(address, {
      timeoutMs: CONNECT_TIMEOUT_MS,
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
      deviceTimeoutMs: DEVICE_TIMEOUT_MS,
    })
  );
  try {
    return await work(nodes, addresses);
  } finally {
    await nodes.close();
  }
}
