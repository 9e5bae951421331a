import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { connectNode } from "../../../lib/control/node_control_client.ts";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message, MessageType } from "../../../lib/wire/message.ts";
import { testUuid } from "./fake_node.ts";

/** How a fake storage node answers one frame: the bytes to send, or null to close. */
type Answer = (type: number, body: Record<string, unknown>, requestId: number) => Uint8Array | null | "silence";

/** A TCP listener that reads control frames and answers with `answer`; gone when `work` is done. */
async function withServer(answer: Answer, work: (address: string) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const serving = (async () => {
    const sessions: Promise<void>[] = [];
    for await (const connection of listener) {
      open.add(connection);
      sessions.push(serveOne(connection, answer).catch(ignoreClosed).finally(() => close(open, connection)));
    }
    await Promise.all(sessions);
  })();
  try {
    await work(`127.0.0.1:${(listener.addr as Deno.NetAddr).port}`);
  } finally {
    for (const connection of [...open]) close(open, connection);
    listener.close();
    await serving;
  }
}

function close(open: Set<Deno.Conn>, connection: Deno.Conn): void {
  if (open.delete(connection)) connection.close();
}

/** The client hangs up whenever it is done; that is no failure of the server. */
function ignoreClosed(error: unknown): void {
  const isOrdinary = error instanceof Deno.errors.BadResource || error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.Interrupted;
  if (!isOrdinary) throw error;
}

async function serveOne(connection: Deno.Conn, answer: Answer): Promise<void> {
  for (;;) {
    const header = await readExactly(connection, HEADER_BYTES);
    if (header === null) return;
    const message = new Message();
    assert.equal(decodeHeader(new DataView(header.buffer), 0, message), null);
    const payload = await readExactly(connection, message.payloadLength);
    if (payload === null) return;
    assert.equal(message.payloadCrc, crc32(payload));
    const reply = answer(message.type, JSON.parse(new TextDecoder().decode(payload)), message.requestId);
    if (reply === "silence") continue;
    if (reply === null) return;
    // Byte by byte at first: frames arrive in any pieces.
    await connection.write(reply.subarray(0, 1));
    for (let sent = 1; sent < reply.length;) sent += await connection.write(reply.subarray(sent));
  }
}

async function readExactly(connection: Deno.Conn, length: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const bytes = new Uint8Array(length);
  for (let have = 0; have < length;) {
    const count = await connection.read(bytes.subarray(have));
    if (count === null) return null;
    have += count;
  }
  return bytes;
}

function frame(type: number, requestId: number, body: unknown): Uint8Array {
  const payload = new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body));
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const message = new Message().reset(type);
  message.requestId = requestId;
  message.payloadLength = payload.length;
  message.payloadCrc = crc32(payload);
  encodeHeader(message, new DataView(bytes.buffer), 0);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

const WELCOME = { protocol: 1, features: 0, instance: testUuid(7), creditRequests: 1, creditBytes: 1 };

/** A well-behaved node whose operations are `operate`. */
function node(operate: (body: Record<string, unknown>) => unknown): Answer {
  return (type, body, requestId) => {
    if (type === MessageType.HELLO) return frame(MessageType.WELCOME, 0, WELCOME);
    assert.equal(type, MessageType.CONTROL_REQUEST);
    return frame(MessageType.CONTROL_REPLY, requestId, operate(body));
  };
}

async function rejectsWith(work: Promise<unknown>, code: ControlErrorCode, pattern: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof ControlError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("connectNode() greets as role control, asks, and gives the result back", async () => {
  const seen: unknown[] = [];
  const answer: Answer = (type, body, requestId) => {
    seen.push(body);
    return node((request) => ({ ok: true, result: { path: request.path } }))(type, body, requestId);
  };
  await withServer(answer, async (address) => {
    const client = await connectNode(address, { timeoutMs: 10_000 });
    const results = await Promise.all(
      ["/a", "/b", "/c"].map((path) => client.request("leg.probe", { path })),
    );
    assert.deepEqual(results.map((result) => result.path), ["/a", "/b", "/c"]);
    client.close();
  });
  const [hello, first] = seen as Record<string, unknown>[];
  assert.equal(hello.role, "control");
  assert.equal(hello.protocol, 1);
  assert.deepEqual(first, { op: "leg.probe", path: "/a" });
});

Deno.test("a node's error keeps its code and words, and the connection stays usable", async () => {
  let count = 0;
  const operate = () =>
    count++ === 0
      ? { ok: false, error: { code: "foreign-data", message: "It carries an ext4 file system." } }
      : { ok: true, result: { legs: 1 } };
  await withServer(node(operate), async (address) => {
    const client = await connectNode(address, { timeoutMs: 10_000 });
    await rejectsWith(client.request("leg.probe", { path: "/a" }), "foreign-data", /an ext4 file system/);
    assert.deepEqual(await client.request("resync.set", { pool: "vol1" }), { legs: 1 });
    client.close();
  });
});

Deno.test("an unknown error code of a newer node becomes internal, with its sentence", async () => {
  const operate = () => ({ ok: false, error: { code: "quota", message: "Too many legs." } });
  await withServer(node(operate), async (address) => {
    const client = await connectNode(address, { timeoutMs: 10_000 });
    await rejectsWith(client.request("leg.probe", { path: "/a" }), "internal", /Too many legs/);
    client.close();
  });
});

Deno.test("nobody listening is unreachable, with the address and what to check", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  await rejectsWith(connectNode(`127.0.0.1:${port}`, { timeoutMs: 10_000 }), "unreachable", /brmr serve/);
  await rejectsWith(connectNode("nonsense", { timeoutMs: 10_000 }), "bad-request", /HOST:PORT/);
});

