/** Taking replacements back, against nodes and a client that live in memory. */

import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import type { ServedPool } from "../../../lib/control/leg_changes.ts";
import { replaceLeg, undoReplacement } from "../../../lib/control/leg_replacement.ts";
import { findPool } from "../../../lib/control/pool_lookup.ts";
import { FakeCluster, testRecord, testSnapshot, testUuid } from "./fake_node.ts";

const A = "10.0.0.1:7701";
const B = "10.0.0.2:7701";
const ADDRESSES = [A, B];

const unserved = () => Promise.reject(new Error("nobody is asked to serve the pool"));

Deno.test(
  "a replacement of a leg that works is taken back by removing the new leg",
  { permissions: "none" },
  async () => {
    const cluster = new FakeCluster(A, B);
    const legs = [...testRecord(ADDRESSES).legs, { ...testRecord([A, B, B]).legs[2]!, replacesIndex: 1 }];
    const record = testRecord(ADDRESSES, { legs, inSyncMask: 0b11 });
    cluster.nodes[0].addLeg(testSnapshot(0, record));
    cluster.nodes[1].addLeg(testSnapshot(1, record));
    cluster.nodes[1].addLeg(testSnapshot(2, record));
    const asked: unknown[] = [];
    await cluster.with(async (nodes) => {
      const pool = await findPool("vol1", [A], nodes);
      const client = {
        // deno-lint-ignore no-explicit-any -- a stand-in for both operations that are asked for
        request: (op: string, request: unknown): Promise<any> => {
          if (op === "client.changeLegs") asked.push(request);
          return Promise.resolve({ snapshot: { legs: pool.legs } });
        },
        close: () => undefined,
      };
      const outcome = await undoReplacement(nodes, pool, 1, (work) => work({ client, pool, nodes } as ServedPool));
      assert.match(outcome, /leg 2, which was to replace it, is removed/);
    });
    assert.deepEqual(asked, [{ kind: "remove", legIndex: 2 }]);
    assert.ok(!cluster.nodes[1].legs.has(testUuid(102)), "its node has erased it");
    assert.ok(cluster.nodes[1].legs.has(testUuid(101)), "the one that was to go stays");
  },
);

Deno.test("a disk that waits to be taken in is given up at its node; one that was taken in is not", {
  permissions: "none",
}, async () => {
  const cluster = new FakeCluster(A, B);
  const record = testRecord(ADDRESSES, { inSyncMask: 0b01 });
  cluster.nodes[0].addLeg(testSnapshot(0, record));
  const lowest = { ...record, generation: 0, epoch: 0 };
  const made = { legUuid: testUuid(201), replacesUuid: testUuid(101) };
  cluster.nodes[1].addLeg(testSnapshot(1, lowest, made), "/new");
  let undone: unknown = null;
  cluster.nodes[1].handlers.set("leg.undoReplace", (request) => {
    undone = request;
    return { legUuid: testUuid(101), path: "/old", problem: '"/old" does not exist' };
  });
  await cluster.with(async (nodes) => {
    const pool = await findPool("vol1", [A], nodes);
    assert.match(pool.legs[1].problem ?? "", /\/new is to take its place/);
    assert.equal(
      await undoReplacement(nodes, pool, 1, unserved),
      'it is /old again, which cannot be served: "/old" does not exist',
    );
  });
  assert.deepEqual(undone, { poolUuid: testSnapshot(0, record).poolUuid, legUuid: testUuid(201) });

  // Taken in: the table has the new UUID.
  const legs = record.legs.map((leg, index) => index === 1 ? { ...leg!, uuid: testUuid(201) } : leg);
  cluster.nodes[0].addLeg(testSnapshot(0, { ...record, epoch: 2, legs }));
  await cluster.with(async (nodes) => {
    const pool = await findPool("vol1", [A], nodes);
    await assert.rejects(undoReplacement(nodes, pool, 1, unserved), (error) => {
      return error instanceof ControlError && error.code === "refused" && /never trusted again/.test(error.message);
    });
    await assert.rejects(undoReplacement(nodes, pool, 5, unserved), /has no leg 5/);
  });
});

Deno.test("a hot replacement that a command has begun is gone on with by the same command", {
  permissions: "none",
}, async () => {
  const cluster = new FakeCluster(A, B);
  const legs = [...testRecord(ADDRESSES).legs, { ...testRecord([A, B, B]).legs[2]!, replacesIndex: 1 }];
  const record = testRecord(ADDRESSES, { legs, inSyncMask: 0b11 });
  cluster.nodes[0].addLeg(testSnapshot(0, record));
  cluster.nodes[1].addLeg(testSnapshot(1, record));
  cluster.nodes[1].addLeg(testSnapshot(2, record), "/new");
  await cluster.with(async (nodes) => {
    const pool = await findPool("vol1", [A], nodes);
    const table = pool.legs.map((leg) => ({ ...leg, state: leg.isInSyncMember ? "in-sync" : "resyncing" }));
    const asked: string[] = [];
    const client = {
      // deno-lint-ignore no-explicit-any -- a stand-in for both operations that could be asked for
      request: (op: string): Promise<any> => {
        asked.push(op);
        return Promise.resolve({ snapshot: { legs: table } });
      },
      isClosed: false,
      close: () => undefined,
    };
    const begun = await replaceLeg({ client, pool, nodes } as unknown as ServedPool, 1, "/new", false);
    assert.deepEqual([begun.way, begun.legIndex, begun.legUuid], ["hot", 2, testUuid(102)]);
    assert.equal(begun.replacedUuid, testUuid(101));
    assert.deepEqual(asked, ["client.status"]);
  });
});
