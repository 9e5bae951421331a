/**
 * A brmr process started by this one: the same program, the permissions that its subcommand needs, and no more.
 *
 * @module
 */

/** How to start this very program again. */
export interface Program {
  readonly command: string;
  /** What comes before brmr's own arguments; `permissions` are Deno's flags. */
  argumentsFor(permissions: readonly string[], own: readonly string[]): string[];
}

/** The program that runs now: a standalone binary is itself, anything else is Deno with its main module. */
export function thisProgram(): Program {
  const command = Deno.execPath();
  if (Deno.build.standalone) return { command, argumentsFor: (_permissions, own) => [...own] };
  const entry = Deno.mainModule;
  return {
    command,
    argumentsFor: (permissions, own) => ["run", "--quiet", "--no-prompt", ...permissions, entry, ...own],
  };
}

/** A running child. Its standard output is read line by line; its standard error is kept for when it fails. */
export class BrmrProcess {
  readonly pid: number;
  readonly exited: Promise<Deno.CommandStatus>;
  readonly name: string;
  readonly #process: Deno.ChildProcess;
  readonly #lines: string[] = [];
  readonly #errorTail: string[] = [];
  #isOver = false;
  #wake: () => void = () => undefined;
  readonly #readers: Promise<void>[];

  constructor(name: string, program: Program, permissions: readonly string[], own: readonly string[], env = {}) {
    this.name = name;
    this.#process = new Deno.Command(program.command, {
      args: program.argumentsFor(permissions, own),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      // Nobody waits to hear from a child: not the service manager that may have started us.
      env: { ...env, NOTIFY_SOCKET: "" },
    }).spawn();
    this.pid = this.#process.pid;
    this.#readers = [
      this.#readLines(this.#process.stdout, (line) => this.#lines.push(line)),
      this.#readLines(this.#process.stderr, (line) => {
        this.#errorTail.push(line);
        if (this.#errorTail.length > 40) this.#errorTail.shift();
      }),
    ];
    this.exited = this.#process.status.then(async (status) => {
      await Promise.all(this.#readers);
      this.#isOver = true;
      this.#wake();
      return status;
    });
  }

  /** What it said on standard error, the last lines. */
  get errorText(): string {
    return this.#errorTail.join("\n");
  }

  /** Waits for a line of standard output that `pattern` matches. Rejects when the process ends first, or after the limit. */
  async waitForLine(pattern: RegExp, limitMs: number): Promise<RegExpExecArray> {
    const deadlineMs = performance.now() + limitMs;
    let next = 0;
    for (;;) {
      for (; next < this.#lines.length; next++) {
        const match = pattern.exec(this.#lines[next]);
        if (match !== null) return match;
      }
      if (this.#isOver) throw new Error(`${this.name} ended before it was ready:\n${this.errorText}`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw new Error(`${this.name} was not ready within ${limitMs} ms:\n${this.errorText}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Sends a signal; a process that is gone already is left alone. */
  kill(signal: Deno.Signal): void {
    if (!this.#isOver) this.#process.kill(signal);
  }

  /** Asks it to end (SIGTERM), insists (SIGKILL) after the limit, and waits until it has. */
  async end(limitMs: number): Promise<Deno.CommandStatus> {
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), limitMs);
    const status = await this.exited;
    clearTimeout(timer);
    return status;
  }

  async #readLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      rest += decoder.decode(bytes, { stream: true });
      for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
        take(rest.slice(0, end));
        rest = rest.slice(end + 1);
      }
      this.#wake();
    }
    if (rest !== "") take(rest);
    this.#wake();
  }
}
