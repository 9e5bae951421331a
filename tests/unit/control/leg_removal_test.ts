/** Legs are removed by index, UUID or place; one that is in the pool is never taken for one that was. */

import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import { type ChangedLeg, removeLeg, type ServedPool } from "../../../lib/control/leg_changes.ts";
import { findPool } from "../../../lib/control/pool_lookup.ts";
import { FakeCluster, testRecord, testSnapshot, testUuid } from "./fake_node.ts";

const [A, B, C, D] = [1, 2, 3, 4].map((n) => `10.0.0.${n}:7701`);
const NEW_LEG = testUuid(300);
const OLD_LEG = testUuid(102);
const NOTHING = { permissions: "none" } as const;

/** Leg 2 was on C and was removed while C was down; then a leg on D got index 2; C is back. */
function afterReuse(): FakeCluster {
  const cluster = new FakeCluster(A, B, C, D);
  const old = testRecord([A, B, C]);
  const { legs } = testRecord([A, B, D], { epoch: 3 });
  const record = { ...old, epoch: 3, legs: legs.map((leg, i) => i === 2 ? { ...leg!, uuid: NEW_LEG } : leg) };
  for (const [index, node] of [0, 1, 3].entries()) cluster.nodes[node].addLeg(testSnapshot(index, record));
  cluster.nodes[2].addLeg(testSnapshot(2, old), "/old.img");
  return cluster;
}

/** Removes `leg`, found from `addresses`; `asked` is what whoever serves the pool was asked to change. */
async function remove(
  cluster: FakeCluster,
  leg: number | string,
  addresses: readonly string[],
): Promise<{ removed: ChangedLeg; asked: unknown[] }> {
  const asked: unknown[] = [];
  const removed = await cluster.with(async (nodes) => {
    const inForce = await findPool("vol1", [A], nodes);
    const pool = await findPool("vol1", addresses, nodes);
    const client = {
      // deno-lint-ignore no-explicit-any -- a stand-in for both operations that are asked for
      request: (op: string, request: unknown): Promise<any> => {
        if (op === "client.changeLegs") asked.push(request);
        return Promise.resolve({ snapshot: { legs: inForce.legs } });
      },
      close: () => undefined,
    };
    return await removeLeg({ client, pool, nodes } as ServedPool, leg);
  });
  return { removed, asked };
}

Deno.test(
  "an index that a former leg has too is refused, with the command that erases the former",
  NOTHING,
  async () => {
    const cluster = afterReuse();
    await assert.rejects(remove(cluster, 2, [A, C]), (error) => {
      assert(error instanceof ControlError, String(error));
      assert.equal(error.code, "refused");
      assert.ok(error.message.includes(`brmr leg remove vol1 ${OLD_LEG} --node ${C}`), error.message);
      return true;
    });
    assert.ok(cluster.nodes[3].legs.has(NEW_LEG), "the good leg is untouched");
  },
);

Deno.test("a former leg is erased by its UUID or its place, and the table stays", NOTHING, async () => {
  for (const name of [OLD_LEG, `${C}:/old.img`]) {
    const cluster = afterReuse();
    const { removed, asked } = await remove(cluster, name, [C]);
    assert.deepEqual(asked, []);
    assert.equal(removed.legUuid, OLD_LEG);
    assert.equal(cluster.nodes[2].legs.size, 0);
    assert.ok(cluster.nodes[3].legs.has(NEW_LEG), "the good leg is untouched");
  }
});

Deno.test("a leg of the table is removed by index, UUID or place", NOTHING, async () => {
  for (const name of [2, NEW_LEG, `${D}:/legs/2`]) {
    const cluster = afterReuse();
    const { removed, asked } = await remove(cluster, name, name === 2 ? [A] : [A, C]);
    assert.deepEqual(asked, [{ kind: "remove", legIndex: 2 }]);
    assert.equal(removed.note, "");
    assert.equal(cluster.nodes[3].legs.size, 0);
    assert.equal(cluster.nodes[2].legs.size, 1);
  }
});

Deno.test("what is left to do names the leg by its UUID, and its node", NOTHING, async () => {
  const cluster = afterReuse();
  cluster.nodes[3].isDown = true;
  const { removed } = await remove(cluster, 2, [A]);
  assert.ok(removed.note.includes(`"brmr leg remove vol1 ${NEW_LEG} --node ${D}" erases it`), removed.note);
  const other = afterReuse();
  await assert.rejects(remove(other, OLD_LEG, [A]), /is found when that node is named with --node/);
  await assert.rejects(remove(other, "10.0.0.1:no/path", [A]), /is not the place of a leg/);
});
