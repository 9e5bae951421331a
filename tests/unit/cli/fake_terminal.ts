/**
 * A terminal that keeps what is written to it.
 *
 * @module
 */

import type { Terminal } from "../../../cli/terminal.ts";

/** What was written, and to which stream. */
export class FakeTerminal implements Terminal {
  stdout = "";
  stderr = "";
  isLive = false;
  columns = 100;
  hasColor = false;
  readonly variables: Record<string, string> = {};

  out(text: string): void {
    this.stdout += text;
  }

  err(text: string): void {
    this.stderr += text;
  }

  outliveReaders(): void {}

  env(name: string): string | undefined {
    return this.variables[name];
  }
}
