/**
 * The control socket of a client node: JSON lines on a unix socket, one answer to each request, in turn.
 *
 * @module
 */

import { ControlError } from "../control/control_api.ts";
import { type ControlReply, encodeFailure } from "../control/control_reply.ts";

/** Longest request accepted. Requests carry an operation's name and little else. */
const MAX_LINE_BYTES = 64 * 1024;
/** Most connections at once. */
const MAX_CONNECTIONS = 32;

/** Makes the answer to operation `op`; `request` is all that was sent, unchecked but for being an object with `op`. */
export type AnswerRequest = (op: string, request: unknown) => Promise<unknown>;

/** Answers requests until closed. */
export class ClientControlServer {
  readonly path: string;
  readonly #listener: Deno.UnixListener;
  readonly #answer: AnswerRequest;
  /** Connections, and whether an answer is being made for each. */
  readonly #connections = new Map<Deno.Conn, boolean>();
  readonly #serving = new Set<Promise<void>>();
  #isClosing = false;
  readonly #accepting: Promise<void>;

  /**
   * Listens on `path`. A socket that a dead client left behind is replaced.
   * @throws {ControlError} "in-use" when a live client answers there
   */
  static async listen(path: string, answer: AnswerRequest): Promise<ClientControlServer> {
    if (await isAnswered(path)) {
      throw new ControlError(
        "in-use",
        `A client of this pool already runs on this machine (it answers on ${path}). Detach it first`,
      );
    }
    await Deno.remove(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    return new ClientControlServer(path, Deno.listen({ transport: "unix", path }), answer);
  }

  private constructor(path: string, listener: Deno.UnixListener, answer: AnswerRequest) {
    this.path = path;
    this.#listener = listener;
    this.#answer = answer;
    this.#accepting = this.#accept();
  }

  /** Removes the socket and ends all connections; answers that are being made are still given. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    // First: whoever hears that we have gone may listen at this path at once, and must not lose it to us.
    await Deno.remove(this.path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    this.#listener.close();
    await this.#accepting;
    for (const [connection, isAnswering] of this.#connections) {
      if (!isAnswering && this.#connections.delete(connection)) connection.close();
    }
    await Promise.all(this.#serving);
  }

  async #accept(): Promise<void> {
    for (;;) {
      let connection: Deno.Conn;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return; // closed
        throw error;
      }
      if (this.#connections.size >= MAX_CONNECTIONS) connection.close();
      else {
        const serving = this.#serve(connection);
        this.#serving.add(serving);
        serving.then(() => this.#serving.delete(serving));
      }
    }
  }

  async #serve(connection: Deno.Conn): Promise<void> {
    this.#connections.set(connection, false);
    try {
      let rest = "";
      const decoder = new TextDecoder();
      const chunk = new Uint8Array(8192);
      for (;;) {
        const count = await connection.read(chunk);
        if (count === null) break;
        rest += decoder.decode(chunk.subarray(0, count), { stream: true });
        for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
          const line = rest.slice(0, end);
          rest = rest.slice(end + 1);
          this.#connections.set(connection, true);
          await writeAll(connection, JSON.stringify(await this.#reply(line)) + "\n");
          this.#connections.set(connection, false);
          if (this.#isClosing) break;
        }
        if (this.#isClosing) break;
        if (rest.length > MAX_LINE_BYTES) break;
      }
    } catch {
      // The other end went away mid-sentence: there is nobody left to tell.
    }
    if (this.#connections.delete(connection)) connection.close();
  }

  async #reply(line: string): Promise<ControlReply> {
    try {
      let request: unknown;
      try {
        request = JSON.parse(line);
      } catch {
        throw new ControlError("bad-request", "The request is not JSON");
      }
      const op = (request as { op?: unknown } | null)?.op;
      if (typeof op !== "string") throw new ControlError("bad-request", "The request names no operation");
      return { ok: true, result: await this.#answer(op, request) };
    } catch (error) {
      return encodeFailure(error);
    }
  }
}

async function isAnswered(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return false;
    throw new ControlError("device", `The control socket ${path} cannot be used: ${(error as Error).message}`);
  }
}

async function writeAll(connection: Deno.Conn, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}
