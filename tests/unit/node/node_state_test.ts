/** The state directory: kept over restarts, whole after a crash, for one node at a time. */

import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import { NodeState } from "../../../lib/node/node_state.ts";
import { testRecord } from "../control/fake_node.ts";

const LEG = { path: "/data/a.img", poolUuid: crypto.randomUUID(), legUuid: crypto.randomUUID(), createdFile: true };

async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "brmr-state-" });
  try {
    await body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("NodeState keeps identity, name and legs over restarts", async () => {
  await withDirectory(async (directory) => {
    const first = await NodeState.open(`${directory}/new`, "alpha");
    await first.addLeg(LEG);
    await first.addLeg({ ...LEG, path: "/data/b.img" });
    await first.addLeg({ ...LEG, createdFile: false }); // replaces the one at its path
    first.close();
    const second = await NodeState.open(`${directory}/new`, undefined);
    assert.equal(second.nodeUuid, first.nodeUuid);
    assert.equal(second.nodeName, "alpha");
    assert.deepEqual(second.legs, [{ ...LEG, path: "/data/b.img" }, { ...LEG, createdFile: false }]);
    await second.removeLeg("/data/b.img");
    second.close();
    const third = await NodeState.open(`${directory}/new`, "beta");
    assert.equal(third.nodeName, "beta");
    assert.deepEqual(third.legs.map((leg) => leg.path), ["/data/a.img"]);
    third.close();
  });
});

Deno.test("NodeState is locked while it is open", async () => {
  await withDirectory(async (directory) => {
    const first = await NodeState.open(directory, undefined);
    await assert.rejects(
      NodeState.open(directory, undefined),
      (error) => error instanceof ControlError && error.code === "in-use",
    );
    first.close();
    (await NodeState.open(directory, undefined)).close();
  });
});

Deno.test("NodeState: a half-written new file changes nothing; a spoilt file is refused with its name", async () => {
  await withDirectory(async (directory) => {
    const first = await NodeState.open(directory, undefined);
    await first.addLeg(LEG);
    first.close();
    await Deno.writeTextFile(`${directory}/.legs.json.new`, '{"version": 1, "le');
    const second = await NodeState.open(directory, undefined);
    assert.deepEqual(second.legs, [LEG]);
    second.close();
    await Deno.writeTextFile(`${directory}/legs.json`, '{"version": 1, "le');
    await assert.rejects(NodeState.open(directory, undefined), /legs\.json/);
    await Deno.writeTextFile(`${directory}/legs.json`, '{"version": 2, "legs": []}');
    await assert.rejects(NodeState.open(directory, undefined), /legs\.json/);
    await Deno.remove(`${directory}/legs.json`);
    (await NodeState.open(directory, undefined)).close();
  });
});

Deno.test("NodeState keeps what legs are like, puts legs in others' places, and opens when it cannot make sense of a shape", async () => {
  await withDirectory(async (directory) => {
    const shape = {
      ...{ poolUuid: LEG.poolUuid, poolName: "vol1", legUuid: LEG.legUuid, legIndex: 1, sizeBytes: 1 << 30 },
      ...{ chunkBytes: 4096, logicalBlockBytes: 512, extentBytes: 1 << 20, hotExtentCount: 64 },
      shared: testRecord(["10.0.0.1:7701", "10.0.0.2:7701"]),
    };
    const first = await NodeState.open(directory, undefined);
    await first.addLeg(LEG);
    await first.noteShapes(new Map([[LEG.legUuid, shape], [crypto.randomUUID(), shape]]));
    first.close();
    const second = await NodeState.open(directory, undefined);
    assert.deepEqual(second.legs, [{ ...LEG, shape }]);
    const replaced = { path: LEG.path, legUuid: LEG.legUuid, createdFile: true };
    const next = { ...LEG, path: "/data/b.img", legUuid: crypto.randomUUID(), replaced };
    await second.replaceLeg([LEG.legUuid], next);
    second.close();
    const third = await NodeState.open(directory, undefined);
    assert.deepEqual(third.legs, [next]);
    third.close();
    const spoilt = { ...next, shape: { ...shape, chunkBytes: 17 } };
    await Deno.writeTextFile(`${directory}/legs.json`, JSON.stringify({ version: 1, legs: [spoilt] }));
    const fourth = await NodeState.open(directory, undefined);
    assert.deepEqual(fourth.legs, [{ ...next, shape: undefined }]);
    fourth.close();
  });
});
