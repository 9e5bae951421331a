/**
 * Raw material for fuzzing: sound frames of every type, and the ways to spoil them.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { Prng } from "../../lib/base/prng.ts";
import { frameFault } from "../../lib/transport/frame_rules.ts";
import { bodyKind, encodeBody, parseBody, type ParsedBody } from "../../lib/wire/body_codec.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message, MessageType } from "../../lib/wire/message.ts";
import { SAMPLE_BODIES } from "../unit/wire/sample_bodies.ts";

/** Frames of shared memory are unsound where none is shared, which is everywhere here. */
const TYPES = Object.values(MessageType).filter((type) => type !== MessageType.RELEASED);
const SAMPLES: readonly (readonly [number, Uint8Array])[] = SAMPLE_BODIES.map((
  [type, body],
) => [type, encodeBody(type, body)]);

/** Numbers at which programs break. */
const EDGES = [0, 1, 2, 3, 7, 8, 63, 64, 65, 255, 4095, 4096, 4097, 65535, 65536, 1 << 20, (1 << 20) + 1, 0x7fffffff];
const HIGH_EDGES = [0, 1, 0x1fffff, 0x200000, 0x7fffffff, 0x80000000, 0xffffffff];
/** Where the u32 words of a header that carry one number each begin, and which halves are high ones. */
const LOW_WORDS = [8, 12, 16, 24, 32, 36, 40, 48, 52, 56];
const HIGH_WORDS = [20, 28, 44];

/** Small, with now and then a large one. */
export function anyLength(random: Prng, mostBytes: number): number {
  const most = random.below(50) === 0 ? mostBytes : Math.min(mostBytes, 600);
  return 1 + random.below(most);
}

/** Fills `bytes` with noise. */
export function fillRandom(random: Prng, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i += 4) {
    const word = random.next();
    bytes[i] = word;
    if (i + 1 < bytes.length) bytes[i + 1] = word >>> 8;
    if (i + 2 < bytes.length) bytes[i + 2] = word >>> 16;
    if (i + 3 < bytes.length) bytes[i + 3] = word >>> 24;
  }
}

/** A sound JSON body and its type. */
export function sampleBody(random: Prng): readonly [number, Uint8Array] {
  return random.pick(SAMPLES);
}

/** A frame that keeps every rule, as bytes. */
export function soundFrame(random: Prng, mostPayloadBytes: number): Uint8Array {
  const message = new Message().reset(random.pick(TYPES));
  let payload = anyPayload(random, message.type, mostPayloadBytes);
  message.flags = random.below(8) & ~2;
  message.legIndex = random.below(9);
  message.requestId = random.below(64);
  message.sequence = random.below(3) === 0 ? random.next53() : random.below(1000);
  message.offset = random.below(1 << 20) * 512;
  message.mask = random.below(256);
  message.watermark = random.below(1000);
  message.resyncSession = random.below(4);
  message.length = bodyKind(message.type) === "data" ? payload.length : random.below(1 << 16);
  if (message.type !== MessageType.WRITE && random.below(8) === 0) {
    message.status = -5;
    if (bodyKind(message.type) === "data") payload = new Uint8Array(0);
  }
  if (random.below(8) === 0) message.flags |= 2;
  return frameOf(message, payload);
}

/** `message` with `payload` as bytes. */
export function frameOf(message: Message, payload: Uint8Array | null): Uint8Array {
  const lengthBytes = payload === null ? 0 : payload.length;
  message.payloadLength = lengthBytes;
  message.payloadCrc = lengthBytes === 0 || (message.flags & 2) !== 0 ? 0 : crc32(payload!);
  const frame = new Uint8Array(HEADER_BYTES + lengthBytes);
  encodeHeader(message, new DataView(frame.buffer), 0);
  if (payload !== null) frame.set(payload, HEADER_BYTES);
  return frame;
}

/** A frame as the far side of a transport gets it. */
export interface OpenedFrame {
  readonly message: Message;
  readonly payload: Uint8Array;
  readonly parsed: ParsedBody;
}

/** What becomes of a frame's bytes on their way to a core; null when the transport would close the connection. */
export function openFrame(frame: Uint8Array): OpenedFrame | null {
  const message = new Message();
  if (frame.length < HEADER_BYTES) return null;
  if (decodeHeader(new DataView(frame.buffer, frame.byteOffset), 0, message) !== null) return null;
  if (frameFault(message) !== null || frame.length !== HEADER_BYTES + message.payloadLength) return null;
  const payload = frame.subarray(HEADER_BYTES);
  return { message, payload, parsed: parseBody(message.type, payload) };
}

