/**
 * The application above the pool: random requests, overlapping on purpose, each checked against the oracle. It outlives the
 * client processes; what is in flight when one dies has an unknown outcome.
 *
 * @module
 */

import { RequestFlag, RequestKind } from "../../lib/frontend/frontend.ts";
import { between, happens, part, under } from "./chance.ts";
import { MAX_SECTORS_PER_WRITE } from "./oracle.ts";
import { SECTOR_BYTES, type Slot } from "./slots.ts";
import { Violation } from "./violation.ts";
import type { ClientProcess } from "./client_process.ts";
import type { World } from "./world.ts";

/** One request of the application. */
export class AppRequest {
  tag = 0;
  kind = 0;
  flags = 0;
  firstSector = 0;
  sectorCount = 0;
  /** What the first sector will hold; 0 for zeroes. */
  firstValue = 0;
  /** Ticks of the oracle's clock. */
  invoke = 0;
  slot: Slot | null = null;
}

const KIND_NAMES = ["read", "write", "write-zeroes", "discard", "flush"];

/** Draws requests and judges their outcomes. */
export class Application {
  readonly #world: World;
  /** Requests in flight at the current client, by tag. */
  get inFlight(): Map<number, AppRequest> {
    return this.#world.client.inFlight;
  }

  readonly #spare: AppRequest[] = [];
  #nextTag = 1;
  #writes = 0;
  /** Requests begun. */
  begun = 0;
  /** Requests that were answered with success, and with an error. */
  succeeded = 0;
  failed = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** A random request, begun as far as the oracle is concerned. Its slot is the caller's to fill with `fill`. */
  draw(client: ClientProcess): AppRequest {
    const { prng, plan } = this.#world;
    const dice = under(prng, 100);
    let kind: number = RequestKind.READ;
    if (dice < plan.writeShare) kind = RequestKind.WRITE;
    else if (dice < plan.writeShare + plan.zeroShare) kind = RequestKind.WRITE_ZEROES;
    else if (dice < plan.writeShare + plan.zeroShare + plan.discardShare) kind = RequestKind.DISCARD;
    else if (dice < plan.writeShare + plan.zeroShare + plan.discardShare + plan.flushShare) kind = RequestKind.FLUSH;
    if (client.onlyReads) kind = RequestKind.READ;
    if (kind === RequestKind.FLUSH) return this.begin(client, kind, 0, 0, 0);
    let sectorCount = 1 + under(prng, plan.mostSectors);
    // Half of the requests are whole, aligned chunks.
    const aligned = happens(prng, 0.5);
    if (aligned) sectorCount = Math.max(8, sectorCount & ~7);
    let first = under(prng, plan.spanSectors);
    if (aligned) first &= ~7;
    if (first + sectorCount > plan.spanSectors) first = Math.max(0, plan.spanSectors - sectorCount);
    if (first + sectorCount > plan.spanSectors) sectorCount = plan.spanSectors - first;
    const fua = kind !== RequestKind.READ && happens(prng, plan.fuaChance) ? RequestFlag.FUA : 0;
    const noHole = kind === RequestKind.WRITE_ZEROES && happens(prng, 0.3) ? RequestFlag.NO_HOLE : 0;
    return this.begin(client, kind, fua | noHole, first, sectorCount);
  }

