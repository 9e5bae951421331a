/**
 * Payloads between bytes and values, by message type: what kind of payload a type carries, how much of it at most, and
 * the one gate (`parseBody`) that everything a peer says passes before anyone acts on it.
 *
 * Promises: `parseBody` never throws, whatever the bytes; its work and memory are linear in their number, which is
 * bounded by type; what it returns is a copy that does not alias the bytes of a JSON or word payload.
 *
 * Words are little endian on the wire and are copied as they are: every machine Deno runs on is little endian.
 *
 * @module
 */

import * as v from "valibot";
import { assert } from "../base/assert.ts";
import {
  claimSchema,
  epochChangeSchema,
  grantSchema,
  helloSchema,
  refusalSchema,
  resyncOrderSchema,
  resyncReportSchema,
  returnedSchema,
  returnSchema,
  welcomeSchema,
} from "./bodies.ts";
import { MAX_PAYLOAD_BYTES, MessageType } from "./message.ts";

/** What a payload is: JSON of a schema, pairs of u32, bytes of the pool, or not there. */
export type BodyKind = "json" | "words" | "data" | "none";

/** Outcome of {@link parseBody}. `message` says what is wrong, for the log and for a REFUSE. */
export type ParsedBody = { readonly ok: true; readonly body: unknown } | {
  readonly ok: false;
  readonly message: string;
};

/** Most bytes of an ordinary JSON payload. */
export const MAX_JSON_BYTES = 256 * 1024;
/** First words of a connection come from a peer of whom nothing is known yet, so little is taken from it. */
const MAX_GREETING_BYTES = 64 * 1024;
/**
 * Grants, epoch changes and resync orders may list 65,536 extents; one takes up to 9 bytes as text in a pool of 64 TiB.
 * A control reply may carry the dirty map of a leg. They get what a frame can hold.
 */
const MAX_LIST_BYTES = MAX_PAYLOAD_BYTES;
/** Nothing we say nests deeper than 6; operators' replies somewhat more. */
const MAX_JSON_DEPTH = 32;
/** MAP_PART and CLEAR: (first chunk, count). HASH_DATA: (low, high). */
const WORD_PAIR_BYTES = 8;
/** A frame of the transport's own is taken from the staging area in one piece. */
const MAX_RELEASED_BYTES = 8192;
/** "{}" */
const MIN_JSON_BYTES = 2;

const controlRequestSchema = v.looseObject({ op: v.pipe(v.string(), v.maxLength(64)) });
const controlReplySchema = v.variant("ok", [
  v.looseObject({ ok: v.literal(true) }),
  v.looseObject({ ok: v.literal(false), error: v.looseObject({ code: v.string(), message: v.string() }) }),
]);

type JsonSchema = v.GenericSchema<unknown, unknown>;

/** What is known of the payload of one type. */
interface BodyRule {
  readonly kind: BodyKind;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly schema: JsonSchema | null;
}

const NO_BODY: BodyRule = { kind: "none", minBytes: 0, maxBytes: 0, schema: null };
const WORDS: BodyRule = { kind: "words", minBytes: 0, maxBytes: MAX_PAYLOAD_BYTES, schema: null };
/** An answer without payload tells of an error by its status. */
const DATA: BodyRule = { kind: "data", minBytes: 0, maxBytes: MAX_PAYLOAD_BYTES, schema: null };

/** Index is the message type. */
const RULES: BodyRule[] = new Array(256).fill(NO_BODY);
RULES[MessageType.HELLO] = json(helloSchema, MAX_GREETING_BYTES);
RULES[MessageType.WELCOME] = json(welcomeSchema, MAX_GREETING_BYTES);
RULES[MessageType.REFUSE] = json(refusalSchema, MAX_GREETING_BYTES);
RULES[MessageType.CLAIM] = json(claimSchema, MAX_GREETING_BYTES);
RULES[MessageType.RETURN] = json(returnSchema, MAX_GREETING_BYTES);
RULES[MessageType.RETURNED] = json(returnedSchema, MAX_JSON_BYTES);
RULES[MessageType.GRANT] = json(grantSchema, MAX_LIST_BYTES);
RULES[MessageType.EPOCH] = json(epochChangeSchema, MAX_LIST_BYTES);
RULES[MessageType.RESYNC] = json(resyncOrderSchema, MAX_LIST_BYTES);
RULES[MessageType.RESYNC_REPORT] = json(resyncReportSchema, MAX_GREETING_BYTES);
RULES[MessageType.CONTROL_REQUEST] = json(controlRequestSchema, MAX_JSON_BYTES);
RULES[MessageType.CONTROL_REPLY] = json(controlReplySchema, MAX_LIST_BYTES);
RULES[MessageType.WRITE] = { ...DATA, minBytes: 1 };
RULES[MessageType.DATA] = DATA;
RULES[MessageType.PULL_DATA] = DATA;
RULES[MessageType.MAP_PART] = WORDS;
RULES[MessageType.CLEAR] = WORDS;
RULES[MessageType.HASH_DATA] = WORDS;
RULES[MessageType.RELEASED] = { ...WORDS, maxBytes: MAX_RELEASED_BYTES };

