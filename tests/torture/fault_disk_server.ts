/**
 * Serves a {@link FaultDisk} over NBD on a unix socket (NBD protocol, "Fixed newstyle negotiation" and "Transmission"), so
 * that nbdfuse can make a file of it. Simple replies, requests answered in any order.
 *
 * @module
 */

import { DISK_SECTOR_BYTES, type FaultDisk } from "./fault_disk.ts";

const SERVER_MAGIC = 0x4e42444d41474943n;
const OPTION_MAGIC = 0x49484156454f5054n;
const REPLY_MAGIC = 0x3e889045565a9n;
const REQUEST_MAGIC = 0x25609513;
const SIMPLE_REPLY_MAGIC = 0x67446698;
const OPT_ABORT = 2;
const OPT_GO = 7;
const REP_ACK = 1;
const REP_INFO = 3;
const REP_UNSUPPORTED = 0x80000001;
/** Has flags, flush, FUA, trim, write zeroes, more than one connection. */
const EXPORT_FLAGS = 1 | 4 | 8 | 32 | 64 | 256;
const Command = { READ: 0, WRITE: 1, DISCONNECT: 2, FLUSH: 3, TRIM: 4, WRITE_ZEROES: 6 } as const;
const EINVAL = 22;
const MOST_BYTES = 32 * 1024 * 1024;

/** Bytes of a connection, in the pieces one asks for. */
class ByteReader {
  readonly #connection: Deno.Conn;
  #bytes = new Uint8Array(1 << 20);
  #start = 0;
  #end = 0;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** Exactly `lengthBytes`, good until the next call; null when the connection ends. */
  async take(lengthBytes: number): Promise<Uint8Array | null> {
    while (this.#end - this.#start < lengthBytes) {
      if (this.#start > 0 && this.#start + lengthBytes > this.#bytes.length) {
        this.#bytes.copyWithin(0, this.#start, this.#end);
        this.#end -= this.#start;
        this.#start = 0;
      }
      if (lengthBytes > this.#bytes.length) {
        const larger = new Uint8Array(lengthBytes * 2);
        larger.set(this.#bytes.subarray(this.#start, this.#end));
        this.#end -= this.#start;
        this.#start = 0;
        this.#bytes = larger;
      }
      const count = await this.#connection.read(this.#bytes.subarray(this.#end));
      if (count === null) return null;
      this.#end += count;
    }
    const taken = this.#bytes.subarray(this.#start, this.#start + lengthBytes);
    this.#start += lengthBytes;
    return taken;
  }
}

/** The server of one disk. */
export class FaultDiskServer {
  readonly disk: FaultDisk;
  readonly #listener: Deno.UnixListener;
  readonly #connections = new Set<Deno.Conn>();
  #overHang: Promise<void> = Promise.resolve();
  #endHang: () => void = () => undefined;

  constructor(disk: FaultDisk, socketPath: string) {
    this.disk = disk;
    this.#listener = Deno.listen({ transport: "unix", path: socketPath });
    void this.#accept();
  }

  /** A hang begins or ends with the disk's trouble. */
  troubleChanged(): void {
    this.#endHang();
    if (!this.disk.trouble.isHanging) return;
    this.#overHang = new Promise((resolve) => this.#endHang = resolve);
  }

  /** Ends every connection: what arrives later on one is not done. */
  closeConnections(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
  }

