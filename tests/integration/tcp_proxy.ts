/**
 * A network path that tests can cut: a TCP proxy in front of an address.
 *
 * @module
 */

/** See the module comment. */
export class TcpProxy {
  readonly address: string;
  readonly #target: Deno.ConnectOptions;
  readonly #listener: Deno.TcpListener;
  readonly #ends = new Set<Deno.Conn>();
  readonly #serving: Promise<void>;
  #isSilent = false;
  #isCut = false;

  /** @param port where it listens, on 127.0.0.1 */
  constructor(port: number, target: string) {
    const [hostname, targetPort] = target.split(":");
    this.#target = { hostname, port: Number(targetPort) };
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port });
    this.address = `127.0.0.1:${port}`;
    this.#serving = this.#serve();
  }

  /** Connections through it that are open. */
  get connectionCount(): number {
    return this.#ends.size / 2;
  }

  /** Every connection is reset; until `mend`, new ones are closed at once. */
  cut(): void {
    this.#isCut = true;
    for (const end of [...this.#ends]) this.#close(end);
  }

  /** From now on nothing gets through, and nobody is told; new connections are made and say nothing. */
  silence(): void {
    this.#isSilent = true;
  }

  /** New connections work again. What was sent meanwhile is lost with its connection. */
  mend(): void {
    const wasSilent = this.#isSilent;
    this.#isCut = false;
    this.#isSilent = false;
    if (wasSilent) { for (const end of [...this.#ends]) this.#close(end); }
  }

  async close(): Promise<void> {
    this.cut();
    this.#listener.close();
    await this.#serving;
  }

  async #serve(): Promise<void> {
    const relays: Promise<void>[] = [];
    for await (const near of this.#listener) {
      if (this.#isCut) {
        near.close();
        continue;
      }
      const far = await Deno.connect({ ...this.#target, transport: "tcp" }).catch(() => null);
      if (far === null) {
        near.close();
        continue;
      }
      this.#ends.add(near);
      this.#ends.add(far);
      relays.push(this.#relay(near, far), this.#relay(far, near));
    }
    await Promise.all(relays);
  }

  /** Copies until either end is gone; then both are. */
  async #relay(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (let count = await from.read(buffer); count !== null; count = await from.read(buffer)) {
        for (let sent = 0; sent < count && !this.#isSilent;) sent += await to.write(buffer.subarray(sent, count));
      }
    } catch (error) {
      // Its own `cut`, or an end that was reset: what it is for.
      const isExpected = error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe;
      if (!isExpected) throw error;
    }
    this.#close(from);
    this.#close(to);
  }

  #close(end: Deno.Conn): void {
    if (this.#ends.delete(end)) end.close();
  }
}
