/** A node starts before its disk is there. */

import assert from "node:assert/strict";
import { waitFor, withCluster } from "./cluster.ts";

Deno.test("a leg that could not be opened is tried again, and resynced once its disk is there", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const path = cluster.legPaths[1];
    await cluster.stopNode(1, "SIGTERM");
    await cluster.waitDropped(1);
    await Deno.rename(path, `${path}.away`);
    await cluster.startNode(1);
    const list = await waitFor("the broken leg to be tried again", 60_000, async () => {
      const { stdout, stderr } = await cluster.brmr(["status"]);
      return /tried again/.test(stdout + stderr) ? stdout + stderr : null;
    });
    assert.match(list, /leg1\.img/);
    await Deno.rename(`${path}.away`, path);
    await cluster.waitInSync();
    assert.match(cluster.node(1).log, /can be opened now/);
  });
});
