/** The control socket of a client: whose it is, and when it is left to the next. */

import assert from "node:assert/strict";
import { connectClient } from "../../../lib/control/client_control_client.ts";
import { ControlError } from "../../../lib/control/control_api.ts";
import { clientSocketPath } from "../../../lib/control/runtime_dir.ts";
import { ClientControlServer } from "../../../lib/node/client_control_server.ts";

async function withDirectory(test: (runtimeDir: string, path: string) => Promise<void>): Promise<void> {
  const runtimeDir = await Deno.makeTempDir({ prefix: "brmr-" });
  try {
    await test(runtimeDir, clientSocketPath(runtimeDir, "vol1"));
  } finally {
    await Deno.remove(runtimeDir, { recursive: true });
  }
}

const noAnswer = () => Promise.reject(new ControlError("internal", "nobody asks"));

Deno.test("of several that find the socket of a dead client at once, one has it and the others are told so", async () => {
  await withDirectory(async (_, path) => {
    const dead = Deno.listen({ transport: "unix", path: `${path}.old` });
    await Deno.rename(`${path}.old`, path); // so that the file stays, as that of a process that dies does
    dead.close();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => ClientControlServer.listen(path, noAnswer)),
    );
    const servers = outcomes.filter((outcome) => outcome.status === "fulfilled").map(({ value }) => value);
    const codes = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason.code);
    for (const server of servers) await server.close();
    assert.equal(servers.length, 1);
    assert.deepEqual(codes, Array(7).fill("in-use"));
  });
});

Deno.test("an answer that is being made is given after the path was left, and the next one's socket stays", async () => {
  await withDirectory(async (runtimeDir, path) => {
    const server: ClientControlServer = await ClientControlServer.listen(path, async () => {
      await server.leave();
      return {};
    });
    const client = await connectClient("vol1", { runtimeDir, timeoutMs: 60_000 });
    await client.request("client.detach", {});
    const next = await ClientControlServer.listen(path, () => Promise.resolve({ uri: "next" }));
    client.close();
    await server.close();
    const other = await connectClient("vol1", { runtimeDir, timeoutMs: 60_000 });
    assert.equal((await other.request("client.status", {})).uri, "next");
    other.close();
    await next.close();
    await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);
  });
});

Deno.test("a client whose runtime directory was taken away ends all the same", async () => {
  await withDirectory(async (runtimeDir, path) => {
    const server = await ClientControlServer.listen(path, noAnswer);
    await Deno.rename(runtimeDir, `${runtimeDir}.gone`);
    await server.close();
    await Deno.rename(`${runtimeDir}.gone`, runtimeDir);
  });
});
