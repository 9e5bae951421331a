/** The state directory: kept over restarts, whole after a crash, for one node at a time. */

import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import { NodeState } from "../../../lib/node/node_state.ts";

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
