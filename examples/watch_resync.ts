/**
 * Watches a pool until all of its legs are in sync, one line a second: what `brmr sync-status --watch` is made of.
 *
 * ```sh
 * deno run --allow-net examples/watch_resync.ts vol1 127.0.0.1:7701
 * ```
 */

import { connectNode, findPool, NodeConnections, syncStatusOf } from "../mod.ts";

const [pool, ...addresses] = Deno.args;
if (pool === undefined || addresses.length === 0) {
  console.error("usage: watch_resync.ts POOL HOST:PORT...");
  Deno.exit(2);
}

for (;;) {
  const nodes = new NodeConnections((address) => connectNode(address, { timeoutMs: 3000 }));
  const status = syncStatusOf(await findPool(pool, addresses, nodes));
  await nodes.close();
  for (const leg of status.legs) {
    console.log(`leg ${leg.legIndex} on ${leg.address}: ${leg.state}, ${leg.missingBytes ?? "unknown"} bytes missing`);
  }
  if (status.isWhole) break;
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
