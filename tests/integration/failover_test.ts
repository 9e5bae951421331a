/** Legs and nodes that fall silent, leave in turn, leave together: the application sees pauses, never an error. */

import assert from "node:assert/strict";
import { type Cluster, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { BlockLoad } from "./load.ts";

const BLOCKS = 8192;

/** Ends everything in an orderly way; the legs must then be equal. */
async function expectIdenticalAtRest(cluster: Cluster): Promise<void> {
  assert.equal(await cluster.detach(), 0);
  for (let i = 0; i < cluster.addresses.length; i++) await cluster.stopNode(i, "SIGTERM");
  await expectLegsIdentical(cluster.legPaths);
}

Deno.test("a node that falls silent is dropped by the heartbeat limit, and taken back when it speaks again", async () => {
  const options = { size: "32M", attachArguments: ["--heartbeat", "1s"] };
  await withCluster(options, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 2);
    load.start(4);
    await load.waitForWrites(100);
    cluster.node(1).signal("SIGSTOP");
    await load.waitForWrites(1000);
    await cluster.waitDropped(1);
    cluster.node(1).signal("SIGCONT");
    await cluster.waitInSync();
    assert.match(cluster.node(1).log, /Leg 0 is reached (over TCP|by shared memory), to fetch from it what was missed/);
    await load.stop();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});

Deno.test("each of three legs is killed and returns in turn, under load", async () => {
  await withCluster({ size: "32M", nodeCount: 3 }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 3);
    load.start(8);
    for (let victim = 0; victim < 3; victim++) {
      await load.waitForWrites(200);
      await cluster.stopNode(victim, victim === 1 ? "SIGTERM" : "SIGKILL");
      await load.waitForWrites(200);
      await cluster.waitDropped(victim);
      const repair = await cluster.brmr(["verify", "vol1", "--repair"]);
      assert.match(repair.stderr, new RegExp(`Leg ${victim} is not in sync. It may be the one that tells`));
      await cluster.startNode(victim);
      await cluster.waitInSync();
    }
    await load.stop();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});

Deno.test("both nodes are killed and return: writes wait, and go on where they were", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 4);
    load.start(4);
    await load.waitForWrites(100);
    await Promise.all([cluster.stopNode(0), cluster.stopNode(1)]);
    const before = load.writeCount;
    await Promise.all([cluster.startNode(0), cluster.startNode(1)]);
    await load.waitForWrites(200);
    assert.ok(load.writeCount > before);
    await cluster.waitInSync();
    await load.stop();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});

Deno.test("the client is killed while a leg is away, and so is the survivor: all that was acked is there again", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const load = new BlockLoad(cluster.uri, BLOCKS, 5);
    load.start(4);
    await load.waitForWrites(100);
    await cluster.stopNode(1);
    await load.waitForWrites(300);
    await cluster.detach("SIGKILL");
    await assert.rejects(load.stop());
    await cluster.stopNode(0);
    await cluster.startNode(1);
    await cluster.startNode(0);
    await cluster.attach();
    await cluster.waitInSync();
    await load.check();
    await expectIdenticalAtRest(cluster);
  });
});
