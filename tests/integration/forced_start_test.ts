/** A start that is refused, forced; and the leg that was missed, when it comes back. */

import assert from "node:assert/strict";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { expectLegsIdentical } from "./leg_data.ts";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCK = 4096;
const blockOf = (value: number) => new Uint8Array(BLOCK).fill(value);

/** Both legs have the first block, only leg 0 the second. Client and nodes are ended. */
async function missOnLeg1(cluster: Cluster): Promise<void> {
  const user = await NbdSocket.connect(cluster.uri);
  await user.write(0, blockOf(1));
  await cluster.stopNode(1);
  await cluster.waitDropped(1);
  await user.write(BLOCK, blockOf(2));
  await user.close();
  assert.equal(await cluster.detach(), 0);
  await cluster.stopNode(0);
}

Deno.test("a start without the newest leg is refused, forced, and that leg is overwritten when it is back", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    await missOnLeg1(cluster);
    await cluster.startNode(1);

    const attach = ["attach", cluster.poolName, "--node", cluster.addresses[1], "--nbd", `${cluster.directory}/f.sock`];
    const refused = await cluster.brmr(attach);
    assert.equal(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /leg 0 .*With --force .* only on leg 0 would be lost/);
    const without = await cluster.brmr([...attach, "--without", "0"]);
    assert.equal(without.code, 2, without.stderr);
    const impatient = await cluster.brmr([...attach, "--start-timeout", "100ms"]);
    assert.equal(impatient.code, 4, impatient.stderr);

    await cluster.attach(["--force"]);
    assert.match(cluster.client.log, /started by force from leg 1/);
    const forced = await NbdSocket.connect(cluster.uri);
    assert.deepEqual(await forced.read(0, BLOCK), blockOf(1));
    assert.deepEqual(await forced.read(BLOCK, BLOCK), blockOf(0), "what only leg 0 has is given up");
    await cluster.startNode(0);
    await cluster.waitInSync();
    await forced.close();
    assert.equal(await cluster.detach(), 0);
    for (const index of [0, 1]) await cluster.stopNode(index, "SIGTERM");
    await expectLegsIdentical(cluster.legPaths);
  });
});

Deno.test("an attach waits for nodes, and for the leg that it may not start without, as long as it is told to", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    await missOnLeg1(cluster);
    const attached = cluster.attach(["--start-timeout", "10m"]);
    // Nobody answers; then only the leg that misses a write does, longer than an attach waits by itself.
    await pause(1_000);
    await cluster.startNode(1);
    await pause(6_000);
    await cluster.startNode(0);
    await attached;
    assert.match(cluster.client.log, /Asking again for up to 600 s/);
    const after = await NbdSocket.connect(cluster.uri);
    assert.deepEqual(await after.read(BLOCK, BLOCK), blockOf(2));
    await after.close();
    await cluster.waitInSync();
  });
});

Deno.test("an attach that is told to end while it starts leaves nothing behind", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    await missOnLeg1(cluster);
    await cluster.startNode(1);
    // The pool may not start without leg 0: an attach waits for it.
    const attached = cluster.attach(["--start-timeout", "10m"]);
    const control = `${cluster.directory}/client-${cluster.poolName}.sock`;
    await waitFor("the attach to have begun", 60_000, () => Deno.lstat(control).then(() => true));
    const refused = assert.rejects(attached, /ended before it was ready/);
    assert.equal(await cluster.client.stop("SIGTERM"), 130);
    await refused;
    await assert.rejects(Deno.lstat(control), Deno.errors.NotFound);
  });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
