/**
 * UUIDs: lower-case strings with dashes in memory and JSON, 16 bytes on the disk and the wire.
 *
 * @module
 */

import { assert } from "./assert.ts";

const PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Bytes of a UUID outside of strings. */
export const UUID_BYTES = 16;

/** The UUID that stands for nobody. */
export const NIL_UUID = "00000000-0000-0000-0000-000000000000";

/** A random (version 4) UUID. */
export function randomUuid(): string {
  return crypto.randomUUID();
}

/** Whether `text` is a lower-case UUID with dashes. */
export function isUuid(text: string): boolean {
  return PATTERN.test(text);
}

/** Writes a UUID to `target[offset .. offset + 16)`. */
export function writeUuid(uuid: string, target: Uint8Array, offset: number): void {
  assert(isUuid(uuid), "A lower-case UUID", uuid);
  let digit = 0;
  for (let i = 0; i < UUID_BYTES; i++) {
    if (uuid.charCodeAt(digit) === 0x2d) digit++;
    target[offset + i] = parseInt(uuid.slice(digit, digit + 2), 16);
    digit += 2;
  }
}

/** Reads a UUID from `source[offset .. offset + 16)`. */
export function readUuid(source: Uint8Array, offset: number): string {
  let text = "";
  for (let i = 0; i < UUID_BYTES; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += "-";
    text += source[offset + i].toString(16).padStart(2, "0");
  }
  return text;
}

/** The 16 bytes of a UUID. */
export function uuidToBytes(uuid: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(UUID_BYTES);
  writeUuid(uuid, bytes, 0);
  return bytes;
}

/** The UUID of 16 bytes. */
export function uuidFromBytes(bytes: Uint8Array): string {
  assert(bytes.length === UUID_BYTES, "A UUID has 16 bytes", bytes.length);
  return readUuid(bytes, 0);
}
