/**
 * Fuzzing what has no state: the header decoder and the parser of bodies.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { Prng } from "../../lib/base/prng.ts";
import { bodyKind, encodeBody, maxBodyBytes, parseBody } from "../../lib/wire/body_codec.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, Message } from "../../lib/wire/message.ts";
import { anyLength, fillRandom, sampleBody, soundFrame, spoilBytes, spoilHeader, spoilJson } from "./fuzz_frames.ts";

/** Headers: what is accepted encodes to the very same bytes, and what is refused leaves the message alone. */
export function headerTarget(): (random: Prng) => void {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  const again = new Uint8Array(HEADER_BYTES);
  const againView = new DataView(again.buffer);
  const sources: Uint8Array[] = [];
  const out = new Message();
  const before = new Message();
  return (random) => {
    if (sources.length < 500) sources.push(soundFrame(random, 64).slice(0, HEADER_BYTES));
    const choice = random.below(4);
    if (choice === 0) fillRandom(random, bytes);
    else bytes.set(random.pick(sources));
    if (choice === 1) bytes[random.below(HEADER_BYTES)] ^= 1 << random.below(8);
    else if (choice === 2) spoilHeader(random, bytes);
    if (random.below(4) === 0) view.setUint32(60, crc32(bytes.subarray(0, 60)), true);
    before.copyFrom(out);
    const fault = decodeHeader(view, 0, out);
    if (fault !== null) {
      assert.ok(out.type === before.type && out.sequence === before.sequence && out.length === before.length);
      return;
    }
    assert.equal(crc32(bytes.subarray(0, 60)), view.getUint32(60, true), "Only what matches its sum is accepted");
    assert.ok(out.payloadLength <= MAX_PAYLOAD_BYTES);
    assert.ok(Number.isSafeInteger(out.sequence) && Number.isSafeInteger(out.offset));
    assert.ok(Number.isSafeInteger(out.watermark));
    encodeHeader(out, againView, 0);
    for (let at = 0; at < HEADER_BYTES; at += 4) {
      if (againView.getUint32(at) !== view.getUint32(at)) assert.fail(`Word at ${at} is not kept`);
    }
  };
}

/** Bodies: never an exception; what is accepted is accepted again once encoded, and is then the same. */
export function bodyTarget(): (random: Prng) => void {
  return (random) => {
    const [type, bytes] = anyBody(random);
    const parsed = parseBody(type, bytes);
    if (!parsed.ok) {
      assert.ok(parsed.message.length > 0 && parsed.message.length < 500);
      return;
    }
    assert.ok(bytes.length <= maxBodyBytes(type));
    const encoded = encodeBody(type, parsed.body);
    if (bodyKind(type) !== "json") {
      assert.ok(encoded.length === bytes.length && crc32(encoded) === crc32(bytes));
      return;
    }
    const again = parseBody(type, encoded);
    assert.ok(again.ok && Buffer.compare(encodeBody(type, again.body), encoded) === 0);
    assert.equal(Object.getPrototypeOf(parsed.body), Object.prototype);
  };
}

function anyBody(random: Prng): readonly [number, Uint8Array] {
  const choice = random.below(10);
  if (choice < 7) {
    const [type, bytes] = sampleBody(random);
    let spoiled = spoilJson(random, bytes);
    while (random.below(3) === 0 && spoiled.length > 0) spoiled = spoilBytes(random, spoiled.slice());
    // Now and then the body of another type.
    return [random.below(20) === 0 ? random.below(256) : type, spoiled];
  }
  const bytes = new Uint8Array(choice === 7 ? 0 : anyLength(random, 5000));
  fillRandom(random, bytes);
  return [random.below(64), choice === 8 ? bytes.subarray(0, bytes.length & ~7) : bytes];
}
