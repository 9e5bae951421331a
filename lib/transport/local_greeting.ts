/**
 * How two processes of one machine agree to share memory, before the first frame: the end that connects sends 64 bytes and with
 * them two descriptors, its buffer memory (a sealed memfd) and the write end of a pipe, its lifeline (see
 * `payload_sharing.ts`). The other end answers with 64 bytes: taken, or why not.
 *
 * | at | type | field     |
 * | -- | ---- | --------- |
 * |  0 | u32  | "BRML"    |
 * |  4 | u32  | version 1 |
 * |  8 | u32  | answer: outcome, see {@link LocalOutcome} |
 * | 16 | u64  | bytes of memory |
 *
 * @module
 */

/** Bytes of a greeting and of its answer. */
export const GREETING_BYTES = 64;
const MAGIC = 0x4c4d5242;
const VERSION = 1;
const TWO_32 = 4294967296;

/** Answers. Numbers are never used twice. */
export const LocalOutcome = { TAKEN: 0, VERSION: 1, MEMORY: 2, NO_ROOM: 3 } as const;

const WORDS: Record<number, string> = {
  [LocalOutcome.VERSION]: "the node speaks another version of the local greeting",
  [LocalOutcome.MEMORY]: "the node could not use the memory",
  [LocalOutcome.NO_ROOM]: "the node shares memory with too many clients already",
};

/** Why a greeting was not taken, for people. */
export function outcomeText(outcome: number): string {
  return WORDS[outcome] ?? `the node refused (${outcome})`;
}

/** The bytes of a greeting, or of an answer. */
export function encodeGreeting(sizeBytes: number, outcome = 0): Uint8Array {
  const bytes = new Uint8Array(GREETING_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  view.setUint32(8, outcome, true);
  view.setUint32(16, sizeBytes >>> 0, true);
  view.setUint32(20, Math.floor(sizeBytes / TWO_32), true);
  return bytes;
}

/** Reads either. Null when it is none, or of another version. */
export function decodeGreeting(bytes: Uint8Array): { readonly sizeBytes: number; readonly outcome: number } | null {
  if (bytes.length !== GREETING_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION) return null;
  return { sizeBytes: view.getUint32(20, true) * TWO_32 + view.getUint32(16, true), outcome: view.getUint32(8, true) };
}