  close(): void {
    this.closeConnections();
    this.#listener.close();
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      this.#connections.add(connection);
      this.#serve(connection).catch((error) => {
        // A peer that is killed resets the connection; that we closed it ourselves is no news either.
        const isEnd = error instanceof Deno.errors.BadResource || error instanceof Deno.errors.BrokenPipe ||
          error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.Interrupted;
        if (!isEnd) throw error;
      }).finally(() => {
        if (this.#connections.delete(connection)) connection.close();
      });
    }
  }

  async #serve(connection: Deno.Conn): Promise<void> {
    const reader = new ByteReader(connection);
    const writer = new ReplyWriter(connection);
    if (!await this.#negotiate(reader, writer)) return;
    for (;;) {
      const head = await reader.take(28);
      if (head === null) return;
      const view = viewOf(head);
      if (view.getUint32(0) !== REQUEST_MAGIC) throw new Error("A request with a wrong magic");
      const isFua = (view.getUint16(4) & 1) !== 0;
      const command = view.getUint16(6);
      const cookie = view.getBigUint64(8);
      const offset = Number(view.getBigUint64(16));
      const lengthBytes = view.getUint32(24);
      if (command === Command.DISCONNECT) return;
      let payload: Uint8Array | null = null;
      if (command === Command.WRITE) {
        payload = await reader.take(lengthBytes);
        if (payload === null) return; // it has not arrived whole
        payload = payload.slice();
      }
      void this.#perform(connection, writer, command, isFua, cookie, offset, lengthBytes, payload);
    }
  }

  async #perform(
    connection: Deno.Conn,
    writer: ReplyWriter,
    command: number,
    isFua: boolean,
    cookie: bigint,
    offset: number,
    lengthBytes: number,
    payload: Uint8Array | null,
  ): Promise<void> {
    while (this.disk.trouble.isHanging) await this.#overHang;
    const { delayMs } = this.disk.trouble;
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    if (!this.#connections.has(connection)) return; // the power has failed meanwhile
    const isRange = command !== Command.FLUSH;
    const isWrong = isRange && (lengthBytes > MOST_BYTES || offset + lengthBytes > this.disk.sizeBytes ||
      offset % DISK_SECTOR_BYTES !== 0 || lengthBytes % DISK_SECTOR_BYTES !== 0);
    let status = isWrong ? EINVAL : 0;
    let data: Uint8Array | null = null;
    if (!isWrong) {
      if (command === Command.READ) {
        const found = this.disk.read(offset, lengthBytes);
        if (typeof found === "number") status = found;
        else data = found;
      } else if (command === Command.WRITE) status = this.disk.write(offset, payload as Uint8Array, isFua);
      else if (command === Command.FLUSH) status = this.disk.flush();
      else if (command === Command.TRIM || command === Command.WRITE_ZEROES) {
        status = this.disk.zero(offset, lengthBytes, isFua);
      } else status = EINVAL;
    }
    const reply = new Uint8Array(16 + (data?.length ?? 0));
    const view = viewOf(reply);
    view.setUint32(0, SIMPLE_REPLY_MAGIC);
    view.setUint32(4, status);
    view.setBigUint64(8, cookie);
    if (data !== null) reply.set(data, 16);
    writer.send(reply);
  }

  async #negotiate(reader: ByteReader, writer: ReplyWriter): Promise<boolean> {
    const greeting = new Uint8Array(18);
    const out = viewOf(greeting);
    out.setBigUint64(0, SERVER_MAGIC);
    out.setBigUint64(8, OPTION_MAGIC);
    out.setUint16(16, 3); // fixed newstyle, no zeroes
    writer.send(greeting);
    if (await reader.take(4) === null) return false;
    for (;;) {
      const head = await reader.take(16);
      if (head === null) return false;
      const option = viewOf(head).getUint32(8);
      if (await reader.take(viewOf(head).getUint32(12)) === null) return false;
      if (option === OPT_GO) {
        const info = new Uint8Array(12);
        viewOf(info).setBigUint64(2, BigInt(this.disk.sizeBytes));
        viewOf(info).setUint16(10, EXPORT_FLAGS);
        writer.send(optionReply(option, REP_INFO, info));
        writer.send(optionReply(option, REP_ACK, new Uint8Array(0)));
        return true;
      }
      writer.send(optionReply(option, option === OPT_ABORT ? REP_ACK : REP_UNSUPPORTED, new Uint8Array(0)));
      if (option === OPT_ABORT) return false;
    }
  }
}

/** Sends whole messages one after the other. */
class ReplyWriter {
  readonly #connection: Deno.Conn;
  #queue: Uint8Array[] = [];
  #isSending = false;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  send(bytes: Uint8Array): void {
    this.#queue.push(bytes);
    if (!this.#isSending) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isSending = true;
    try {
      for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
        for (let sent = 0; sent < bytes.length;) sent += await this.#connection.write(bytes.subarray(sent));
      }
    } catch {
      this.#queue = []; // the connection is gone, and the reader sees it too
    }
    this.#isSending = false;
  }
}

function optionReply(option: number, type: number, data: Uint8Array): Uint8Array {
  const reply = new Uint8Array(20 + data.length);
  const view = viewOf(reply);
  view.setBigUint64(0, REPLY_MAGIC);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, data.length);
  reply.set(data, 20);
  return reply;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
