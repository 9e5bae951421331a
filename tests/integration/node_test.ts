/** A storage node as its operator meets it: state directory, legs that are gone, strangers, odd requests. */

import assert from "node:assert/strict";
import { connectNode } from "../../lib/control/node_control_client.ts";
import { connectClient } from "../../lib/control/client_control_client.ts";
import { ControlError } from "../../lib/control/control_api.ts";
import { clientSocketPath } from "../../lib/control/runtime_dir.ts";
import { Cluster, waitFor, withCluster } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

const LIMIT_MS = 30_000;

function connect(cluster: Cluster, index: number) {
  return connectNode(cluster.addresses[index], { timeoutMs: LIMIT_MS });
}

async function startWithoutPool(body: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.startNodes();
  try {
    await body(cluster);
  } finally {
    await cluster.close();
  }
}

async function expectCode(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof ControlError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
}

Deno.test("an address that the machine does not have is refused, and not waited for", async () => {
  await startWithoutPool(async (cluster) => {
    const args = ["serve", "--state", `${cluster.directory}/other`, "--insecure", "--listen", "tcp://192.0.2.1:0"];
    const refused = await cluster.brmr(args);
    assert.equal(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /no interface of this machine/);
    assert.doesNotMatch(refused.stderr, /waiting-for-release/);
  });
});

Deno.test("two storage nodes cannot share a state directory", async () => {
  await startWithoutPool(async (cluster) => {
    const state = `${cluster.directory}/state0`;
    const second = await cluster.brmr(["serve", "--state", state, "--listen", "tcp://127.0.0.1:0"]);
    assert.equal(second.code, 4, second.stderr);
    assert.match(second.stderr, /used by another storage node/);
  });
});

Deno.test("an address that other machines reach needs --insecure", async () => {
  await startWithoutPool(async (cluster) => {
    const args = ["serve", "--state", `${cluster.directory}/other`, "--listen", "tcp://0.0.0.0:0"];
    const refused = await cluster.brmr(args);
    assert.equal(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /--insecure/);
  });
});

Deno.test("a node advertises no wildcard, and no more addresses than a greeting holds", async () => {
  await startWithoutPool(async (cluster) => {
    const serve = ["serve", "--state", `${cluster.directory}/other`, "--listen", "tcp://127.0.0.1:0"];
    const wildcard = await cluster.brmr([...serve, "--advertise", "0.0.0.0:7701"]);
    assert.notEqual(wildcard.code, 0);
    assert.match(wildcard.stderr, /stands for every address/);
    const many = Array.from({ length: 17 }, (_, i) => ["--advertise", `10.0.0.${i + 1}:7701`]).flat();
    const refused = await cluster.brmr([...serve, ...many]);
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /17 addresses.*16/);
  });
});

Deno.test("a taken port is refused with what to do, and the state directory is free again", async () => {
  await startWithoutPool(async (cluster) => {
    const args = ["serve", "--state", `${cluster.directory}/other`, "--listen", `tcp://${cluster.addresses[0]}`];
    for (let i = 0; i < 2; i++) {
      const refused = await cluster.brmr(args);
      assert.equal(refused.code, 4, refused.stderr);
      assert.match(refused.stderr, /another process listens there/);
    }
  });
});

