/** `brmr metrics` tells of a pool that loses a leg and gets it back, of nodes and clients that are gone; and writes its file whole. */

import assert from "node:assert/strict";
import { readExposition, type Samples } from "../unit/cli/exposition_grammar.ts";
import { type Cluster, waitFor, withCluster } from "./cluster.ts";
import { NbdSocket } from "./nbd_socket.ts";

const LIMIT_MS = 120_000;

async function metrics(cluster: Cluster): Promise<Samples> {
  return readExposition(await cluster.expect(["metrics"]));
}

/** Waits until the metrics are as `isSo` says. */
function waitForMetrics(cluster: Cluster, what: string, isSo: (samples: Samples) => boolean): Promise<Samples> {
  return waitFor(what, LIMIT_MS, async () => {
    const samples = await metrics(cluster);
    return isSo(samples) ? samples : null;
  });
}

Deno.test("a leg is lost, lacks what is written, returns; a node hangs; then nodes and client are gone: the metrics tell, with exit code 0", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const inSync = 'brmr_pool_legs_in_sync{pool="vol1"}';
    const up = (index: number) => `brmr_node_up{node="${cluster.addresses[index]}"}`;
    const ofLeg = `pool="vol1",leg="1",node="${cluster.addresses[1]}"`;
    const missing = `brmr_leg_missing_bytes{${ofLeg}}`;
    await cluster.waitInSync();
    const whole = await metrics(cluster);
    assert.deepEqual([inSync, up(0), up(1), missing].map((key) => whole.get(key)), [2, 1, 1, 0]);
    assert.equal(whole.get('brmr_pool_legs{pool="vol1"}'), 2);
    assert.equal(whole.get('brmr_client_state{pool="vol1",state="ready"}'), 1);
    assert.equal(whole.get('brmr_client_leg_drops_total{pool="vol1"}'), 0);

    const socket = await NbdSocket.connect(cluster.uri);
    await cluster.stopNode(1);
    await socket.write(0, new Uint8Array(1 << 20).fill(7));
    const lost = await waitForMetrics(cluster, "the lost leg", (samples) => {
      return samples.get(inSync) === 1 && (samples.get(missing) ?? 0) > 0;
    });
    assert.deepEqual([up(0), up(1)].map((key) => lost.get(key)), [1, 0]);
    assert.equal(lost.get(`brmr_leg_state{${ofLeg},state="away"}`), 1);
    assert.equal(lost.get(`brmr_leg_state{${ofLeg},state="in-sync"}`), 0);
    assert.equal(lost.get('brmr_client_leg_drops_total{pool="vol1"}'), 1);
    assert(lost.get(missing)! >= 1 << 20, `${lost.get(missing)} bytes`);
    assert(lost.get('brmr_client_bytes_total{pool="vol1",kind="write"}')! >= 1 << 20);

    await cluster.startNode(1);
    const back = await waitForMetrics(cluster, "the leg to return", (samples) => samples.get(inSync) === 2);
    assert.deepEqual([up(1), missing].map((key) => back.get(key)), [1, 0]);
    assert(back.get('brmr_pool_epoch{pool="vol1"}')! > whole.get('brmr_pool_epoch{pool="vol1"}')!);

    cluster.node(1).signal("SIGSTOP");
    const hanging = await metrics(cluster);
    assert.deepEqual([up(0), up(1)].map((key) => hanging.get(key)), [1, 0]);
    cluster.node(1).signal("SIGCONT");

    await socket.close();
    await cluster.detach("SIGKILL");
    assert.equal((await metrics(cluster)).get('brmr_client_up{pool="vol1"}'), 0);
    for (let i = 0; i < cluster.addresses.length; i++) await cluster.stopNode(i);
    const gone = await metrics(cluster);
    assert.deepEqual([up(0), up(1)].map((key) => gone.get(key)), [0, 0]);
    assert.equal(gone.has(inSync), false, "nobody knows, which is not 0");
  });
});

Deno.test("metrics --out replaces its file whole or not at all; bad use is told by the exit code", async () => {
  await withCluster({ size: "32M" }, async (cluster) => {
    const directory = `${cluster.directory}/textfile`;
    await Deno.mkdir(`${directory}/taken.prom`, { recursive: true });
    const path = `${directory}/brmr.prom`;
    const namesIn = () => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
    await Deno.writeTextFile(path, "the one before\n");
    const reader = await Deno.open(path);
    assert.equal(await cluster.expect(["metrics", "vol1", "--out", path]), "");
    assert.equal(readExposition(await Deno.readTextFile(path)).get('brmr_pool_legs_in_sync{pool="vol1"}'), 2);
    assert.equal(Deno.statSync(path).mode! & 0o444, 0o444, "node_exporter is another user");
    // Who had it open goes on with the text of before: it was replaced, not written over.
    assert.equal(await new Response(reader.readable).text(), "the one before\n");
    assert.deepEqual(namesIn(), ["brmr.prom", "taken.prom"]);

    const before = await Deno.readTextFile(path);
    const refusals: [string[], number, RegExp][] = [
      [["--out", `${directory}/taken.prom`], 4, /taken\.prom cannot be written/],
      [["--out", `${directory}/nowhere/brmr.prom`], 3, /nowhere\/brmr\.prom cannot be written/],
      [["vol9", "--out", path], 3, /No storage node knows a pool called "vol9"/],
      [["--node", "nowhere", "--out", path], 2, /HOST:PORT/],
    ];
    for (const [args, code, pattern] of refusals) {
      const result = await cluster.brmr(["metrics", ...args]);
      assert.equal(result.code, code, result.stderr);
      assert.match(result.stderr, pattern);
      assert.deepEqual(namesIn(), ["brmr.prom", "taken.prom"], "nothing half-made is left");
    }
    assert.equal(await Deno.readTextFile(path), before);
  });
});
