/**
 * What checksums cost: of payloads (4 KiB and 128 KiB), and of headers with their encoding and decoding. Nanoseconds, medians.
 * Run: `deno run bench/micro/checksum_bench.ts [--json]`.
 *
 * @module
 */

import { payloadCrc } from "../../lib/transport/payload_crc.ts";
import { decodeHeader, encodeHeader, HEADER_BYTES, Message, MessageType } from "../../lib/wire/message.ts";

const ROUNDS = 7;
const STEPS = 20_000;

function nanosecondsOf(step: () => void): number {
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let i = 0; i < STEPS; i++) step();
    rounds.push((performance.now() - start) * 1e6 / STEPS);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1];
}

const small = crypto.getRandomValues(new Uint8Array(4096));
const large = new Uint8Array(131072).map((_, i) => small[i & 4095] ^ (i >> 12));
const view = new DataView(new ArrayBuffer(HEADER_BYTES));
const message = new Message().reset(MessageType.WRITE);
const decoded = new Message();
const result = {
  payload4k: nanosecondsOf(() => payloadCrc(small, small.length)),
  payload128k: nanosecondsOf(() => payloadCrc(large, large.length)),
  headerEncode: nanosecondsOf(() => encodeHeader(message, view, 0)),
  headerDecode: nanosecondsOf(() => decodeHeader(view, 0, decoded)),
};
if (Deno.args.includes("--json")) console.log(JSON.stringify(result));
else for (const [name, ns] of Object.entries(result)) console.log(`${name.padEnd(12)} ${ns.toFixed(0).padStart(6)} ns`);
