/**
 * Lines of text over a unix socket.
 *
 * @module
 */

/** How long a server may take to make its socket. */
const CONNECT_LIMIT_MS = 20_000;

/** A connection that carries lines. */
export class LineSocket {
  readonly #connection: Deno.Conn;
  readonly #pump: Promise<void>;
  #closed = false;

  private constructor(connection: Deno.Conn, onLine: (line: string) => void) {
    this.#connection = connection;
    this.#pump = this.#read(onLine);
  }

  /** Connects as soon as there is a server at `path`. */
  static async connect(path: string, onLine: (line: string) => void): Promise<LineSocket> {
    const deadline = performance.now() + CONNECT_LIMIT_MS;
    for (;;) {
      try {
        return new LineSocket(await Deno.connect({ transport: "unix", path }), onLine);
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async #read(onLine: (line: string) => void): Promise<void> {
    const decoder = new TextDecoder();
    const bytes = new Uint8Array(65536);
    let rest = "";
    try {
      for (;;) {
        const count = await this.#connection.read(bytes);
        if (count === null) return;
        const lines = (rest + decoder.decode(bytes.subarray(0, count), { stream: true })).split(/\r?\n/);
        rest = lines.pop()!;
        for (const line of lines) if (line !== "") onLine(line);
      }
    } catch (error) {
      // The peer is killed by power cuts, and our own end is closed while a read waits.
      if (!this.#closed && !(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
  }

  /** Sends one line. */
  async send(line: string): Promise<void> {
    const bytes = new TextEncoder().encode(line + "\n");
    for (let sent = 0; sent < bytes.length;) sent += await this.#connection.write(bytes.subarray(sent));
  }

  /** Closes it; `onLine` may be called until the promise resolves. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.close();
    await this.#pump;
  }
}
