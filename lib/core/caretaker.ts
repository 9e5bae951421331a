/**
 * The caretaker of a leg: while no client has the pool, it looks whether the legs are equal and, when they are not, attaches the pool
 * itself (as a client that serves nobody), has them reconciled and resynced, and lets go.
 *
 * Every leg has one; the first to claim wins, the others find the pool held and look again later. A client's claim always ends a caretaker's
 * session (leg_session.ts), and records that it makes keep the generation of the last client, so that client may go on afterwards.
 *
 * It looks once when its leg is opened, and after every session, unless the session was let go with the leg's own record saying that all is
 * well. Then it costs nothing. The driver calls it as often as its leg, and gives it the connections that it asks for.
 *
 * @module
 */

import { MAX_LEGS } from "../disk_format/records.ts";
import type { Message } from "../wire/message.ts";
import type { Dialect } from "../wire/negotiate.ts";
import { ClientPool } from "./client_pool.ts";
import type { LegServer } from "./leg_server.ts";
import { type CoreEvent, type Output, OutputKind, OutputQueue } from "./output.ts";

/** How long a leg is left alone after a session: whoever had the pool may be about to come back. */
const PATIENCE_MS = 3000;
/** Legs do not all look at the same moment. */
const PATIENCE_SPREAD_MS = 2000;
const FIRST_BACKOFF_MS = 1000;
const MOST_BACKOFF_MS = 30_000;
/** What people want to know of it. That a leg cannot be reached is not news, nor that another was first. */
const TOLD_EVENTS = new Set([
  "reconcile",
  "resync-started",
  "leg-in-sync",
  "leg-dropped",
  "resync-failed",
  "leg-adopt",
  "leg-remove",
]);

/** What a caretaker is made of. */
export interface CaretakerOptions {
  readonly nowMs: number;
  /** Wall clock in ms since 1970: for what people are told only. */
  readonly wallMs: () => number;
  /** A number in [0, 1): for back-off only. */
  readonly nextRandom: () => number;
  /** A random UUID. */
  readonly newUuid: () => string;
  /** For people: where it runs. */
  readonly name: string;
  /** Protocol versions and features it speaks; this version's when absent. */
  readonly dialect?: Dialect;
}

/** See the module comment. */
export class Caretaker {
  readonly #leg: LegServer;
  readonly #options: CaretakerOptions;
  /** What it does beyond the outputs of its pool: closing connections that came too late. */
  readonly #outputs = new OutputQueue(64);
  #pool: ClientPool | null = null;
  /** Counts looks: an attempt to connect that ends after its look is nobody's any more. */
  #round = 0;
  #sessionsSeen = 0;
  /** Nothing to do until another session comes. */
  #isAtPeace = false;
  #dueMs: number;
  #backoffMs = FIRST_BACKOFF_MS;

  constructor(leg: LegServer, options: CaretakerOptions) {
    this.#leg = leg;
    this.#options = options;
    this.#dueMs = options.nowMs;
  }

  /** Whether it may want something done. */
  get isAtWork(): boolean {
    return this.#pool !== null || this.#outputs.length > 0;
  }

  /** The in-sync set that it serves; 0 when none. */
  get servedMask(): number {
    return this.#pool !== null && this.#pool.state === "ready" ? this.#pool.snapshot().inSyncMask : 0;
  }

