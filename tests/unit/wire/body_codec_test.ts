/** Bodies: what goes in comes out, and nothing else gets through the gate. */

import assert from "node:assert/strict";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import {
  bodyKind,
  bodyLengthAllowed,
  encodeBody,
  MAX_JSON_BYTES,
  maxBodyBytes,
  parseBody,
} from "../../../lib/wire/body_codec.ts";
import { MAX_PAYLOAD_BYTES, MessageType } from "../../../lib/wire/message.ts";
import { SAMPLE_BODIES } from "./sample_bodies.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

function refusal(type: number, bytes: Uint8Array): string {
  const parsed = parseBody(type, bytes);
  assert.ok(!parsed.ok, "The payload is refused");
  assert.ok(parsed.message.length > 0 && parsed.message.length < 400, parsed.message);
  return parsed.message;
}

Deno.test("every type has a kind, and every JSON type a sample here", () => {
  const sampled = new Set(SAMPLE_BODIES.map(([type]) => type));
  const kinds = new Map<string, number[]>();
  for (const type of Object.values(MessageType)) {
    const kind = bodyKind(type);
    kinds.set(kind, [...(kinds.get(kind) ?? []), type]);
    assert.equal(sampled.has(type), kind === "json", `Type ${type}`);
    assert.equal(maxBodyBytes(type) === 0, kind === "none");
  }
  assert.deepEqual(kinds.get("words"), [
    MessageType.MAP_PART,
    MessageType.CLEAR,
    MessageType.HASH_DATA,
    MessageType.RELEASED,
  ]);
  assert.deepEqual(kinds.get("data"), [MessageType.WRITE, MessageType.DATA, MessageType.PULL_DATA]);
});

Deno.test("parseBody() gives back what encodeBody() was given", () => {
  for (const [type, body] of SAMPLE_BODIES) {
    assert.deepEqual(parseBody(type, encodeBody(type, body)), { ok: true, body });
  }
});

Deno.test("the longest bodies that the schemas allow fit", () => {
  const extents = Array.from({ length: 65536 }, (_, i) => 67_000_000 + i);
  for (const [type, body] of SAMPLE_BODIES) {
    const key = ["intents", "suspectExtents", "extents"].find((name) => name in body);
    if (key === undefined) continue;
    const bytes = encodeBody(type, { ...body, [key]: extents });
    assert.ok(parseBody(type, bytes).ok, `Type ${type} with ${bytes.length} bytes`);
  }
});

Deno.test("unknown keys are dropped; missing and ill-typed ones refuse the body and are named", () => {
  for (const [type, body] of SAMPLE_BODIES) {
    if (type >= MessageType.CONTROL_REQUEST) continue;
    assert.deepEqual(parseBody(type, utf8(JSON.stringify({ ...body, futureKey: [1] }))), { ok: true, body });
    const [key] = Object.keys(body);
    assert.match(refusal(type, utf8(JSON.stringify({ ...body, [key]: undefined }))), new RegExp(`"${key}"`));
    assert.match(refusal(type, utf8(JSON.stringify({ ...body, [key]: { nested: true } }))), new RegExp(`"${key}[".]`));
  }
});

Deno.test("numbers are whole, not negative and exact", () => {
  const claim = (generation: string) =>
    utf8(
      `{"generation":${generation},"clientUuid":"0123abcd-4567-89ab-cdef-0123456789ab","clientName":"","takeover":false}`,
    );
  assert.ok(parseBody(MessageType.CLAIM, claim("9007199254740991")).ok);
  for (const bad of ["-1", "0.5", "9007199254740992", "1e400", '"1"', "null"]) refusal(MessageType.CLAIM, claim(bad));
});

Deno.test("a body that is no JSON, no UTF-8 or no object is refused", () => {
  for (
    const bytes of [
      utf8(""),
      utf8("{"),
      utf8("nonsense"),
      utf8("[]"),
      utf8('"text"'),
      utf8("null"),
      utf8("42"),
      Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d),
      new Uint8Array(1000),
    ]
  ) {
    for (const [type] of SAMPLE_BODIES) refusal(type, bytes);
  }
});

Deno.test("JSON that nests without end is refused, brackets in text are not counted", () => {
  const depth = 100_000;
  refusal(MessageType.CONTROL_REQUEST, utf8(`{"op":"x","deep":${"[".repeat(depth)}${"]".repeat(depth)}}`));
  refusal(MessageType.CONTROL_REQUEST, utf8('{"a":'.repeat(50_000)));
  const text = '\\"[{'.repeat(1000);
  assert.deepEqual(parseBody(MessageType.CONTROL_REQUEST, utf8(`{"op":"x","text":"${text}"}`)), {
    ok: true,
    body: { op: "x", text: '"[{'.repeat(1000) },
  });
});

