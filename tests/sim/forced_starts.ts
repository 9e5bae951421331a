/**
 * What an operator does who has the pool start by force: gives the order, and says whose writes go where legs were forced apart.
 *
 * @module
 */

import type { ForceOrder } from "../../lib/core/forced_start.ts";
import type { CoreEvent } from "../../lib/core/output.ts";
import { under } from "./chance.ts";
import { EventKind } from "./event_kind.ts";
import { Fault } from "./plan.ts";
import type { World } from "./world.ts";

/** Bits of a START event: with takeover, by force; the legs that are given up follow. */
const TAKEOVER = 1;
const FORCE = 2;

/** The forced starts of one world. */
export class ForcedStarts {
  readonly #world: World;
  /** A leg was left alone for its history: only an operator can help. */
  #rivalSeen = false;

  constructor(world: World) {
    this.#world = world;
  }

  /** Whether the legs may become whole without a client. Of histories forced apart only an operator can say which one goes. */
  get mayBeClientless(): boolean {
    return !this.#world.plan.faults.includes(Fault.FORCE_START);
  }

  heard(event: CoreEvent): void {
    if (event.name === "other-history") this.#rivalSeen = true;
  }

  /** The client will be started by force, giving up what is on the legs of `withoutMask`. */
  schedule(afterMs: number, withoutMask: number): void {
    const { heap, client, nowMs } = this.#world;
    heap.push(nowMs + afterMs, EventKind.START, client, client.life).a = TAKEOVER | FORCE | (withoutMask << 2);
  }

  /** How a START event wants a client started. */
  orderOf(how: number): { takeover: boolean; force: ForceOrder | undefined } {
    const force = (how & FORCE) === 0 ? undefined : { historyId: this.#world.newUuid(), withoutMask: how >>> 2 };
    return { takeover: (how & TAKEOVER) !== 0, force };
  }

  /** Has the client start anew if that may help a leg that was left alone. */
  help(): void {
    const world = this.#world;
    if (!this.#rivalSeen || !world.client.alive) return;
    this.#rivalSeen = false;
    world.client.kill(false);
    world.scheduleStart(world.client, 100, true);
  }

  /** Answers a refusal that asks whose writes go. Returns whether it was one. */
  answers(refusal: string): boolean {
    const sides = /--without (\d), or --force --without (\d)/.exec(refusal);
    if (sides === null) return false;
    this.schedule(500, 1 << Number(sides[1 + under(this.#world.prng, 2)]));
    return true;
  }
}
