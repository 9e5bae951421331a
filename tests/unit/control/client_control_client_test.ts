import assert from "node:assert/strict";
import { connectClient } from "../../../lib/control/client_control_client.ts";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";
import { clientSocketPath } from "../../../lib/control/runtime_dir.ts";

/** A unix socket that answers each line with `answer(line)`; null closes, "" says nothing. */
async function withClient(
  answer: (line: string) => string | null,
  work: (runtimeDir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "brmr-test-" });
  const listener = Deno.listen({ transport: "unix", path: clientSocketPath(dir, "vol1") });
  const open = new Set<Deno.Conn>();
  const serving = (async () => {
    for await (const connection of listener) {
      open.add(connection);
      await serveOne(connection, answer);
      if (open.delete(connection)) connection.close();
    }
  })();
  try {
    await work(dir);
  } finally {
    for (const connection of [...open]) if (open.delete(connection)) connection.close();
    listener.close();
    await serving;
    await Deno.remove(dir, { recursive: true });
  }
}

async function serveOne(connection: Deno.Conn, answer: (line: string) => string | null): Promise<void> {
  let text = "";
  const chunk = new Uint8Array(4096);
  for (;;) {
    const count = await connection.read(chunk).catch(() => null); // closed by the test while it waited
    if (count === null) return;
    text += new TextDecoder().decode(chunk.subarray(0, count));
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      const reply = answer(text.slice(0, end));
      text = text.slice(end + 1);
      if (reply === null) return;
      await connection.write(new TextEncoder().encode(reply));
    }
  }
}

async function rejectsWith(work: Promise<unknown>, code: ControlErrorCode, pattern: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof ControlError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("connectClient() asks line by line and gives results and errors back", async () => {
  const seen: unknown[] = [];
  const answer = (line: string) => {
    const request = JSON.parse(line);
    seen.push(request);
    return request.op === "client.status"
      ? '{"ok":true,"result":{"uri":"nbd+unix:///vol1"}}\n'
      : '{"ok":false,"error":{"code":"timeout","message":"Leg 1 does not flush."}}\n';
  };
  await withClient(answer, async (runtimeDir) => {
    const client = await connectClient("vol1", { runtimeDir, timeoutMs: 10_000 });
    const [first, second] = await Promise.all([
      client.request("client.status", {}),
      client.request("client.status", {}),
    ]);
    assert.equal(first.uri, "nbd+unix:///vol1");
    assert.equal(second.uri, "nbd+unix:///vol1");
    await rejectsWith(client.request("client.detach", {}), "timeout", /does not flush/);
    client.close();
  });
  assert.deepEqual(seen, [{ op: "client.status" }, { op: "client.status" }, { op: "client.detach" }]);
});

Deno.test("a pool that is not attached is not-found, also when a dead client left its socket", async () => {
  const dir = await Deno.makeTempDir({ prefix: "brmr-test-" });
  try {
    await rejectsWith(connectClient("vol1", { runtimeDir: dir, timeoutMs: 1000 }), "not-found", /brmr attach vol1/);
    await Deno.writeTextFile(clientSocketPath(dir, "vol1"), "");
    await rejectsWith(connectClient("vol1", { runtimeDir: dir, timeoutMs: 1000 }), "not-found", /not attached/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("silence, nonsense and a closed connection become sentences", async () => {
  const cases: [(line: string) => string | null, ControlErrorCode, RegExp][] = [
    [() => "", "timeout", /client\.status/],
    [() => "what?\n", "unreachable", /makes no sense/],
    [() => null, "unreachable", /closed the connection/],
  ];
  for (const [answer, code, pattern] of cases) {
    await withClient(answer, async (runtimeDir) => {
      const client = await connectClient("vol1", { runtimeDir, timeoutMs: code === "timeout" ? 50 : 10_000 });
      await rejectsWith(client.request("client.status", {}), code, pattern);
      client.close();
    });
  }
});
