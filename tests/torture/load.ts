/**
 * The application of a torture world: several NBD connections to each client, with requests that overlap on purpose.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";
import { NbdSocket } from "../integration/nbd_socket.ts";
import { contentOf, type Judge, MOST_SECTORS, SECTOR_BYTES } from "./judge.ts";
import type { TorturePlan } from "./plan.ts";
import type { ClientLife } from "./pool.ts";

const FUA = 1;
const NO_HOLE = 2;

/** The load on one client, until it is stopped or the client ends. */
export class Load {
  readonly #plan: TorturePlan;
  readonly #prng: Prng;
  readonly #judge: Judge;
  readonly #client: ClientLife;
  readonly #unitSectors: number;
  /** Whether this is the client in force: what another reads may be old. */
  readonly #isInForce: () => boolean;
  #isStopping = false;
  /** What it found wrong. */
  failure: Error | null = null;
  readonly #done: Promise<void>;

  constructor(
    plan: TorturePlan,
    prng: Prng,
    judge: Judge,
    client: ClientLife,
    unitSectors: number,
    isInForce: () => boolean,
  ) {
    this.#plan = plan;
    this.#prng = prng;
    this.#judge = judge;
    this.#client = client;
    this.#unitSectors = unitSectors;
    this.#isInForce = isInForce;
    this.#done = Promise.all(Array.from({ length: plan.connectionCount }, () => this.#connect())).then(() => undefined);
  }

  /** No new requests. */
  stop(): void {
    this.#isStopping = true;
  }

  /** When every request has its answer, or the client is gone. */
  ended(): Promise<void> {
    return this.#done;
  }

  async #connect(): Promise<void> {
    let socket: NbdSocket;
    try {
      socket = await NbdSocket.connect(this.#client.uri);
    } catch {
      return; // the client has ended already
    }
    try {
      await Promise.all(Array.from({ length: this.#plan.depth }, () => this.#ask(socket)));
    } finally {
      await socket.close();
    }
  }

  async #ask(socket: NbdSocket): Promise<void> {
    while (!this.#isStopping && this.failure === null) {
      if (!await this.#one(socket)) return;
      if (this.#prng.chance(0.05)) await new Promise((resolve) => setTimeout(resolve, this.#prng.below(100)));
    }
  }

  /** One request. Returns whether the connection is still there. */
  async #one(socket: NbdSocket): Promise<boolean> {
    const prng = this.#prng;
    const plan = this.#plan;
    const judge = this.#judge;
    const dice = prng.below(100);
    const kind = dice < plan.flushShare
      ? "flush"
      : dice < plan.flushShare + plan.zeroShare
      ? prng.pick(["zeroes", "discard"] as const)
      : dice < plan.flushShare + plan.zeroShare + plan.writeShare
      ? "write"
      : "read";
    const isFua = kind !== "read" && kind !== "flush" && prng.below(100) < plan.fuaShare;
    const unit = this.#unitSectors;
    const most = prng.chance(0.1) ? MOST_SECTORS : 16;
    const count = Math.max(unit, (1 + prng.below(most)) & -unit);
    const span = prng.chance(0.9) ? plan.spanSectors : plan.sizeBytes / SECTOR_BYTES;
    const first = Math.min(prng.below(span) & -unit, plan.sizeBytes / SECTOR_BYTES - count);
    const request = judge.begin(kind, this.#client.number, first, count, isFua);
    const flags = isFua ? FUA : 0;
    try {
      const offset = first * SECTOR_BYTES;
      const lengthBytes = count * SECTOR_BYTES;
      let data: Uint8Array | null = null;
      if (kind === "read") data = await socket.read(offset, lengthBytes);
      else if (kind === "write") await socket.write(offset, contentOf(first, count, request.firstValue), isFua);
      else if (kind === "flush") await socket.flush();
      else if (kind === "zeroes") {
        await socket.writeZeroes(offset, lengthBytes, flags | (prng.chance(0.3) ? NO_HOLE : 0));
      } else await socket.trim(offset, lengthBytes, flags);
      try {
        judge.succeed(request, this.#isInForce() ? data : null);
      } catch (error) {
        this.failure = error as Error;
        return false;
      }
      return true;
    } catch (error) {
      const message = (error as Error).message;
      if (message.startsWith("NBD error")) {
        judge.fail(request, message);
        await new Promise((resolve) => setTimeout(resolve, 50));
        return true;
      }
      judge.abandon(request);
      return false;
    }
  }
}