Deno.test("a node that was killed knows its legs again; one that is gone is reported as broken, the other is served", async () => {
  await withCluster({}, async (cluster) => {
    await cluster.detach();
    const client = await connect(cluster, 0);
    const before = await client.request("node.info", {});
    client.close();
    assert.equal(before.legs.length, 1);
    await cluster.stopNode(0);
    await cluster.startNode(0);
    const again = await connect(cluster, 0);
    const after = await again.request("node.info", {});
    assert.equal(after.legs[0].snapshot.legUuid, before.legs[0].snapshot.legUuid);
    assert.equal(after.broken.length, 0);
    assert.ok(after.residentBytes > 0 && after.bufferBytes > 0);
    again.close();

    await cluster.stopNode(0);
    await Deno.rename(cluster.legPaths[0], `${cluster.directory}/elsewhere.img`);
    await cluster.startNode(0);
    const bereft = await connect(cluster, 0);
    const info = await bereft.request("node.info", {});
    assert.equal(info.legs.length, 0);
    assert.equal(info.broken.length, 1);
    assert.equal(info.broken[0].path, cluster.legPaths[0]);
    const { code, stdout } = await cluster.brmr(["status", cluster.poolName]);
    assert.equal(code, 5);
    assert.match(stdout, /cannot serve it: .*leg0\.img" does not exist/);
    const ids = { poolUuid: before.legs[0].snapshot.poolUuid, legUuid: before.legs[0].snapshot.legUuid };
    await expectCode(bereft.request("leg.delete", { ...ids, force: false }), "refused");
    await bereft.request("leg.delete", { ...ids, force: true });
    assert.equal((await bereft.request("node.info", {})).broken.length, 0);
    bereft.close();
  });
});

Deno.test("a foreign leg at a known path is not served", async () => {
  await withCluster({}, async (cluster) => {
    await cluster.detach();
    await cluster.stopNode(0);
    await cluster.stopNode(1);
    await Deno.rename(cluster.legPaths[0], `${cluster.directory}/swap.img`);
    await Deno.rename(cluster.legPaths[1], cluster.legPaths[0]);
    await cluster.startNode(0);
    const client = await connect(cluster, 0);
    const info = await client.request("node.info", {});
    client.close();
    assert.equal(info.legs.length, 0);
    assert.match(info.broken[0].message, /not the leg/);
  });
});

Deno.test("odd requests are answered with a code, and the node goes on", async () => {
  await startWithoutPool(async (cluster) => {
    const client = await connect(cluster, 0);
    // deno-lint-ignore no-explicit-any -- requests that the types forbid are what is tested
    const ask = (op: string, request: unknown) => (client as any).request(op, request) as Promise<unknown>;
    await expectCode(ask("no.such", {}), "bad-request");
    await expectCode(ask("toString", {}), "bad-request");
    await expectCode(ask("leg.probe", { path: "relative" }), "bad-request");
    await expectCode(ask("leg.probe", { path: 7 }), "bad-request");
    await expectCode(ask("leg.create", { poolUuid: "x" }), "bad-request");
    await expectCode(ask("pool.status", { pool: "nobody" }), "not-found");
    await expectCode(ask("pool.dirtyMap", { pool: "nobody", legIndex: 0, buckets: 0, maxRuns: 0 }), "bad-request");
    await expectCode(ask("resync.set", { pool: "nobody", rateBytesPerSecond: -1 }), "bad-request");
    const unknown = crypto.randomUUID();
    await expectCode(ask("leg.delete", { poolUuid: unknown, legUuid: unknown, force: true }), "not-found");
    assert.equal((await client.request("leg.probe", { path: `${cluster.directory}/none` })).kind, "absent");
    client.close();
  });
});

Deno.test("strangers' bytes end their connection and nothing else", async () => {
  await startWithoutPool(async (cluster) => {
    const [hostname, port] = cluster.addresses[0].split(":");
    for (let round = 0; round < 20; round++) {
      const stranger = await Deno.connect({ hostname, port: Number(port) });
      const bytes = new Uint8Array(64 + round * 13);
      crypto.getRandomValues(bytes);
      await stranger.write(bytes);
      // The node hangs up: an end of file or a reset, whichever comes first.
      const end = await stranger.read(new Uint8Array(16)).catch(() => null);
      assert.equal(end, null);
      stranger.close();
    }
    const client = await connect(cluster, 0);
    assert.equal((await client.request("node.info", {})).legs.length, 0);
    client.close();
  });
});

Deno.test("a pool deleted by force under its client takes nothing else of its nodes with it", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const others = cluster.addresses.flatMap((
      address,
      index,
    ) => ["--leg", `${address}:${cluster.directory}/other${index}.img`]);
    await cluster.expect(["pool", "create", "other", "--size", "64M", ...others]);
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(4096).fill(7)); // not flushed: the end of the session has the legs flush
    await cluster.expect(["pool", "delete", cluster.poolName, "--force"]);
    await socket.close();
    await cluster.expect(["status", "other"]);
    await cluster.expect(["pool", "delete", "other"]);
  });
});

Deno.test("an attach that has nowhere to offer the pool takes it from nobody, and force gives up no leg that is not there", async () => {
  await withCluster({}, async (cluster) => {
    const attach = async (...options: string[]) => {
      const runtime = `${cluster.directory}/elsewhere`;
      const args = ["attach", cluster.poolName, "--node", cluster.addresses[0], "--takeover", ...options];
      return await cluster.brmr(args, { BRMR_RUNTIME_DIR: runtime });
    };
    const before = (await cluster.status()).client.snapshot.generation;
    const nowhere = await attach("--nbd", `${cluster.directory}/no/such/directory/x.sock`);
    assert.equal(nowhere.code, 4, nowhere.stderr);
    assert.match(nowhere.stderr, /Cannot listen on .*x\.sock/);
    const noLeg = await attach("--nbd", `${cluster.directory}/x.sock`, "--force", "--without", "5");
    assert.equal(noLeg.code, 3, noLeg.stderr);
    assert.match(noLeg.stderr, /has no leg 5\. Its legs are 0, 1/);
    const { client } = await cluster.status();
    assert.equal(client.snapshot.state, "ready", "The client that was there before serves on");
    assert.equal(client.snapshot.generation, before, "Nobody has claimed the pool since");
  });
});

