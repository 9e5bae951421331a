/**
 * What commands write to: two streams of text, how wide the screen is, whether to colour. Tests give their own.
 *
 * @module
 */

/** Output of one command. */
export interface Terminal {
  /** Writes to standard output; no newline is added. */
  out(text: string): void;
  /** Writes to standard error; no newline is added. */
  err(text: string): void;
  /** Whether standard output is a terminal, so that a live display makes sense. */
  readonly isLive: boolean;
  /** Columns of the screen. */
  readonly columns: number;
  readonly hasColor: boolean;
  /**
   * From now on text that nobody reads any more is dropped. Until then it ends the process, as it ends any filter: right for what
   * only prints, and wrong for what serves, or must clean up.
   */
  outliveReaders(): void;
  /** The environment variable `name`. */
  env(name: string): string | undefined;
}

/** When to colour. */
export type ColorChoice = "auto" | "always" | "never";

/** Columns when standard output is no terminal, or does not say. */
const DEFAULT_COLUMNS = 100;

/** The terminal of this process. */
export function processTerminal(color: ColorChoice): Terminal {
  const isLive = Deno.stdout.isTerminal();
  let endsWithReaders = true;
  return {
    out: (text) => writeAll(Deno.stdout, text, endsWithReaders),
    err: (text) => writeAll(Deno.stderr, text, endsWithReaders),
    outliveReaders: () => {
      endsWithReaders = false;
    },
    isLive,
    get columns() {
      return columnsOf(isLive);
    },
    hasColor: wantsColor(color, isLive, (name) => Deno.env.get(name)),
    env: (name) => Deno.env.get(name),
  };
}

/** Colour on terminals, unless NO_COLOR is set to anything (no-color.org) or the terminal is "dumb". */
export function wantsColor(
  choice: ColorChoice,
  isLive: boolean,
  env: (name: string) => string | undefined,
): boolean {
  if (choice !== "auto") return choice === "always";
  return isLive && (env("NO_COLOR") ?? "") === "" && env("TERM") !== "dumb";
}

function columnsOf(isLive: boolean): number {
  if (!isLive) return DEFAULT_COLUMNS;
  try {
    const { columns } = Deno.consoleSize();
    return columns > 0 ? columns : DEFAULT_COLUMNS;
  } catch {
    return DEFAULT_COLUMNS; // a terminal without a size, e.g. a serial line
  }
}

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string, endsWithReaders: boolean): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let written = 0; written < bytes.length;) written += stream.writeSync(bytes.subarray(written));
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    // Our reader has seen enough ("brmr status | head -1"): end as any filter does.
    if (endsWithReaders) Deno.exit(0);
  }
}
