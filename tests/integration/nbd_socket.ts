/**
 * A plain NBD client for tests, written from the protocol document alone (NBD protocol, "Fixed newstyle negotiation" and
 * "Transmission"), so that it shares no mistake with our server. Unix sockets, simple replies, many requests in flight.
 *
 * @module
 */

const OPTION_MAGIC = 0x49484156454f5054n;
const REPLY_MAGIC = 0x3e889045565a9n;
const SERVER_MAGIC = 0x4e42444d41474943n;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const INFO_EXPORT = 0;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;

const Command = { READ: 0, WRITE: 1, DISCONNECT: 2, FLUSH: 3, TRIM: 4, WRITE_ZEROES: 6 } as const;

interface Waiting {
  readonly readBytes: number;
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/** One connection to an export. Every method rejects with the server's error number, or when the connection ends. */
export class NbdSocket {
  readonly #connection: Deno.Conn;
  readonly #chunk = new Uint8Array(1 << 18);
  readonly #waiting = new Map<bigint, Waiting>();
  #buffer = new Uint8Array(0);
  #nextCookie = 1n;
  #lastWrite: Promise<void> = Promise.resolve();
  #replies: Promise<void> = Promise.resolve();
  #sizeBytes = 0;

  private constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** Connects to `nbd+unix:///EXPORT?socket=PATH`. */
  static async connect(uri: string): Promise<NbdSocket> {
    const parsed = new URL(uri);
    const path = parsed.searchParams.get("socket");
    if (parsed.protocol !== "nbd+unix:" || path === null) throw new Error(`${uri} is no nbd+unix URI`);
    const socket = new NbdSocket(await Deno.connect({ transport: "unix", path }));
    try {
      await socket.#negotiate(decodeURIComponent(parsed.pathname.slice(1)));
    } catch (error) {
      socket.#connection.close();
      throw error;
    }
    socket.#replies = socket.#readReplies();
    return socket;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    return this.#request(Command.READ, offset, lengthBytes, null, lengthBytes);
  }

  async write(offset: number, data: Uint8Array, isFua = false): Promise<void> {
    await this.#request(Command.WRITE, offset, data.length, data, 0, isFua ? 1 : 0);
  }

  async writeZeroes(offset: number, lengthBytes: number, flags = 0): Promise<void> {
    await this.#request(Command.WRITE_ZEROES, offset, lengthBytes, null, 0, flags);
  }

  async trim(offset: number, lengthBytes: number, flags = 0): Promise<void> {
    await this.#request(Command.TRIM, offset, lengthBytes, null, 0, flags);
  }

  async flush(): Promise<void> {
    await this.#request(Command.FLUSH, 0, 0, null, 0);
  }

  /** Ends the connection. Requests in flight are rejected. */
  async close(): Promise<void> {
    await this.#send(requestBytes(Command.DISCONNECT, 0, 0n, 0, 0)).catch(() => undefined);
    this.#connection.close();
    await this.#replies;
  }

  async #negotiate(exportName: string): Promise<void> {
    const greeting = view(await this.#take(18));
    if (greeting.getBigUint64(0) !== SERVER_MAGIC || greeting.getBigUint64(8) !== OPTION_MAGIC) {
      throw new Error("The server does not greet as fixed newstyle");
    }
    const name = new TextEncoder().encode(exportName);
    const message = new Uint8Array(4 + 16 + 4 + name.length + 2);
    const out = view(message);
    out.setUint32(0, 3); // fixed newstyle, no zeroes
    out.setBigUint64(4, OPTION_MAGIC);
    out.setUint32(12, OPT_GO);
    out.setUint32(16, 4 + name.length + 2);
    out.setUint32(20, name.length);
    message.set(name, 24);
    await this.#send(message);
    for (;;) {
      const head = view(await this.#take(20));
      if (head.getBigUint64(0) !== REPLY_MAGIC) throw new Error("An option reply with a wrong magic");
      const type = head.getUint32(12);
      const body = await this.#take(head.getUint32(16));
      if (type === REP_ACK) return;
      if (type === REP_INFO) {
        if (view(body).getUint16(0) === INFO_EXPORT) this.#sizeBytes = Number(view(body).getBigUint64(2));
      } else throw new Error(`NBD_OPT_GO is refused with ${type.toString(16)}: ${new TextDecoder().decode(body)}`);
    }
  }

  async #request(
    command: number,
    offset: number,
    lengthBytes: number,
    payload: Uint8Array | null,
    readBytes: number,
    flags = 0,
  ): Promise<Uint8Array> {
    const cookie = this.#nextCookie++;
    const answer = new Promise<Uint8Array>((resolve, reject) => {
      this.#waiting.set(cookie, { readBytes, resolve, reject });
    });
    const head = requestBytes(command, flags, cookie, offset, lengthBytes);
    const sent = this.#send(payload === null ? head : joined(head, payload));
    sent.catch((error) => this.#fail(error));
    return await answer;
  }

  /** Sends whole messages one after the other. */
  #send(bytes: Uint8Array): Promise<void> {
    this.#lastWrite = this.#lastWrite.then(async () => {
      for (let sent = 0; sent < bytes.length;) sent += await this.#connection.write(bytes.subarray(sent));
    });
    return this.#lastWrite;
  }

  async #readReplies(): Promise<void> {
    try {
      for (;;) {
        const head = view(await this.#take(16));
        if (head.getUint32(0) !== SIMPLE_REPLY_MAGIC) throw new Error("A reply with a wrong magic");
        const cookie = head.getBigUint64(8);
        const waiting = this.#waiting.get(cookie);
        if (waiting === undefined) throw new Error(`An answer to request ${cookie}, which is not in flight`);
        const code = head.getUint32(4);
        const data = code === 0 ? await this.#take(waiting.readBytes) : new Uint8Array(0);
        this.#waiting.delete(cookie);
        if (code === 0) waiting.resolve(data);
        else waiting.reject(new Error(`NBD error ${code}`));
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #fail(error: Error): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  /** Exactly `lengthBytes` from the socket. */
  async #take(lengthBytes: number): Promise<Uint8Array> {
    while (this.#buffer.length < lengthBytes) {
      const count = await this.#connection.read(this.#chunk);
      if (count === null) throw new Error("The server closed the connection");
      this.#buffer = joined(this.#buffer, this.#chunk.subarray(0, count));
    }
    const taken = this.#buffer.slice(0, lengthBytes);
    this.#buffer = this.#buffer.slice(lengthBytes);
    return taken;
  }
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function requestBytes(command: number, flags: number, cookie: bigint, offset: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const out = view(bytes);
  out.setUint32(0, REQUEST_MAGIC);
  out.setUint16(4, flags);
  out.setUint16(6, command);
  out.setBigUint64(8, cookie);
  out.setBigUint64(16, BigInt(offset));
  out.setUint32(24, lengthBytes);
  return bytes;
}