Deno.test("a leg in use is not deleted; deleting a pool removes the files the nodes made", async () => {
  await withCluster({}, async (cluster) => {
    const refused = await cluster.brmr(["pool", "delete", cluster.poolName]);
    assert.match(refused.stderr, /attached by/, "deleted under a running client");
    assert.equal(refused.code, 4);
    const client = await connect(cluster, 0);
    const { snapshot } = (await client.request("pool.status", { pool: cluster.poolName })).legs[0];
    await expectCode(
      client.request("leg.delete", { poolUuid: snapshot.poolUuid, legUuid: snapshot.legUuid, force: false }),
      "in-use",
    );
    await cluster.detach();
    await client.request("leg.delete", { poolUuid: snapshot.poolUuid, legUuid: snapshot.legUuid, force: false });
    client.close();
    await assert.rejects(Deno.stat(cluster.legPaths[0]), Deno.errors.NotFound);
  });
});

Deno.test("brmr detach ends the client in an orderly way, and a second client of the pool on one machine is refused", async () => {
  await withCluster({}, async (cluster) => {
    const client = cluster.client;
    const second = await cluster.brmr([
      ...["attach", cluster.poolName, "--node", cluster.addresses[0]],
      ...["--nbd", `${cluster.directory}/second.sock`, "--takeover"],
    ]);
    assert.equal(second.code, 4, second.stderr);
    assert.match(second.stderr, /already runs on this machine/);
    await cluster.expect(["detach", cluster.poolName]);
    await waitFor("the client to end", LIMIT_MS, () => Promise.resolve(client.hasEnded));
    await assert.rejects(Deno.lstat(`${cluster.directory}/client-${cluster.poolName}.sock`), Deno.errors.NotFound);
    const node = await connect(cluster, 0);
    const { snapshot } = (await node.request("pool.status", { pool: cluster.poolName })).legs[0];
    node.close();
    assert.equal(snapshot.session, null);
    assert.equal(snapshot.hotExtents, 0, "a clean detach leaves nothing to compare");
  });
});

Deno.test("who is told that a client has detached finds its place on the machine free", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    const path = clientSocketPath(cluster.directory, cluster.poolName);
    for (let round = 0; round < 5; round++) {
      if (round > 0) await cluster.attach();
      const client = await connectClient(cluster.poolName, { runtimeDir: cluster.directory, timeoutMs: LIMIT_MS });
      await client.request("client.detach", {});
      assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
      client.close();
    }
  });
});

Deno.test("a detach while no leg is there says that it was not in an orderly way, and the next attach makes the legs equal", async () => {
  await withCluster({ size: "64M", attachArguments: ["--heartbeat", "500ms"] }, async (cluster) => {
    const client = cluster.client;
    const socket = await NbdSocket.connect(cluster.uri);
    await socket.write(0, new Uint8Array(4096).fill(7));
    for (const index of [0, 1]) await cluster.stopNode(index);
    await waitFor("the pool to wait for its legs", LIMIT_MS, () => Promise.resolve(/assembled anew/.test(client.log)));
    const detached = await cluster.brmr(["detach", cluster.poolName]);
    assert.equal(detached.code, 5, detached.stderr);
    assert.match(detached.stderr, /waiting for legs.*compared at the next attach\. Nothing that was flushed is lost/);
    assert.match(detached.stdout, /is detached/);
    await socket.close();
    for (const index of [0, 1]) await cluster.startNode(index);
    await cluster.attach();
    await cluster.waitInSync();
  });
});

Deno.test("a socket that cannot be opened is told before a device is made, and those that were opened are closed", async () => {
  await withCluster({ size: "64M" }, async (cluster) => {
    assert.equal(await cluster.detach(), 0);
    const first = `${cluster.directory}/first.sock`;
    for (const device of [["--device", "ublk"], ["--device", "nbd"], []]) {
      const attach = ["attach", cluster.poolName, ...device, "--nbd", first];
      const refused = await cluster.brmr([...attach, "--nbd", `${cluster.directory}/nowhere/second.sock`]);
      assert.equal(refused.code, 4, refused.stderr);
      assert.match(refused.stderr, /nowhere\/second.sock: ENOENT .*: the directory does not exist/);
      await assert.rejects(Deno.lstat(first), Deno.errors.NotFound);
    }
    await cluster.attach();
  });
});

Deno.test("a client whose pool is taken over says so and ends with an error", async () => {
  await withCluster({}, async (cluster) => {
    const first = cluster.client;
    const runtime = `${cluster.directory}/elsewhere`;
    const command = ["attach", cluster.poolName, "--takeover", "--node", cluster.addresses[0]];
    const thief = cluster.brmr([...command, "--nbd", `${cluster.directory}/thief.sock`], { BRMR_RUNTIME_DIR: runtime });
    await waitFor("the first client to end", LIMIT_MS, () => Promise.resolve(first.hasEnded));
    assert.match(first.log, /has taken the pool over/);
    assert.notEqual(await first.stop("SIGTERM"), 0);
    const ended = await cluster.brmr(["detach", cluster.poolName], { BRMR_RUNTIME_DIR: runtime });
    assert.equal(ended.code, 0, ended.stderr);
    assert.equal((await thief).code, 0);
  });
});
