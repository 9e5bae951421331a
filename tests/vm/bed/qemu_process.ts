/**
 * A QEMU process and its monitor (QMP).
 *
 * Promises: QEMU never outlives this process, however that ends.
 *
 * @module
 */

import { LineSocket } from "./line_socket.ts";

/** Ends QEMU when the standard input is closed, which the end of whoever holds it does. */
const GUARD = '"$@" </dev/null & q=$!; { cat >/dev/null; kill -9 $q; } <&3 2>/dev/null & wait $q';

/** One QEMU. */
export class QemuProcess {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #said: Promise<string>;
  #monitor: LineSocket | null = null;
  #commandCount = 0;
  readonly #answers = new Map<number, (answer: { error?: { desc: string } }) => void>();

  private constructor(args: readonly string[], log: string) {
    this.#child = new Deno.Command("sh", {
      args: ["-c", `exec 3<&0; ${GUARD}`, "sh", "qemu-system-x86_64", ...args],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#stdin = this.#child.stdin.getWriter();
    this.#said = new Response(this.#child.stderr).text().then(async (text) => {
      await Deno.writeTextFile(log, text);
      return text;
    });
  }

  /** Starts QEMU with `args` and a monitor at `monitorPath`; what it says goes to the file `log` when it ends. */
  static async start(args: readonly string[], monitorPath: string, log: string): Promise<QemuProcess> {
    const monitor = [
      "-chardev",
      `socket,id=qmp,path=${monitorPath},server=on,wait=off`,
      "-mon",
      "chardev=qmp,mode=control",
    ];
    const qemu = new QemuProcess([...args, ...monitor], log);
    try {
      qemu.#monitor = await Promise.race([
        LineSocket.connect(monitorPath, (line) => qemu.#onLine(line)),
        qemu.#said.then((text): never => {
          throw new Error(`QEMU ended at its start: ${text}`);
        }),
      ]);
      await qemu.command("qmp_capabilities");
      return qemu;
    } catch (error) {
      await qemu.kill();
      throw error;
    }
  }

  /** Carries out a monitor command. Throws when QEMU refuses it. */
  async command(name: string, args: Record<string, unknown> = {}): Promise<void> {
    const id = ++this.#commandCount;
    const { promise, resolve } = Promise.withResolvers<{ error?: { desc: string } }>();
    this.#answers.set(id, resolve);
    await this.#monitor!.send(JSON.stringify({ execute: name, arguments: args, id }));
    const answer = await promise;
    if (answer.error !== undefined) throw new Error(`QEMU refused ${name}: ${answer.error.desc}`);
  }

  #onLine(line: string): void {
    const message = JSON.parse(line);
    if (message.id === undefined) return; // the greeting, or an event
    this.#answers.get(message.id)?.(message);
    this.#answers.delete(message.id);
  }

  /** Ends it at once, as a power cut does. */
  async kill(): Promise<void> {
    this.#monitor?.close();
    await this.#stdin.close().catch(() => undefined); // it may have ended by itself
    await this.#child.status;
    await this.#said;
  }

  /** Resolves with what QEMU said when it has ended. */
  get ended(): Promise<string> {
    return this.#said;
  }
}
