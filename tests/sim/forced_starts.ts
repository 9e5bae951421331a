/**
 * What an operator does who has the pool start by force: gives the order, and says whose writes go where legs were forced apart.
 *
 * @module
 */

import type { ForceOrder } from "../../lib/core/forced_start.ts";
import type { CoreEvent } from "../../lib/core/output.ts";
import { exponential, happens, part, under } from "./chance.ts";
import { EventKind } from "./event_kind.ts";
import type { World } from "./world.ts";

/** Bits of a START event: with takeover, by force; the legs that are given up follow. */
const TAKEOVER = 1;
const FORCE = 2;
/** Legs stay away for longer than a start waits for them. */
const AWAY_MS = 6000;

/** The forced starts of one world. */
export class ForcedStarts {
  readonly #world: World;
  /** A leg was left alone for its history: only an operator can help. */
  #rivalSeen = false;

  constructor(world: World) {
    this.#world = world;
  }

  heard(event: CoreEvent): void {
    if (event.name === "other-history") this.#rivalSeen = true;
  }

  /** Some legs are lost. The pool goes on without them for a while, if it can. */
  strike(): void {
    const { heap, prng, legs, nowMs } = this.#world;
    for (const leg of legs) if (leg.alive && happens(prng, 0.4)) leg.kill(happens(prng, 0.3));
    heap.push(nowMs + exponential(prng, 2000), EventKind.FAULT, this.#world, 0).a = 1;
  }

  /** Then those come back, and most of the others are lost, with the client. An operator has the pool start with what is there. */
  swap(): void {
    const world = this.#world;
    const { prng, clients, legs, plan } = world;
    for (const each of clients) each.kill(false);
    for (const each of legs) {
      if (!each.alive) world.scheduleStart(each, part(prng) * 1000);
      else if (happens(prng, 0.8)) {
        each.kill(happens(prng, 0.3));
        world.scheduleStart(each, AWAY_MS + exponential(prng, 4000));
      }
    }
    const withoutMask = happens(prng, 0.2) ? 1 << under(prng, legs.length) : 0;
    this.#schedule(exponential(prng, plan.downMeanMs), withoutMask);
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
    const ways = refusal.match(/--force( --without \d)+/g);
    if (ways === null || !refusal.includes("more than once")) return false;
    const given = ways[under(this.#world.prng, ways.length)].match(/\d/g)!;
    this.#schedule(500, given.reduce((mask, legIndex) => mask | (1 << Number(legIndex)), 0));
    return true;
  }

  /** The client will be started by force, giving up what is on the legs of `withoutMask`. */
  #schedule(afterMs: number, withoutMask: number): void {
    const { heap, client, nowMs } = this.#world;
    heap.push(nowMs + afterMs, EventKind.START, client, client.life).a = TAKEOVER | FORCE | (withoutMask << 2);
  }
}