/** `pairs` pairs of (first, count) that lie below `limit`, or, now and then, not at all. */
export function anyWords(random: Prng, pairs: number, limit: number): Uint32Array {
  const words = new Uint32Array(2 * pairs);
  const isWild = random.below(6) === 0;
  for (let i = 0; i < words.length; i += 2) {
    words[i] = isWild && random.below(8) === 0 ? random.next() : random.below(limit - 8);
    words[i + 1] = isWild && random.below(4) === 0 ? random.next() : 1 + random.below(8);
  }
  return words;
}

function anyPayload(random: Prng, type: number, mostBytes: number): Uint8Array {
  switch (bodyKind(type)) {
    case "json":
      return SAMPLES.find(([of]) => of === type)![1];
    case "words": {
      const payload = new Uint8Array(8 * random.below(anyLength(random, mostBytes / 8)));
      fillRandom(random, payload);
      return payload;
    }
    case "data": {
      const payload = new Uint8Array(anyLength(random, mostBytes));
      fillRandom(random, payload.subarray(0, 64));
      return payload;
    }
    case "none":
      return new Uint8Array(0);
  }
}

/** Makes the sums of a frame right again, so that what was changed is seen by what comes after the sums. */
export function resum(frame: Uint8Array): void {
  if (frame.length < HEADER_BYTES) return;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const payload = frame.subarray(HEADER_BYTES, HEADER_BYTES + view.getUint32(48, true));
  view.setUint32(52, payload.length === 0 ? 0 : crc32(payload), true);
  view.setUint32(60, crc32(frame.subarray(0, 60)), true);
}

/** Changes one number of the header into one that is hard to bear, and makes the sums right. */
export function spoilHeader(random: Prng, frame: Uint8Array): void {
  if (frame.length < HEADER_BYTES) return;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  switch (random.below(5)) {
    case 0:
      view.setUint8(4, random.below(3) === 0 ? random.below(256) : random.pick(TYPES));
      break;
    case 1:
      view.setUint16(6, random.pick([7, 8, 255, 65535]), true);
      break;
    case 2:
      view.setUint32(random.pick(HIGH_WORDS), random.pick(HIGH_EDGES), true);
      break;
    default:
      view.setUint32(random.pick(LOW_WORDS), random.below(2) === 0 ? random.pick(EDGES) : random.next(), true);
  }
  resum(frame);
}

/** Bytes changed, lost, doubled or added at random places. Returns what became of them. */
export function spoilBytes(random: Prng, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.length);
  const lengthBytes = 1 + random.below(Math.min(16, bytes.length - at));
  switch (random.below(6)) {
    case 0:
      bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 1:
      bytes[at] = random.pick([0, 0x7f, 0x80, 0xff, 0x22, 0x5c, 0x7b, 0x2d]);
      return bytes;
    case 2:
      fillRandom(random, bytes.subarray(at, at + lengthBytes));
      return bytes;
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + lengthBytes)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, at + lengthBytes), bytes.subarray(at)]);
    default:
      return bytes.slice(0, at);
  }
}

/** Values that no schema of ours asks for. */
const STRANGE_JSON = [
  "null",
  "true",
  "-1",
  "1e308",
  "-0",
  "9007199254740993",
  "0.1",
  '""',
  '"\\ud800"',
  "[]",
  "{}",
  "[[[[]]]]",
  '{"__proto__":null}',
  '"' + "x".repeat(2000) + '"',
];

/** A JSON text with one value replaced by a strange one, or spoiled as bytes. */
export function spoilJson(random: Prng, bytes: Uint8Array): Uint8Array {
  if (random.below(2) === 0) return spoilBytes(random, bytes.slice());
  const text = Buffer.from(bytes).toString("latin1");
  // A value begins after a colon, a comma or a bracket, and ends before the next of them.
  const starts = [...text.matchAll(/[:,[]/g)].map((match) => match.index + 1);
  const start = random.pick(starts);
  const end = start + (text.slice(start).match(/[,}\]]/)?.index ?? 0);
  return Buffer.from(text.slice(0, start) + random.pick(STRANGE_JSON) + text.slice(end), "latin1");
}
