/** Legs become equal again among themselves, with nobody attached. */

import assert from "node:assert/strict";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";

const LIMIT_MS = 90_000;
const BLOCKS = 4096;

/** Waits until every leg is in sync and its caretaker, if any, has let go. */
async function waitAtRest(cluster: Cluster): Promise<void> {
  await waitFor("the legs to be in sync and left alone", LIMIT_MS, async () => {
    const sync = JSON.parse(await cluster.expect(["sync-status", cluster.poolName, "--json"], [0, 5]));
    const isInSync = sync.legs.every((leg: { state: string }) => leg.state === "in-sync");
    assert.equal(sync.heldBy, null, "a caretaker is nobody who has the pool attached");
    return isInSync && !sync.isCaredFor;
  });
}

async function expectIdenticalWhenStopped(cluster: Cluster): Promise<void> {
  for (const index of cluster.addresses.keys()) await cluster.stopNode(index, "SIGTERM");
  await expectLegsIdentical(cluster.legPaths);
}

Deno.test("a node that comes back after the client has detached is resynced by the legs themselves", async () => {
  await withCluster({ size: "64M", nodeCount: 3 }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 11);
    load.start(8);
    await load.waitForWrites(500, LIMIT_MS);
    await cluster.stopNode(1);
    await load.waitForWrites(500, LIMIT_MS);
    await load.stop();
    assert.equal(await cluster.detach(), 0);
    await cluster.startNode(1);
    await waitAtRest(cluster);
    await expectIdenticalWhenStopped(cluster);
    for (const index of cluster.addresses.keys()) await cluster.startNode(index);
    await cluster.attach();
    await load.check();
  });
});

Deno.test("legs are made equal after their client was killed, and the next one needs no --takeover", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 12);
    load.start(16);
    await load.waitForWrites(500, LIMIT_MS);
    await cluster.detach("SIGKILL");
    await load.stop().catch(() => undefined); // its connection is gone
    await waitFor("a caretaker to compare what the client was writing", LIMIT_MS, () => {
      return Promise.resolve(cluster.logs().includes("The last session ended uncleanly"));
    });
    await waitAtRest(cluster);
    await cluster.attach();
    await load.check();
    assert.equal(await cluster.detach(), 0);
    await expectIdenticalWhenStopped(cluster);
  });
});
