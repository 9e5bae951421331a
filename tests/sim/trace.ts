/**
 * What happened, as people read it. Only made when a world is traced.
 *
 * @module
 */

import { type Output, OutputKind } from "../../lib/core/output.ts";
import { type Message, MessageType } from "../../lib/wire/message.ts";

const TYPE_NAMES: string[] = [];
for (const [name, type] of Object.entries(MessageType)) TYPE_NAMES[type] = name;
const OUTPUT_NAMES: string[] = [];
for (const [name, kind] of Object.entries(OutputKind)) OUTPUT_NAMES[kind] = name;

/** One line about a message. */
export function describeMessage(message: Message, body: unknown): string {
  const words = [TYPE_NAMES[message.type] ?? `type ${message.type}`];
  if (message.requestId !== 0) words.push(`#${message.requestId}`);
  if (message.sequence !== 0) words.push(`seq ${message.sequence}`);
  if (message.length !== 0) words.push(`${message.offset}+${message.length}`);
  // In answers to peers it is the time that I/O takes there.
  const isPeers = message.type === MessageType.PULL_DATA || message.type === MessageType.HASH_DATA;
  if (message.mask !== 0 && !isPeers) words.push(`skips ${message.mask.toString(2)}`);
  if (message.watermark !== 0) words.push(`watermark ${message.watermark}`);
  if (message.resyncSession !== 0) words.push(`resync ${message.resyncSession} of leg ${message.legIndex}`);
  if (message.flags !== 0) words.push(`flags ${message.flags}`);
  if (message.status !== 0) words.push(`status ${message.status}`);
  if (body !== null && body !== undefined) words.push(describeBody(body));
  return words.join(" ");
}

/** One line about what a core wants. */
export function describeOutput(output: Output): string {
  switch (output.kind) {
    case OutputKind.SEND:
      return `sends on ${output.connection}: ${describeMessage(output.message, output.body)}`;
    case OutputKind.DISK_READ:
    case OutputKind.DISK_WRITE:
    case OutputKind.DISK_ZERO: {
      const fua = output.flags === 0 ? "" : ` flags ${output.flags}`;
      return `${OUTPUT_NAMES[output.kind]} ${output.token}: ${output.offset}+${output.lengthBytes}${fua}`;
    }
    case OutputKind.METADATA_WRITE:
      return `METADATA_WRITE ${output.token} at ${output.offset}`;
    case OutputKind.COMPLETE:
      return `COMPLETE request ${output.tag} status ${output.status}`;
    case OutputKind.CONNECT:
      return `CONNECT to ${output.address}`;
    case OutputKind.CLOSE:
      return `CLOSE ${output.connection}`;
    case OutputKind.EVENT:
      return `event ${output.body.name}: ${output.body.message}`;
    default:
      return `${OUTPUT_NAMES[output.kind]} ${output.token}`;
  }
}

/** What a body says, without what every one says. */
function describeBody(body: unknown): string {
  if (body instanceof Uint32Array) return `words [${body.subarray(0, 16).join(" ")}${body.length > 16 ? " …" : ""}]`;
  const words: string[] = [];
  describeFields(body as Record<string, unknown>, words);
  return shorten(words.join(", "));
}

function describeFields(body: Record<string, unknown>, words: string[]): void {
  for (const [key, value] of Object.entries(body)) {
    if (SILENT.has(key) || value === false || value === 0 || value === "") continue;
    if (key === "record") describeFields(value as Record<string, unknown>, words);
    else if (key === "shared") {
      const shared = value as { generation: number; epoch: number; inSyncMask: number };
      words.push(`record ${shared.generation}.${shared.epoch} in-sync ${shared.inSyncMask.toString(2)}`);
    } else if (key === "droppedMask") words.push(`drops ${(value as number).toString(2)}`);
    else if (Array.isArray(value)) {
      if (value.length > 0) words.push(`${key} [${value.join(" ")}]`);
    } else words.push(value === true ? key : `${key} ${value}`);
  }
}

/** Fields that tell nothing about what goes on. */
const SILENT = new Set([
  "protocol",
  "features",
  "poolUuid",
  "senderUuid",
  "senderName",
  "clientUuid",
  "promisedTo",
  "bootId",
  "instance",
  "legUuid",
  "creditRequests",
  "creditBytes",
  "rateBytesPerSecond",
]);

function shorten(text: string): string {
  return text.length <= 240 ? text : `${text.slice(0, 240)}…`;
}

/** Lines of a world's life; the last ones, or all. */
export class Trace {
  readonly lines: string[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(nowMs: number, who: string, what: string): void {
    this.lines.push(`${nowMs.toFixed(3).padStart(11)} ${who.padEnd(8)} ${what}`);
    if (this.lines.length > 2 * this.#limit) this.lines.splice(0, this.lines.length - this.#limit);
  }

  /** The last lines. */
  last(count: number): string[] {
    return this.lines.slice(-count);
  }
}