  /** Begins a request. */
  begin(client: ClientProcess, kind: number, flags: number, firstSector: number, sectorCount: number): AppRequest {
    const oracle = this.#world.oracle;
    const request = this.#spare.pop() ?? new AppRequest();
    request.tag = this.#nextTag++;
    request.kind = kind;
    request.flags = flags;
    request.firstSector = firstSector;
    request.sectorCount = sectorCount;
    request.slot = null;
    request.invoke = oracle.tick();
    request.firstValue = 0;
    if (kind === RequestKind.WRITE) request.firstValue = ++this.#writes * MAX_SECTORS_PER_WRITE;
    if (kind !== RequestKind.READ && kind !== RequestKind.FLUSH) {
      oracle.beginWrite(firstSector, sectorCount, request.firstValue, request.invoke);
    }
    client.inFlight.set(request.tag, request);
    this.begun++;
    if (this.#world.tracing) this.#world.trace(client.appName, `begins ${this.describe(request)}`);
    return request;
  }

  /** The core says how a request ended, and its promise is to be checked at this moment. */
  judge(client: ClientProcess, tag: number, status: number, inSyncMask: () => number): AppRequest {
    const request = client.inFlight.get(tag);
    if (request === undefined) {
      throw new Violation("exactly-once", `request ${tag} completes a second time, or never was`);
    }
    client.inFlight.delete(tag);
    // What a superseded client is told late was promised in another world: only the oracle can judge it.
    if (status !== 0 || client !== this.#world.client) return request;
    const checks = this.#world.checks;
    if (request.kind === RequestKind.FLUSH) checks.onFlushComplete(request.invoke, inSyncMask());
    else if (request.kind !== RequestKind.READ) {
      const fua = (request.flags & RequestFlag.FUA) !== 0;
      checks.onWriteComplete(request.firstSector, request.sectorCount, request.firstValue, fua, inSyncMask);
    }
    return request;
  }

  /** The request is answered. */
  finish(client: ClientProcess, request: AppRequest, status: number): void {
    const world = this.#world;
    const oracle = world.oracle;
    if (world.tracing) world.trace(client.appName, `${this.describe(request)} ends with ${status}`);
    if (status === 0) this.succeeded++;
    else this.failed++;
    if (status === 0 && request.kind !== RequestKind.READ) this.noteOldestRead();
    if (request.kind === RequestKind.FLUSH) {
      if (status === 0) oracle.ackFlush(request.invoke);
      else oracle.failFlush();
    } else if (request.kind === RequestKind.READ) {
      // Also those of a client that has been superseded and may not have heard of it.
      if (status === 0) this.#checkRead(request);
    } else if (status === 0) {
      const fua = (request.flags & RequestFlag.FUA) !== 0;
      oracle.ackWrite(request.firstSector, request.sectorCount, request.invoke, fua);
      if (request.firstValue > 0) world.checks.ackTicks[request.firstValue / MAX_SECTORS_PER_WRITE] = oracle.clock;
    } else oracle.tick();
    this.forget(request);
  }

  /** What is over since the oldest read without an answer began, that read may still tell of. */
  noteOldestRead(): void {
    let oldest = Infinity;
    for (const client of [...this.#world.clients, ...this.#world.readers]) {
      for (const { kind, invoke } of client.inFlight.values()) {
        if (kind === RequestKind.READ) oldest = Math.min(oldest, invoke);
      }
    }
    this.#world.oracle.oldestRead = oldest;
  }

  /** Whether a request in flight touches these bytes. */
  touches(offset: number, lengthBytes: number): boolean {
    for (const client of this.#world.clients) {
      for (const { firstSector, sectorCount } of client.inFlight.values()) {
        if (bytesOf(firstSector) < offset + lengthBytes && offset < bytesOf(firstSector + sectorCount)) return true;
      }
    }
    return false;
  }

  /** The client process is gone: what was in flight may have happened, or may not, or may yet. */
  abandonAll(client: ClientProcess): void {
    this.#world.oracle.tick();
    for (const request of client.inFlight.values()) this.#spare.push(request);
    client.inFlight.clear();
  }

  forget(request: AppRequest): void {
    request.slot = null;
    this.#spare.push(request);
  }

  /** Puts the values of a write into its slot. */
  fill(request: AppRequest, slot: Slot): void {
    for (let i = 0; i < request.sectorCount; i++) slot.values[i] = request.firstValue + i;
  }

  /** How long until the next request. */
  thinkMs(): number {
    const { prng, plan } = this.#world;
    if (happens(prng, 0.02)) return between(prng, 100, 1500);
    return part(prng) * 2 * plan.thinkMeanMs;
  }

  describe(request: AppRequest): string {
    const where = request.kind === RequestKind.FLUSH ? "" : ` sectors ${request.firstSector}+${request.sectorCount}`;
    const value = request.firstValue > 0 ? ` (write ${request.firstValue / MAX_SECTORS_PER_WRITE})` : "";
    const flags = request.flags === 0 ? "" : ` flags ${request.flags}`;
    return `${KIND_NAMES[request.kind]} #${request.tag}${where}${value}${flags}`;
  }

  #checkRead(request: AppRequest): void {
    const oracle = this.#world.oracle;
    oracle.tick();
    const values = request.slot!.values;
    for (let i = 0; i < request.sectorCount; i++) {
      oracle.readSector(request.firstSector + i, values[i], request.invoke);
    }
  }
}

/** Bytes of so many sectors. */
export function bytesOf(sectors: number): number {
  return sectors * SECTOR_BYTES;
}