// Flat copies for the receive path, which looks at them once a frame.
const MIN_BYTES = Int32Array.from(RULES, (rule) => rule.minBytes);
const MAX_BYTES = Int32Array.from(RULES, (rule) => rule.maxBytes);
const LENGTH_MASK = Int32Array.from(RULES, (rule) => rule.kind === "words" ? WORD_PAIR_BYTES - 1 : 0);

const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** What kind of payload messages of `type` carry. */
export function bodyKind(type: number): BodyKind {
  return RULES[type & 255].kind;
}

/** Most payload bytes a message of `type` may carry. 0 for types without payload. */
export function maxBodyBytes(type: number): number {
  return MAX_BYTES[type & 255];
}

/** Whether a payload of `lengthBytes` can belong to a message of `type`. Allocates nothing; for every frame received. */
export function bodyLengthAllowed(type: number, lengthBytes: number): boolean {
  return lengthBytes >= MIN_BYTES[type] && lengthBytes <= MAX_BYTES[type] && (lengthBytes & LENGTH_MASK[type]) === 0;
}

/**
 * The payload for `body`: an object for JSON types, a Uint32Array of pairs for word types, bytes for data types (returned
 * as they are), null for types without payload. A body that does not fit its type, or is longer than `maxBodyBytes`, is a
 * bug of the caller and fails an assertion.
 */
export function encodeBody(type: number, body: unknown): Uint8Array {
  const bytes = rawBody(RULES[type & 255].kind, body);
  assert(bodyLengthAllowed(type & 255, bytes.length), "Payload length fits the message type", type, bytes.length);
  return bytes;
}

function rawBody(kind: BodyKind, body: unknown): Uint8Array {
  switch (kind) {
    case "json":
      return encoder.encode(JSON.stringify(body));
    case "words":
      assert(body instanceof Uint32Array, "A body of words is a Uint32Array", typeof body);
      return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
    case "data":
      assert(body instanceof Uint8Array, "A body of data is a Uint8Array", typeof body);
      return body;
    case "none":
      assert(body === null || body === undefined, "The message type carries no body", typeof body);
      return new Uint8Array(0);
  }
}

/**
 * The value of a payload that came from a peer: validated JSON; a fresh Uint32Array for words; `bytes` itself for data;
 * null for types without payload. `bytes` is exactly the payload (empty when there was none).
 */
export function parseBody(type: number, bytes: Uint8Array): ParsedBody {
  const rule = RULES[type & 255];
  if (!bodyLengthAllowed(type & 255, bytes.length)) {
    return refused(
      `A payload of ${bytes.length} bytes cannot belong to message type ${type} ` +
        `(${rule.kind}, ${rule.minBytes} to ${rule.maxBytes} bytes)`,
    );
  }
  switch (rule.kind) {
    case "json":
      return parseJson(rule.schema!, bytes);
    case "words": {
      const words = new Uint32Array(bytes.length / 4);
      new Uint8Array(words.buffer).set(bytes);
      return { ok: true, body: words };
    }
    case "data":
      return { ok: true, body: bytes };
    case "none":
      return { ok: true, body: null };
  }
}

function parseJson(schema: JsonSchema, bytes: Uint8Array): ParsedBody {
  if (!depthAllowed(bytes)) return refused(`JSON payload nests deeper than ${MAX_JSON_DEPTH} levels`);
  let value: unknown;
  try {
    // The decoder refuses shared memory, which pool memory may be.
    value = JSON.parse(decoder.decode(bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice()));
  } catch {
    return refused("Payload is not JSON in UTF-8");
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return { ok: true, body: result.output };
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  return refused(
    `JSON payload is not what the message type asks for: ${path === null ? "" : `"${path}": `}` +
      shorten(issue.message),
  );
}

/** Whether brackets nest at most MAX_JSON_DEPTH deep. Knows strings, so that brackets in text do not count. */
function depthAllowed(bytes: Uint8Array): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inString) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) {
      inString = true;
    } else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MAX_JSON_DEPTH) return false;
    } else if (byte === 0x7d || byte === 0x5d) {
      depth--;
    }
  }
  return true;
}

/** A peer's value may be quoted in the message; it must not fill the log. */
function shorten(message: string): string {
  return message.length <= 200 ? message : `${message.slice(0, 200)}…`;
}

function refused(message: string): ParsedBody {
  return { ok: false, message };
}

function json(schema: JsonSchema, maxBytes: number): BodyRule {
  return { kind: "json", minBytes: MIN_JSON_BYTES, maxBytes, schema };
}
