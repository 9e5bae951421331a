/**
 * Frames that say something else than they should, as a broken or foreign program at the other end would send them.
 *
 * @module
 */

import { type Message, MessageType } from "../../lib/wire/message.ts";
import type { Frame } from "./network.ts";
import type { Process } from "./process.ts";

/** What is changed: fields of the header by name, or keys of a JSON body by path; `words` replace a body of words. */
export interface Forgery {
  readonly type: number;
  readonly fields: ReadonlyMap<string, number | string | boolean>;
  readonly words: readonly number[] | null;
}

/** The next frame of a type between two processes is to be changed. */
export interface Garbling extends Forgery {
  readonly from: Process;
  readonly to: Process;
}

/** "ACK", or its number. */
export function messageType(name: string): number {
  const type = (MessageType as Record<string, number>)[name] ?? Number(name);
  if (!Number.isInteger(type)) throw new Error(`there is no message type ${name}`);
  return type;
}

/** Reads `TYPE [name=value]... [words=a,b,...]`. */
export function readForgery(words: readonly string[]): Forgery {
  const fields = new Map<string, number | string | boolean>();
  let list: number[] | null = null;
  for (const word of words.slice(1)) {
    const [name, value] = word.split("=");
    if (name === "words") list = value.split(",").map(Number);
    else fields.set(name, value === "true" ? true : Number.isNaN(Number(value)) ? value : Number(value));
  }
  return { type: messageType(words[0]), fields, words: list };
}

/** Changes header and body of a frame that is about to leave. */
export function forge(message: Message, body: unknown, { fields, words }: Forgery): unknown {
  let forged = words === null ? body : Uint32Array.from(words);
  for (const [name, value] of fields) {
    if (name in message) (message as unknown as Record<string, unknown>)[name] = value;
    else if (typeof forged === "object" && forged !== null) forged = withKey(forged, name.split("."), value);
    else throw new Error(`a frame of type ${message.type} has no ${name}`);
  }
  return forged;
}

/** Takes the first garbling that is meant for this frame off the list, and carries it out. */
export function garble(garblings: Garbling[], from: Process, to: Process, frame: Frame): void {
  const at = garblings.findIndex((each) => each.from === from && each.to === to && each.type === frame.message.type);
  if (at < 0) return;
  frame.body = forge(frame.message, frame.body, garblings.splice(at, 1)[0]);
}

function withKey(body: object, path: readonly string[], value: unknown): object {
  const [key, ...rest] = path;
  const old = (body as Record<string, unknown>)[key];
  if (Array.isArray(body)) {
    return body.map((each, at) => at !== Number(key) ? each : rest.length === 0 ? value : withKey(each, rest, value));
  }
  return { ...body, [key]: rest.length === 0 ? value : withKey((old ?? {}) as object, rest, value) };
}
