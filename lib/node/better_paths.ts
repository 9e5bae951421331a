/**
 * The way back to RDMA: a leg that is reached over TCP, because its RDMA path was lost or was not there yet, moves to RDMA
 * again when that can be had.
 *
 * The core changes paths only when one is lost, so this is done from outside: now and then somebody is connected to by RDMA
 * and not spoken to. If that works, and quickly, the leg's connection is closed, and the core does what it does with any
 * lost path (`path_changes.ts`): the leg stays in the set, and what it has not answered is sent again by the next path.
 * As the core goes on from the path that was lost, with several over TCP that takes more than one move.
 *
 * It is never worth a leg: nothing moves while one of them is not in sync, and where RDMA does not last, as on a link that
 * comes and goes, tries become rare.
 *
 * @module
 */

import type { CoreEvent } from "../core/output.ts";
import type { ClientSnapshot } from "../core/snapshot.ts";
import type { LegPath } from "../control/control_api.ts";

/** What moves. */
export interface MovingClient {
  readonly core: { snapshot(): Pick<ClientSnapshot, "state" | "legs"> };
  /** How the legs that are connected are reached. */
  paths(): readonly LegPath[];
  /** Connects to `address` and closes again; the outcome comes once, from within a turn. */
  probe(address: string, onOutcome: (isThere: boolean) => void): void;
  /** Closes the connection to a leg. */
  leave(legIndex: number): void;
}

/** How often is looked, and how long a leg is over TCP before the first try. */
const LOOK_MS = 5_000;
const FIRST_MS = 10_000;
/** The time between tries doubles with each, up to this. */
const MOST_MS = 600_000;
/** A leg that has been reached by RDMA for so long begins anew with the next loss. */
const PROVEN_MS = 120_000;
/**
 * What part of the heartbeat limit connecting may take. A change of path has a fifth of it for all paths (path_changes.ts),
 * and what is slower than this might not be reached then.
 */
const QUICK_SHARE = 1 / 20;

/** What is known of a leg. Times are of the reactor's clock. */
interface Watch {
  /** How long it will be over TCP before it is tried. */
  waitMs: number;
  /** When it is tried; Infinity while it is reached by RDMA. */
  dueMs: number;
  /** Since when it is reached by RDMA; Infinity while it is not. */
  sinceMs: number;
}

/** See the module's description. */
export class BetterPaths {
  readonly #client: MovingClient;
  readonly #clock: { readonly nowMs: number; clockMs(): number };
  readonly #quickMs: number;
  readonly #report: (event: CoreEvent) => void;
  readonly #watches = new Map<number, Watch>();
  #lookMs: number;
  #isProbing = false;

  constructor(
    client: MovingClient,
    clock: { readonly nowMs: number; clockMs(): number },
    heartbeatMs: number,
    report: (event: CoreEvent) => void,
  ) {
    this.#client = client;
    this.#clock = clock;
    this.#quickMs = heartbeatMs * QUICK_SHARE;
    this.#report = report;
    this.#lookMs = clock.nowMs + LOOK_MS;
  }

  /** When `afterTurn` wants to be called at the latest. */
  get deadlineMs(): number {
    return this.#lookMs;
  }

  /** Looks whether a leg should move. */
  afterTurn(): void {
    const { nowMs } = this.#clock;
    if (nowMs < this.#lookMs) return;
    this.#lookMs = nowMs + LOOK_MS;
    if (this.#isProbing) return;
    for (const { legIndex, transport } of this.#client.paths()) {
      const watch = this.#watchOf(legIndex);
      if (transport !== "tcp") {
        this.#isFine(watch);
        continue;
      }
      const better = this.#isDue(watch) ? this.#betterPath(legIndex) : null;
      if (better !== null) return this.#probe(legIndex, better, watch);
    }
  }

  #watchOf(legIndex: number): Watch {
    let watch = this.#watches.get(legIndex);
    if (watch === undefined) {
      watch = { waitMs: FIRST_MS, dueMs: Infinity, sinceMs: Infinity };
      this.#watches.set(legIndex, watch);
    }
    return watch;
  }

  #isFine(watch: Watch): void {
    const { nowMs } = this.#clock;
    watch.dueMs = Infinity;
    watch.sinceMs = Math.min(watch.sinceMs, nowMs);
    if (nowMs - watch.sinceMs >= PROVEN_MS) watch.waitMs = FIRST_MS;
  }

  #isDue(watch: Watch): boolean {
    const { nowMs } = this.#clock;
    watch.sinceMs = Infinity;
    if (watch.dueMs === Infinity) watch.dueMs = nowMs + watch.waitMs;
    return nowMs >= watch.dueMs;
  }

  /** The RDMA path to a leg; null when there is none, or the pool cannot do without the leg for a moment: all are to be in sync. */
  #betterPath(legIndex: number): string | null {
    const { state, legs } = this.#client.core.snapshot();
    const moving = legs.find((leg) => leg.legIndex === legIndex);
    if (state !== "ready" || moving?.state !== "in-sync") return null;
    if (!legs.every((leg) => leg.isDrained || leg.state === "in-sync")) return null;
    return moving.paths?.find((path) => path.startsWith("rdma://")) ?? null;
  }

  #probe(legIndex: number, address: string, watch: Watch): void {
    const begunMs = this.#clock.clockMs();
    this.#isProbing = true;
    watch.waitMs = Math.min(MOST_MS, 2 * watch.waitMs);
    watch.dueMs = this.#clock.nowMs + watch.waitMs;
    this.#client.probe(address, (isThere) => {
      this.#isProbing = false;
      const isQuick = this.#clock.clockMs() - begunMs <= this.#quickMs;
      if (!isThere || !isQuick || this.#betterPath(legIndex) !== address) return;
      const message = `Leg ${legIndex} can be reached at ${address}; its connection moves there`;
      this.#report({ level: "info", name: "better-path", legIndex, message });
      this.#client.leave(legIndex);
    });
  }
}
