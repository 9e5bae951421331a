/** A pool attached read-only: beside a client that writes, without one, and after one that died. */

import assert from "node:assert/strict";
import { brmrCommand, type Cluster, ServerProcess, waitFor, withCluster } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

const BLOCK = 4096;
const blockOf = (value: number) => new Uint8Array(BLOCK).fill(value);

/** Attaches the pool read-only, as on a machine of its own; returns the process and its runtime directory. */
async function startReader(cluster: Cluster, name: string): Promise<{ process: ServerProcess; runtimeDir: string }> {
  const runtimeDir = `${cluster.directory}/${name}`;
  await Deno.mkdir(runtimeDir);
  const nodes = cluster.addresses.flatMap((address) => ["--node", address]);
  const place = ["--nbd", `${runtimeDir}/r.sock`];
  const command = brmrCommand(["attach", cluster.poolName, ...nodes, ...place, "--read-only"]);
  return { process: new ServerProcess(name, command, { BRMR_RUNTIME_DIR: runtimeDir, NO_COLOR: "1" }), runtimeDir };
}

Deno.test("readers see what a writer has written, at once, and write nothing", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const writer = await NbdSocket.connect(cluster.uri);
    await writer.write(0, blockOf(1));
    const readers = await Promise.all(["reader-1", "reader-2"].map((name) => startReader(cluster, name)));
    const sockets: NbdSocket[] = [];
    for (const { process } of readers) sockets.push(await NbdSocket.connect(await process.ready()));
    for (let value = 2; value < 30; value++) {
      await writer.write(0, blockOf(value));
      const seen = await Promise.all(sockets.map((socket) => socket.read(0, BLOCK)));
      for (const block of seen) assert.deepEqual(block, blockOf(value));
    }
    await assert.rejects(sockets[0].write(0, blockOf(99)), "the export is read-only");
    const { stdout } = await cluster.brmr(["status", cluster.poolName], { BRMR_RUNTIME_DIR: readers[0].runtimeDir });
    assert.match(stdout, /read-only/);

    // The writer leaves in order: the readers go on.
    await writer.close();
    assert.equal(await cluster.detach(), 0);
    assert.deepEqual(await sockets[1].read(0, BLOCK), blockOf(29));
    // One dies in the midst: they wait until the legs have made themselves equal.
    await cluster.attach();
    const second = await NbdSocket.connect(cluster.uri);
    await second.write(0, blockOf(77));
    await second.close();
    await cluster.detach("SIGKILL");
    assert.deepEqual(await sockets[0].read(0, BLOCK), blockOf(77));
    for (const socket of sockets) await socket.close();
    for (const { process } of readers) assert.equal(await process.stop("SIGTERM"), 0);
  });
});

Deno.test("a read-only attach takes nothing over, and needs every leg that is in sync", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const attach = ["attach", cluster.poolName, "--read-only", "--nbd", `${cluster.directory}/r.sock`];
    const other = `${cluster.directory}/other`;
    await Deno.mkdir(other);
    const env = { BRMR_RUNTIME_DIR: other };
    const takeover = await cluster.brmr([...attach, "--takeover"], env);
    assert.equal(takeover.code, 2, takeover.stderr);
    assert.match(takeover.stderr, /takes nothing over/);
    assert.equal(await cluster.detach(), 0);
    await cluster.stopNode(1);
    // On a busy machine the other node may not have answered in the time that an attach waits, either.
    await waitFor("a refusal that names the leg", 60_000, async () => {
      const refused = await cluster.brmr(attach, env);
      assert.equal(refused.code, 4, refused.stderr);
      assert.match(refused.stderr, /leg 1 .*must be reachable/);
      return true;
    });
  });
});
