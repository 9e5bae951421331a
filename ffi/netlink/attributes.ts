/**
 * Netlink attributes: type-length-value, in the machine's byte order (little endian on what brmr runs on), nested at will.
 *
 * @module
 */

import { ATTRIBUTE, NESTED } from "./abi.ts";

const TWO_32 = 4294967296;

/** One attribute with its value's bytes. */
export interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
}

/** An attribute of 32 bits. */
export function u32(type: number, value: number): Attribute {
  return { type, value: new Uint8Array(new Uint32Array([value]).buffer) };
}

/** An attribute of 64 bits; `value` is an exact number. */
export function u64(type: number, value: number): Attribute {
  return { type, value: new Uint8Array(new Uint32Array([value % TWO_32, Math.floor(value / TWO_32)]).buffer) };
}

/** A string with its closing zero. */
export function text(type: number, value: string): Attribute {
  return { type, value: new TextEncoder().encode(value + "\0") };
}

/** An attribute made of attributes. */
export function nested(type: number, inner: readonly Attribute[]): Attribute {
  return { type: type | NESTED, value: encodeAttributes(inner) };
}

/** The bytes of `attributes`, one after the other. */
export function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const lengths = attributes.map(({ value }) => padded(ATTRIBUTE.sizeBytes + value.length));
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  attributes.forEach(({ type, value }, index) => {
    view.setUint16(at + ATTRIBUTE.length, ATTRIBUTE.sizeBytes + value.length, true);
    view.setUint16(at + ATTRIBUTE.type, type, true);
    bytes.set(value, at + ATTRIBUTE.sizeBytes);
    at += lengths[index];
  });
  return bytes;
}

/** The attributes in `bytes`; what is cut short at their end is left out. */
export function decodeAttributes(bytes: Uint8Array): Attribute[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const attributes: Attribute[] = [];
  for (let at = 0; at + ATTRIBUTE.sizeBytes <= bytes.length;) {
    const length = view.getUint16(at + ATTRIBUTE.length, true);
    if (length < ATTRIBUTE.sizeBytes || at + length > bytes.length) break;
    const type = view.getUint16(at + ATTRIBUTE.type, true) & ~NESTED;
    attributes.push({ type, value: bytes.subarray(at + ATTRIBUTE.sizeBytes, at + length) });
    at += padded(length);
  }
  return attributes;
}

/** The value of the first attribute of `type`, as an unsigned number of 8, 16 or 32 bits; -1 when there is none. */
export function numberOf(attributes: readonly Attribute[], type: number): number {
  const value = attributes.find((attribute) => attribute.type === type)?.value;
  if (value === undefined || ![1, 2, 4].includes(value.length)) return -1;
  return value.reduceRight((number, byte) => number * 256 + byte, 0);
}

function padded(lengthBytes: number): number {
  return (lengthBytes + 3) & ~3;
}
