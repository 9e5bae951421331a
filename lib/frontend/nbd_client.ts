/**
 * A small NBD client: fixed newstyle over a unix socket or TCP, simple replies, many requests in flight. For the demo, the
 * examples and the tests, which want to be an ordinary application of a pool. Not for the data plane: it awaits.
 *
 * Source: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 *
 * @module
 */

const NBDMAGIC = 0x4e42444d41474943n;
const IHAVEOPT = 0x49484156454f5054n;
const OPTION_REPLY_MAGIC = 0x3e889045565a9n;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const OPTION_GO = 7;
const REPLY_ACK = 1;
const REPLY_INFO = 3;
const INFO_EXPORT = 0;
const FLAG_FIXED_NEWSTYLE = 1;
const FLAG_NO_ZEROES = 2;

/** NBD commands. */
const Command = { READ: 0, WRITE: 1, DISCONNECT: 2, FLUSH: 3, TRIM: 4, WRITE_ZEROES: 6 } as const;
const COMMAND_FLAG_FUA = 1;

/** An error of the server, `errno` as in the protocol (EIO is 5). */
export class NbdError extends Error {
  override name = "NbdError";
  readonly errno: number;
  constructor(errno: number, what: string) {
    super(`${what} failed with NBD error ${errno}`);
    this.errno = errno;
  }
}

interface Pending {
  readonly what: string;
  readonly into: Uint8Array | null;
  resolve(): void;
  reject(reason: Error): void;
}

/** Where to connect. */
export type NbdTarget = { readonly path: string } | { readonly hostname: string; readonly port: number };

/** One NBD connection. Requests may be made concurrently; each promise rejects with {@link NbdError} or the socket's error. */
export class NbdClient {
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
  readonly #connection: Deno.Conn;
  readonly #pending = new Map<number, Pending>();
  #nextCookie = 1;
  #failure: Error | null = null;
  #sending: Promise<void> = Promise.resolve();
  readonly #receiving: Promise<void>;

  /** Connects and opens export `name` (empty: the default one). */
  static async connect(target: NbdTarget, name = ""): Promise<NbdClient> {
    const connection = "path" in target
      ? await Deno.connect({ transport: "unix", path: target.path })
      : await Deno.connect(target);
    try {
      const { sizeBytes, flags } = await negotiate(connection, name);
      return new NbdClient(connection, sizeBytes, flags);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  private constructor(connection: Deno.Conn, sizeBytes: number, flags: number) {
    this.#connection = connection;
    this.sizeBytes = sizeBytes;
    this.transmissionFlags = flags;
    this.#receiving = this.#receive();
  }

  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes);
    await this.#request(Command.READ, 0, offset, lengthBytes, null, into);
    return into;
  }

  write(offset: number, data: Uint8Array, fua = false): Promise<void> {
    return this.#request(Command.WRITE, fua ? COMMAND_FLAG_FUA : 0, offset, data.length, data, null);
  }

  writeZeroes(offset: number, lengthBytes: number): Promise<void> {
    return this.#request(Command.WRITE_ZEROES, 0, offset, lengthBytes, null, null);
  }

  trim(offset: number, lengthBytes: number): Promise<void> {
    return this.#request(Command.TRIM, 0, offset, lengthBytes, null, null);
  }

  flush(): Promise<void> {
    return this.#request(Command.FLUSH, 0, 0, 0, null, null);
  }

  /** Says goodbye and closes. Requests in flight are rejected. */
  async close(): Promise<void> {
    if (this.#failure === null) {
      this.#send(encodeRequest(Command.DISCONNECT, 0, 0, 0, 0), null);
      await this.#sending;
    }
    this.#fail(new Error("The NBD connection was closed"));
    await this.#receiving;
  }

  #request(
    command: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    data: Uint8Array | null,
    into: Uint8Array | null,
  ): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const cookie = this.#nextCookie++;
    return new Promise((resolve, reject) => {
      const what = `NBD command ${command} of ${lengthBytes} bytes at ${offset}`;
      this.#pending.set(cookie, { what, into, resolve, reject });
      this.#send(encodeRequest(command, flags, cookie, offset, lengthBytes), data);
    });
  }

  #send(header: Uint8Array, data: Uint8Array | null): void {
    let bytes = header;
    if (data !== null) {
      bytes = new Uint8Array(header.length + data.length);
      bytes.set(header);
      bytes.set(data, header.length);
    }
    this.#sending = this.#sending.then(async () => {
      if (this.#failure !== null) return;
      try {
        await writeAll(this.#connection, bytes);
      } catch (error) {
        this.#fail(error as Error);
      }
    });
  }

  async #receive(): Promise<void> {
    const reader = new ExactReader(this.#connection);
    try {
      for (;;) {
        const header = await reader.read(16);
        const view = new DataView(header.buffer, header.byteOffset);
        if (view.getUint32(0) !== SIMPLE_REPLY_MAGIC) throw new Error("The NBD server sent no simple reply");
        const errno = view.getUint32(4);
        const cookie = Number(view.getBigUint64(8));
        const pending = this.#pending.get(cookie);
        if (pending === undefined) throw new Error(`The NBD server answered request ${cookie}, which was not asked`);
        if (errno === 0 && pending.into !== null) await reader.readInto(pending.into);
        this.#pending.delete(cookie);
        if (errno === 0) pending.resolve();
        else pending.reject(new NbdError(errno, pending.what));
      }
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#connection.close();
  }
}

