/**
 * Speaks to a running `brmr attach` on this machine: one JSON object a line over its unix socket, request and answer in turn.
 *
 * @module
 */

import { type ClientOperations, type ControlClient, ControlError } from "./control_api.ts";
import { decodeReply } from "./control_reply.ts";
import { clientSocketPath } from "./runtime_dir.ts";

/** Longest answer accepted; a snapshot of eight legs is a few KiB. */
const MAX_LINE_BYTES = 1 << 20;

/** How to find the client, and how long to wait for it. */
export interface ClientControlOptions {
  readonly runtimeDir: string;
  /** For each answer. Detaching waits for requests in flight, so give it long. */
  readonly timeoutMs: number;
}

/**
 * Connects to the client that has `poolName` attached.
 * @throws {ControlError} "not-found" when none runs here, "refused" when the socket belongs to another user.
 */
export async function connectClient(
  poolName: string,
  options: ClientControlOptions,
): Promise<ControlClient<ClientOperations>> {
  const path = clientSocketPath(options.runtimeDir, poolName);
  try {
    const connection = await Deno.connect({ transport: "unix", path });
    return new ClientControlClient(connection, `client of pool "${poolName}"`, options.timeoutMs);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
      throw new ControlError(
        "refused",
        `${path} may not be opened by this user. Run this as the user of "brmr attach".`,
      );
    }
    throw new ControlError(
      "not-found",
      `Pool "${poolName}" is not attached on this machine (nothing answers on ${path}). ` +
        `Attach it with "brmr attach ${poolName}", or set BRMR_RUNTIME_DIR to the one of the running client.`,
    );
  }
}

class ClientControlClient implements ControlClient<ClientOperations> {
  readonly #connection: Deno.Conn;
  readonly #name: string;
  readonly #timeoutMs: number;
  #rest = new Uint8Array(0);
  #isClosed = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(connection: Deno.Conn, name: string, timeoutMs: number) {
    this.#connection = connection;
    this.#name = name;
    this.#timeoutMs = timeoutMs;
  }

  // deno-lint-ignore no-explicit-any -- the interface types the results; here they are what the client answered
  request(op: string, request: unknown): Promise<any> {
    const answer = this.#turn.then(() => this.#requestNow(op, request));
    this.#turn = answer.catch(() => undefined);
    return answer;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#connection.close();
  }

  async #requestNow(op: string, request: unknown): Promise<unknown> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.close();
    }, this.#timeoutMs);
    let line: string;
    try {
      const bytes = new TextEncoder().encode(JSON.stringify({ op, ...(request as Record<string, unknown>) }) + "\n");
      for (let sent = 0; sent < bytes.length;) sent += await this.#connection.write(bytes.subarray(sent));
      line = await this.#readLine();
    } catch (error) {
      this.close();
      if (isLate) {
        throw new ControlError(
          "timeout",
          `The ${this.#name} did not answer "${op}" within ${this.#timeoutMs} ms. It may wait for a storage node: ` +
            `see its log, and "brmr status".`,
        );
      }
      if (error instanceof ControlError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new ControlError("unreachable", `The connection to the ${this.#name} broke (${reason}). Is it running?`);
    } finally {
      clearTimeout(timer);
    }
    let reply: unknown;
    try {
      reply = JSON.parse(line);
    } catch {
      reply = undefined; // no JSON: decodeReply says so in a sentence
    }
    return decodeReply(reply, this.#name);
  }

  async #readLine(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf(10);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#rest.subarray(0, end));
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      if (this.#rest.length > MAX_LINE_BYTES) {
        throw new ControlError(
          "unreachable",
          `The answer of the ${this.#name} does not end. Is it a brmr of this version?`,
        );
      }
      const chunk = new Uint8Array(16384);
      const count = await this.#connection.read(chunk);
      if (count === null) {
        throw new ControlError(
          "unreachable",
          `The ${this.#name} closed the connection without an answer. Is it stopping?`,
        );
      }
      const joined = new Uint8Array(this.#rest.length + count);
      joined.set(this.#rest);
      joined.set(chunk.subarray(0, count), this.#rest.length);
      this.#rest = joined;
    }
  }
}