  /** Time passes. Called at least as often as its leg's. */
  handleTick(nowMs: number): void {
    if (this.#pool !== null) {
      this.#pool.handleTick(nowMs);
      this.#endLook(nowMs);
      return;
    }
    const leg = this.#leg;
    if (leg.sessionCount !== this.#sessionsSeen || leg.isHeld) {
      this.#sessionsSeen = leg.sessionCount;
      this.#isAtPeace = false;
      this.#backoffMs = FIRST_BACKOFF_MS;
      this.#dueMs = nowMs + PATIENCE_MS + PATIENCE_SPREAD_MS * this.#options.nextRandom();
      if (leg.isHeld || !leg.isAtPeace) return;
      this.#isAtPeace = true;
    }
    if (!this.#isAtPeace && nowMs >= this.#dueMs) this.#look(nowMs);
  }

  /** When `handleTick` wants to be called at the latest, besides being called with the leg's. */
  get nextDeadlineMs(): number {
    return this.#pool === null ? Infinity : this.#pool.nextDeadlineMs;
  }

  /** Output CONNECT has succeeded; `tag` is its `legIndex`. */
  handleConnected(tag: number, connection: number): void {
    const pool = this.#poolOf(tag);
    if (pool === null) this.#outputs.push(OutputKind.CLOSE).connection = connection;
    else pool.handleConnected(tag % MAX_LEGS, connection);
  }

  /** Output CONNECT has failed. */
  handleConnectFailed(tag: number): void {
    this.#poolOf(tag)?.handleConnectFailed(tag % MAX_LEGS);
  }

  /** A connection is gone. */
  handleConnectionClosed(connection: number): void {
    this.#pool?.handleConnectionClosed(connection);
  }

  /** A frame from a leg. `body` has passed `parseBody`. It asks for no data, and is given no payload. */
  handleMessage(connection: number, message: Message, body: unknown): void {
    this.#pool?.handleMessage(connection, message, -1, body);
  }

  /** The next thing to do, or null: SEND, CONNECT, CLOSE, EVENT. */
  poll(): Output | null {
    const own = this.#outputs.poll();
    if (own !== null) return own;
    for (let output = this.#pool?.poll() ?? null; output !== null; output = this.#pool?.poll() ?? null) {
      if (output.kind === OutputKind.EVENT && !TOLD_EVENTS.has((output.body as CoreEvent).name)) continue;
      if (output.kind === OutputKind.CONNECT) output.legIndex += this.#round * MAX_LEGS;
      return output;
    }
    return null;
  }

  /** Asserts what must hold between inputs. For tests and the simulator. */
  checkInvariants(): void {
    this.#pool?.checkInvariants();
  }

  #poolOf(tag: number): ClientPool | null {
    return Math.floor(tag / MAX_LEGS) === this.#round ? this.#pool : null;
  }

  #look(nowMs: number): void {
    const { nextRandom, newUuid, wallMs, name, dialect } = this.#options;
    this.#round++;
    this.#pool = new ClientPool({
      ...poolOfLeg(this.#leg),
      isCaretaker: true,
      clientUuid: newUuid(),
      clientName: name,
      maxRequests: 16,
      nowMs,
      wallMs: wallMs(),
      nextRandom,
      dialect,
    });
    this.#pool.start({ takeover: false });
  }

  /** The pool is let go of, or could not be had. Only then, and with all outputs carried out, is the state forgotten. */
  #endLook(nowMs: number): void {
    const pool = this.#pool as ClientPool;
    if (pool.state !== "detached" && pool.state !== "refused") return;
    if (pool.hasOutputs) return;
    // What came of a session of its own is for the next look to say.
    this.#isAtPeace = pool.foundAllWell && this.#leg.sessionCount === this.#sessionsSeen;
    this.#sessionsSeen = this.#leg.sessionCount;
    this.#dueMs = nowMs + this.#backoffMs * (1 + this.#options.nextRandom());
    this.#backoffMs = Math.min(MOST_BACKOFF_MS, this.#backoffMs * 2);
    this.#pool = null;
  }
}

/** The pool of a leg, as far as that knows it: what a client core of its own starts from. */
export function poolOfLeg(leg: LegServer) {
  const { poolUuid, poolName, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes, hotExtentLimit, record } = leg
    .snapshot();
  const legs = record.shared.legs.flatMap((entry, legIndex) =>
    entry === null ? [] : [{ legIndex, address: entry.address }]
  );
  const hotExtentCount = hotExtentLimit;
  const { reach } = leg;
  return { poolUuid, poolName, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes, hotExtentCount, legs, reach };
}