Deno.test("a node that is silent is a timeout, at the greeting and at a request", async () => {
  await withServer(() => "silence", async (address) => {
    await rejectsWith(connectNode(address, { timeoutMs: 50 }), "timeout", /did not answer the greeting/);
  });
  const answer: Answer = (type) => type === MessageType.HELLO ? frame(MessageType.WELCOME, 0, WELCOME) : "silence";
  await withServer(answer, async (address) => {
    const client = await connectNode(address, { timeoutMs: 10_000, requestTimeoutMs: 50 });
    await rejectsWith(client.request("node.info", {}), "timeout", /node\.info/);
    await rejectsWith(client.request("node.info", {}), "unreachable", /closed/);
    client.close();
  });
  // What waits for a disk has a limit of its own.
  const unread = { poolUuid: "p", legUuid: "l", force: true } as never;
  for (
    const [limits, op] of [[{ deviceTimeoutMs: 50 }, "leg.create"], [{ requestTimeoutMs: 50 }, "leg.delete"]] as const
  ) {
    await withServer(answer, async (address) => {
      const client = await connectNode(address, { timeoutMs: 10_000, ...limits });
      await rejectsWith(client.request(op, unread), "timeout", /within 50 ms/);
      client.close();
    });
  }
});

Deno.test("refusals and other protocol versions are told apart from strangers", async () => {
  const refuse: Answer = () => frame(MessageType.REFUSE, 0, { code: "busy", message: "Too many connections." });
  await withServer(refuse, async (address) => {
    await rejectsWith(connectNode(address, { timeoutMs: 10_000 }), "refused", /Too many connections/);
  });
  const newer: Answer = () => frame(MessageType.WELCOME, 0, { ...WELCOME, protocol: 2 });
  await withServer(newer, async (address) => {
    await rejectsWith(connectNode(address, { timeoutMs: 10_000 }), "refused", /version 2; upgrade this end/);
  });
});

Deno.test("whatever a stranger sends becomes a sentence", async () => {
  const damaged = frame(MessageType.WELCOME, 0, WELCOME);
  damaged[damaged.length - 2] ^= 1;
  const answers: [Answer, RegExp][] = [
    [() => new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n" + "x".repeat(64)), /not a brmr storage node/],
    [() => frame(MessageType.WELCOME, 0, "{"), /not a brmr storage node/],
    [() => frame(MessageType.WELCOME, 0, { ...WELCOME, instance: 5 }), /not a brmr storage node/],
    [() => frame(MessageType.PONG, 0, WELCOME), /not a brmr storage node/],
    [() => damaged, /damaged/],
    [() => null, /closed the connection/],
  ];
  for (const [answer, pattern] of answers) {
    await withServer(answer, async (address) => {
      await rejectsWith(connectNode(address, { timeoutMs: 10_000 }), "unreachable", pattern);
    });
  }
});

Deno.test("an answer to another question, or of no known shape, is not taken for the result", async () => {
  const shifted: Answer = (type, _body, requestId) =>
    type === MessageType.HELLO
      ? frame(MessageType.WELCOME, 0, WELCOME)
      : frame(MessageType.CONTROL_REPLY, requestId + 1, { ok: true, result: {} });
  await withServer(shifted, async (address) => {
    const client = await connectNode(address, { timeoutMs: 10_000 });
    await rejectsWith(client.request("node.info", {}), "unreachable", /not asked/);
  });
  for (const reply of [{}, { ok: 1 }, "nonsense", [], { ok: false, error: "x" }]) {
    await withServer(node(() => reply), async (address) => {
      const client = await connectNode(address, { timeoutMs: 10_000 });
      await rejectsWith(client.request("node.info", {}), "unreachable", /not a brmr storage node, or of another/);
      client.close();
    });
  }
});