/** Reads exact numbers of bytes with few system calls. */
class ExactReader {
  readonly #connection: Deno.Conn;
  readonly #buffer = new Uint8Array(256 * 1024);
  #start = 0;
  #end = 0;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** A view that is valid until the next call. */
  async read(lengthBytes: number): Promise<Uint8Array> {
    if (lengthBytes > this.#buffer.length) {
      throw new Error(`The NBD server announced ${lengthBytes} bytes of handshake`);
    }
    while (this.#end - this.#start < lengthBytes) {
      if (this.#start + lengthBytes > this.#buffer.length) {
        this.#buffer.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      const count = await this.#connection.read(this.#buffer.subarray(this.#end));
      if (count === null) throw new Error("The NBD server closed the connection");
      this.#end += count;
    }
    const bytes = this.#buffer.subarray(this.#start, this.#start + lengthBytes);
    this.#start += lengthBytes;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    return bytes;
  }

  async readInto(target: Uint8Array): Promise<void> {
    const staged = Math.min(this.#end - this.#start, target.length);
    target.set(this.#buffer.subarray(this.#start, this.#start + staged));
    this.#start += staged;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    for (let at = staged; at < target.length;) {
      const count = await this.#connection.read(target.subarray(at));
      if (count === null) throw new Error("The NBD server closed the connection");
      at += count;
    }
  }
}

async function negotiate(connection: Deno.Conn, name: string): Promise<{ sizeBytes: number; flags: number }> {
  const reader = new ExactReader(connection);
  const greeting = await reader.read(18);
  const view = new DataView(greeting.buffer, greeting.byteOffset);
  if (view.getBigUint64(0) !== NBDMAGIC || view.getBigUint64(8) !== IHAVEOPT) {
    throw new Error("What listens there is not an NBD server of the newstyle kind");
  }
  const nameBytes = new TextEncoder().encode(name);
  const data = new Uint8Array(4 + nameBytes.length + 2);
  new DataView(data.buffer).setUint32(0, nameBytes.length);
  data.set(nameBytes, 4);
  const request = new Uint8Array(4 + 16 + data.length);
  const out = new DataView(request.buffer);
  out.setUint32(0, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
  out.setBigUint64(4, IHAVEOPT);
  out.setUint32(12, OPTION_GO);
  out.setUint32(16, data.length);
  request.set(data, 20);
  await writeAll(connection, request);
  let sizeBytes = -1;
  let flags = 0;
  for (;;) {
    const header = await reader.read(20);
    const reply = new DataView(header.buffer, header.byteOffset);
    if (reply.getBigUint64(0) !== OPTION_REPLY_MAGIC) throw new Error("The NBD server's handshake makes no sense");
    const type = reply.getUint32(12);
    const lengthBytes = reply.getUint32(16);
    const body = (await reader.read(lengthBytes)).slice();
    if (type === REPLY_ACK) break;
    if (type >= 0x80000000) {
      throw new Error(
        `The NBD server refuses export "${name}": ${new TextDecoder().decode(body)} (0x${type.toString(16)})`,
      );
    }
    const info = new DataView(body.buffer);
    if (type === REPLY_INFO && info.getUint16(0) === INFO_EXPORT) {
      sizeBytes = Number(info.getBigUint64(2));
      flags = info.getUint16(10);
    }
  }
  if (sizeBytes < 0) throw new Error("The NBD server did not tell the size of the export");
  return { sizeBytes, flags };
}

function encodeRequest(
  command: number,
  flags: number,
  cookie: number,
  offset: number,
  lengthBytes: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, REQUEST_MAGIC);
  view.setUint16(4, flags);
  view.setUint16(6, command);
  view.setBigUint64(8, BigInt(cookie));
  view.setBigUint64(16, BigInt(offset));
  view.setUint32(24, lengthBytes);
  return bytes;
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}
