/** What is said of looking before sleeping reaches the data planes of nodes and clients. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { type ServerProcess, waitFor, withCluster } from "./cluster.ts";

const ENTRY = fileURLToPath(new URL("./turns_entry.ts", import.meta.url));

async function expectTold(server: ServerProcess, mayLook: boolean): Promise<void> {
  const told = await waitFor(`${server.name} to tell`, 60_000, () => {
    return Promise.resolve(/Turns that may look: (\w+)/.exec(server.log));
  });
  assert.equal(told[1], String(mayLook), server.name);
}

Deno.test("--busy-poll never keeps the data planes of serve and attach from looking; they look unless told", async () => {
  const nodeArguments = (index: number) => index === 0 ? ["--busy-poll", "never"] : [];
  await withCluster({ entry: ENTRY, size: "64M", nodeArguments }, async (cluster) => {
    await expectTold(cluster.node(0), false);
    await expectTold(cluster.node(1), true);
    await expectTold(cluster.client, true);
    assert.equal(await cluster.detach(), 0);
    await cluster.attach(["--busy-poll", "never"]);
    await expectTold(cluster.client, false);
  });
});
