/**
 * The client's half of the NBD protocol for tests: builds what a client sends, reads what a server sends.
 *
 * @module
 */

const TWO_32 = 4294967296;

/** Bytes of `parts`, one after another. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export function be16(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 2);
  values.forEach((value, i) => new DataView(bytes.buffer).setUint16(i * 2, value));
  return bytes;
}

export function be32(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  values.forEach((value, i) => new DataView(bytes.buffer).setUint32(i * 4, value));
  return bytes;
}

/** One option, with its header. */
export function option(type: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  return concat(text("IHAVEOPT"), be32(type, data.length), data);
}

/** Data of GO and INFO. */
export function infoData(name: string, ...wanted: number[]): Uint8Array {
  return concat(be32(text(name).length), text(name), be16(wanted.length, ...wanted));
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, ...queries: string[]): Uint8Array {
  const encoded = queries.map((query) => concat(be32(text(query).length), text(query)));
  return concat(be32(text(name).length), text(name), be32(queries.length), ...encoded);
}

/** One request, without payload. */
export function request(
  { command, flags = 0, cookie = 1, offset = 0, length = 0, magic = 0x25609513 }: {
    command: number;
    flags?: number;
    cookie?: number;
    offset?: number;
    length?: number;
    magic?: number;
  },
): Uint8Array {
  return concat(
    be32(magic),
    be16(flags, command),
    be32(Math.floor(cookie / TWO_32), cookie % TWO_32, Math.floor(offset / TWO_32), offset % TWO_32, length),
  );
}

/** Reads bytes in order; throws when there are too few. */
export class WireReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at = 0;

  constructor(bytes: Uint8Array | number[]) {
    this.#bytes = Uint8Array.from(bytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get left(): number {
    return this.#bytes.length - this.at;
  }

  u16(): number {
    this.at += 2;
    return this.#view.getUint16(this.at - 2);
  }

  u32(): number {
    this.at += 4;
    return this.#view.getUint32(this.at - 4);
  }

  u64(): number {
    return this.u32() * TWO_32 + this.u32();
  }

  bytes(length: number): Uint8Array {
    if (length > this.left) throw new RangeError(`${length} bytes wanted, ${this.left} left`);
    this.at += length;
    return this.#bytes.slice(this.at - length, this.at);
  }

  text(length: number): string {
    return new TextDecoder("utf-8", { fatal: true }).decode(this.bytes(length));
  }
}

/** A reply to an option. */
export interface OptionAnswer {
  option: number;
  type: number;
  data: Uint8Array;
}

/** Reads all option replies of `reader`. */
export function readOptionAnswers(reader: WireReader): OptionAnswer[] {
  const answers: OptionAnswer[] = [];
  while (reader.left > 0) answers.push(readOptionAnswer(reader));
  return answers;
}

export function readOptionAnswer(reader: WireReader): OptionAnswer {
  const magic = [reader.u32(), reader.u32()];
  if (magic[0] !== 0x0003e889 || magic[1] !== 0x045565a9) throw new Error(`Not an option reply: ${magic}`);
  const option = reader.u32();
  const type = reader.u32();
  return { option, type, data: reader.bytes(reader.u32()) };
}

/** A message of the transmission phase. */
export interface Answer {
  kind: "simple" | "data" | "status" | "error";
  cookie: number;
  done: boolean;
  error: number;
  /** Offset of data, or of the failure; -1 when the answer names none. */
  offset: number;
  data: Uint8Array;
  message: string;
}

/** Reads one answer. `readLength` tells how many bytes a successful simple reply to `cookie` carries. */
export function readAnswer(reader: WireReader, readLength: (cookie: number) => number): Answer {
  const magic = reader.u32();
  const none = new Uint8Array(0);
  if (magic === 0x67446698) {
    const error = reader.u32();
    const cookie = reader.u64();
    const data = error === 0 ? reader.bytes(readLength(cookie)) : none;
    return { kind: "simple", cookie, done: true, error, offset: -1, data, message: "" };
  }
  if (magic !== 0x668e33ef) throw new Error(`Not a reply: ${magic.toString(16)}`);
  const flags = reader.u16();
  const type = reader.u16();
  const cookie = reader.u64();
  const body = new WireReader(reader.bytes(reader.u32()));
  if ((flags & ~1) !== 0) throw new Error(`Unknown chunk flags ${flags}`);
  const answer: Answer = { kind: "data", cookie, done: flags === 1, error: 0, offset: -1, data: none, message: "" };
  if (type === 1) {
    answer.offset = body.u64();
    answer.data = body.bytes(body.left);
    if (answer.data.length === 0) throw new Error("An empty data chunk");
  } else if (type === 5) {
    answer.kind = "status";
    answer.data = body.bytes(body.left);
  } else if (type === 0x8001 || type === 0x8002) {
    answer.kind = "error";
    answer.error = body.u32();
    answer.message = body.text(body.u16());
    if (type === 0x8002) answer.offset = body.u64();
    if (answer.error === 0) throw new Error("An error chunk without an error");
  } else throw new Error(`Unknown chunk type ${type}`);
  if (body.left !== 0) throw new Error(`${body.left} bytes too many in a chunk`);
  return answer;
}
