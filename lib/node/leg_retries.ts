/**
 * A disk may come later than its node, or be lent to somebody for a while: legs that could not be opened are tried again, with back-off.
 *
 * @module
 */

import type { CoreEvent } from "../core/output.ts";
import type { LegRegistry } from "./leg_registry.ts";

const FIRST_MS = 1000;
const MOST_MS = 30_000;

/** The retries of one node. */
export class LegRetries {
  readonly #legs: LegRegistry;
  readonly #onEvent: (pool: string, event: CoreEvent) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #backoffMs = FIRST_MS;
  #isOver = false;

  constructor(legs: LegRegistry, onEvent: (pool: string, event: CoreEvent) => void) {
    this.#legs = legs;
    this.#onEvent = onEvent;
    this.#schedule();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#isOver) return;
    const waitMs = this.#legs.broken.length === 0 ? MOST_MS : this.#backoffMs;
    this.#timer = setTimeout(() => this.#retry(), waitMs);
  }

  async #retry(): Promise<void> {
    if (this.#legs.broken.length === 0) this.#backoffMs = FIRST_MS;
    else {
      this.#backoffMs = Math.min(MOST_MS, this.#backoffMs * 2);
      for (const path of await this.#legs.openBroken()) {
        this.#onEvent("", { level: "info", name: "leg-opened", message: `${path} can be opened now, and is served` });
      }
    }
    this.#schedule();
  }
}
