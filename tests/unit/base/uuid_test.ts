import assert from "node:assert/strict";
import fc from "fast-check";
import { isUuid, randomUuid, readUuid, uuidFromBytes, uuidToBytes, writeUuid } from "../../../lib/base/uuid.ts";

Deno.test("UUIDs survive the way to bytes and back, in the order they are read", () => {
  fc.assert(fc.property(fc.uuid(), fc.nat({ max: 40 }), (uuid, offset) => {
    assert.equal(uuidFromBytes(uuidToBytes(uuid)), uuid);
    const block = new Uint8Array(64);
    writeUuid(uuid, block, offset);
    assert.equal(readUuid(block, offset), uuid);
  }));
  assert.deepEqual(
    uuidToBytes("00112233-4455-6677-8899-aabbccddeeff"),
    Uint8Array.from([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]),
  );
});

Deno.test("isUuid() takes lower-case UUIDs only", () => {
  const uuid = randomUuid();
  assert.ok(isUuid(uuid));
  assert.notEqual(randomUuid(), uuid);
  for (
    const text of ["", uuid.toUpperCase() + "x", uuid.slice(1), uuid.replaceAll("-", ""), `{${uuid}}`, uuid + "\n"]
  ) {
    assert.ok(!isUuid(text), text);
  }
});