Deno.test("a peer cannot reach the prototype of what we make", () => {
  const parsed = parseBody(
    MessageType.CONTROL_REQUEST,
    utf8('{"op":"x","__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'),
  );
  assert.ok(parsed.ok);
  assert.equal((parsed.body as Record<string, unknown>).polluted, undefined);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

Deno.test("a body longer than its type allows is refused unread", () => {
  assert.match(refusal(MessageType.HELLO, new Uint8Array(64 * 1024 + 1)), /bytes/);
  assert.match(refusal(MessageType.CONTROL_REQUEST, new Uint8Array(MAX_JSON_BYTES + 1)), /bytes/);
  assert.match(refusal(MessageType.GRANT, new Uint8Array(MAX_PAYLOAD_BYTES + 1)), /bytes/);
  assert.match(refusal(MessageType.PING, new Uint8Array(1)), /bytes/);
  assert.match(refusal(200, new Uint8Array(1)), /bytes/);
});

Deno.test("words are copied, whatever the alignment of the bytes", () => {
  const memory = new Uint8Array(64);
  const words = Uint32Array.of(1, 0xffffffff, 7, 0x01020304);
  memory.set(encodeBody(MessageType.CLEAR, words), 3);
  const parsed = parseBody(MessageType.CLEAR, memory.subarray(3, 19));
  memory.fill(0);
  assert.deepEqual(parsed, { ok: true, body: words });
  assert.deepEqual(parseBody(MessageType.MAP_PART, new Uint8Array(0)), { ok: true, body: new Uint32Array(0) });
  for (const type of [MessageType.MAP_PART, MessageType.CLEAR, MessageType.HASH_DATA]) {
    for (const lengthBytes of [1, 4, 7, 12, 8188]) refusal(type, new Uint8Array(lengthBytes));
  }
});

Deno.test("a view of part of a word array is sent as that part", () => {
  const words = Uint32Array.of(9, 9, 1, 2, 3, 4, 9, 9).subarray(2, 6);
  assert.deepEqual(
    encodeBody(MessageType.MAP_PART, words),
    new Uint8Array([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]),
  );
});

Deno.test("data passes as it is, types without a body give null", () => {
  const bytes = Uint8Array.of(1, 2, 3);
  assert.deepEqual(parseBody(MessageType.DATA, bytes), { ok: true, body: bytes });
  assert.deepEqual(encodeBody(MessageType.WRITE, bytes), bytes);
  assert.deepEqual(parseBody(MessageType.PING, new Uint8Array(0)), { ok: true, body: null });
  assert.equal(encodeBody(MessageType.PING, null).length, 0);
});

Deno.test("bodies in shared memory can be read", () => {
  const [type, body] = SAMPLE_BODIES[0];
  const bytes = encodeBody(type, body);
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  assert.deepEqual(parseBody(type, shared), { ok: true, body });
});

Deno.test("encodeBody() refuses what its caller got wrong", () => {
  assert.throws(() => encodeBody(MessageType.PING, { a: 1 }), AssertionFailure);
  assert.throws(() => encodeBody(MessageType.CLEAR, Uint32Array.of(1)), AssertionFailure);
  assert.throws(() => encodeBody(MessageType.CLEAR, [1, 2]), AssertionFailure);
  assert.throws(() => encodeBody(MessageType.WRITE, "text"), AssertionFailure);
  assert.throws(() => encodeBody(MessageType.WRITE, new Uint8Array(0)), AssertionFailure);
  assert.throws(
    () => encodeBody(MessageType.CONTROL_REQUEST, { op: "x".repeat(MAX_JSON_BYTES) }),
    AssertionFailure,
  );
});

Deno.test("bodyLengthAllowed() agrees with parseBody() about lengths", () => {
  for (let type = 0; type < 256; type++) {
    for (const lengthBytes of [0, 1, 2, 8, 12, 65536, 65537, MAX_JSON_BYTES, MAX_JSON_BYTES + 8, MAX_PAYLOAD_BYTES]) {
      const parsed = parseBody(type, new Uint8Array(lengthBytes));
      const byLength = !parsed.ok && parsed.message.includes("cannot belong");
      assert.equal(byLength, !bodyLengthAllowed(type, lengthBytes), `Type ${type}, ${lengthBytes} bytes`);
    }
  }
});
