/** The frame header: its sum, and everything a decoder must refuse. */

import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { headerCrc } from "../../../lib/wire/header_crc.ts";
import {
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  Message,
  MessageType,
} from "../../../lib/wire/message.ts";

function encoded(message: Message): DataView {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  encodeHeader(message, view, 0);
  return view;
}

/** The sum made right again after a change. */
function resum(view: DataView): DataView {
  view.setUint32(60, headerCrc(view, 0), true);
  return view;
}

Deno.test("headerCrc() is zlib's CRC-32 of 60 bytes, at any place", () => {
  const bytes = new Uint8Array(4096);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + 60 <= bytes.length; at++) {
    assert.equal(headerCrc(view, at), crc32(bytes.subarray(at, at + 60)));
  }
  assert.equal(headerCrc(new DataView(new ArrayBuffer(60)), 0), crc32(new Uint8Array(60)));
});

Deno.test("the header has the shape that its table says", () => {
  const message = new Message().reset(MessageType.WRITE);
  message.flags = 3;
  message.legIndex = 0x0102;
  message.requestId = 0x03040506;
  message.status = -5;
  message.sequence = 0x0807060504030;
  message.offset = 2 ** 53 - 4096;
  message.length = 4096;
  message.mask = 0xf0;
  message.watermark = 2 ** 32;
  message.payloadLength = 4096;
  message.payloadCrc = 0xdeadbeef;
  message.resyncSession = 7;
  const view = encoded(message);
  assert.equal(
    Array.from(new Uint8Array(view.buffer), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    "42524d31" + "08" + "03" + "0201" + "06050403" + "fbffffff" + "3040506070800000" + "00f0ffffffff1f00" + "00100000" +
      "f0000000" + "0000000001000000" + "00100000" + "efbeadde" + "07000000" +
      Array.from(new Uint8Array(view.buffer, 60), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  );
  const decoded = new Message();
  assert.equal(decodeHeader(view, 0, decoded), null);
  assert.deepEqual(decoded, message);
});

Deno.test("any single bit that flips in a header is noticed", () => {
  const view = encoded(new Message().reset(MessageType.READ));
  const out = new Message();
  for (let bit = 0; bit < HEADER_BYTES * 8; bit++) {
    view.setUint8(bit >> 3, view.getUint8(bit >> 3) ^ (1 << (bit & 7)));
    assert.equal(decodeHeader(view, 0, out), bit < 32 ? "magic" : "crc");
    view.setUint8(bit >> 3, view.getUint8(bit >> 3) ^ (1 << (bit & 7)));
  }
  assert.equal(decodeHeader(view, 0, out), null);
});

Deno.test("decodeHeader() refuses unknown types", () => {
  const known = new Set<number>(Object.values(MessageType));
  for (let type = 0; type < 256; type++) {
    const view = encoded(new Message().reset(MessageType.READ));
    view.setUint8(4, type);
    assert.equal(decodeHeader(resum(view), 0, new Message()), known.has(type) ? null : "type");
  }
});

Deno.test("decodeHeader() refuses numbers above 2^53 - 1 and payloads above the most", () => {
  for (const at of [16, 24, 40]) {
    const view = encoded(new Message().reset(MessageType.READ));
    view.setUint32(at + 4, 0x200000, true);
    assert.equal(decodeHeader(resum(view), 0, new Message()), "range");
    view.setUint32(at + 4, 0x1fffff, true);
    view.setUint32(at, 0xffffffff, true);
    assert.equal(decodeHeader(resum(view), 0, new Message()), null);
  }
  const view = encoded(new Message().reset(MessageType.DATA));
  view.setUint32(48, MAX_PAYLOAD_BYTES, true);
  assert.equal(decodeHeader(resum(view), 0, new Message()), null);
  view.setUint32(48, MAX_PAYLOAD_BYTES + 1, true);
  assert.equal(decodeHeader(resum(view), 0, new Message()), "payload-length");
});

Deno.test("decodeHeader() leaves the message as it was when it refuses", () => {
  const out = new Message().reset(MessageType.PING);
  out.requestId = 9;
  decodeHeader(new DataView(new ArrayBuffer(64)), 0, out);
  assert.equal(out.type, MessageType.PING);
  assert.equal(out.requestId, 9);
});
