/**
 * The session that an operator begins at a storage node while no client has the pool: a client core that serves nobody, lives until what it
 * was asked for is done, and lets go. As lib/node/operator_sessions.ts does it.
 *
 * @module
 */

import type { ClientPoolOptions } from "../../lib/core/client_pool.ts";
import { ClientProcess } from "./client_process.ts";
import { EventKind } from "./event_kind.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** See the module comment. */
export class OperatorProcess extends ClientProcess {
  /** What it shall do once the pool is served. */
  readonly #orders: (() => void)[] = [];
  #turnPending = false;
  /** Why the last session ended before it was let go of; "" when it was not so. */
  refusal = "";

  constructor(world: World, id: number) {
    super(world, id, "operator");
  }

  /** Begins a session, or joins the one under way; `work` is done when the pool is served. Lost with the session. */
  order(work: () => void): void {
    if (!this.alive) {
      this.#orders.length = 0;
      this.#turnPending = false;
      this.refusal = "";
      this.start(false);
    }
    this.#orders.push(work);
    this.settle();
  }

  protected override get options(): Partial<ClientPoolOptions> {
    return { isCaretaker: true, isOrdered: true };
  }

  protected override begins(): void {}

  protected override follow(state: string): void {
    if (state === "refused") {
      this.refusal = this.core!.refusal;
      this.world.note(`the operator's session ends: ${this.refusal}`);
      this.leave();
    } else if (state === "detached") {
      const leaked = this.world.slots.usedBy(this.id).length;
      if (leaked > 0) throw new Violation("slots", `the operator's session ends with ${leaked} slots in use`);
      this.world.note("the operator's session is over");
      this.leave();
    } else if (state === "ready" && !this.#turnPending && (this.#orders.length > 0 || this.#isIdle)) {
      this.#turnPending = true;
      this.world.heap.push(this.world.nowMs, EventKind.APPLICATION, this, this.life);
    }
  }

  /** Its turn has come: the next order, or the end. */
  override onApplication(): void {
    this.#turnPending = false;
    const order = this.#orders.shift();
    if (order !== undefined) order();
    else if (this.#isIdle && !this.detaching) this.detach();
    if (this.alive) this.settle();
  }

  get #isIdle(): boolean {
    return [...this.changes.values()].every((problem) => problem !== null) &&
      this.core!.snapshot().verify.state !== "running";
  }
}
