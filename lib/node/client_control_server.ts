/**
 * The control socket of a client node: JSON lines on a unix socket, one answer to each request, in turn.
 *
 * @module
 */

import { dirname } from "node:path";
import { foreignDir } from "../control/attach_state.ts";
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
  #leaving: Promise<void> | null = null;
  readonly #accepting: Promise<void>;

  /**
   * Listens on `path`. A socket that a dead client left behind is replaced.
   * @throws {ControlError} "in-use" when a live client answers there
   */
  static async listen(path: string, answer: AnswerRequest): Promise<ClientControlServer> {
    using _ = await lock(path);
    if (await isAnswered(path)) {
      throw new ControlError(
        "in-use",
        `A client of this pool already runs on this machine (it answers on ${path}). Detach it first`,
      );
    }
    await removeIfThere(path);
    return new ClientControlServer(path, Deno.listen({ transport: "unix", path }), answer);
  }

  private constructor(path: string, listener: Deno.UnixListener, answer: AnswerRequest) {
    this.path = path;
    this.#listener = listener;
    this.#answer = answer;
    this.#accepting = this.#accept();
  }

  /**
   * Stops to listen and leaves the path to others, who may listen there as soon as this has resolved. Connections stay, and
   * answers are still given.
   */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave();
    return this.#leaving;
  }

  async #leave(): Promise<void> {
    using _ = await lock(this.path).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return null; // the directory is gone, and the socket with it
      throw error;
    });
    this.#listener.close(); // which removes the file as well: nobody else's may be there by then
    await this.#accepting;
    await removeIfThere(this.path);
  }

  /** Leaves the path and ends all connections; answers that are being made are still given. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    await this.leave();
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

/**
 * Who looks at the path, makes a socket there or removes one has this, so that two that find the same leftover at once do not take each
 * other's socket for it. The file stays: it is what all of them lock. Held until it is closed.
 */
async function lock(path: string): Promise<Deno.FsFile> {
  const file = await Deno.open(`${path}.lock`, { write: true, create: true, mode: 0o600 }).catch((error) => {
    throw error instanceof Deno.errors.PermissionDenied ? foreignDir(dirname(path)) : error;
  });
  try {
    await file.lock(true);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

async function removeIfThere(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
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
