/**
 * What a torture world's application was promised: the simulator's oracle over every sector, and the history of all that
 * was asked, so that a complaint can tell the story of the sector.
 *
 * @module
 */

import { Oracle } from "../sim/oracle.ts";

/** Size of a sector: the smallest thing that is judged. */
export const SECTOR_BYTES = 512;
/** Sectors of the longest request. */
export const MOST_SECTORS = 256;
/** Requests that a complaint can look back on. */
const HISTORY_LENGTH = 200_000;
/** Lines of history that a complaint shows. */
const SHOWN = 40;
const GARBAGE = -1;
const WORDS_PER_SECTOR = SECTOR_BYTES / 4;

/** One request, from its beginning to its answer. */
export interface AskedFor {
  readonly kind: "read" | "write" | "zeroes" | "discard" | "flush";
  readonly isFua: boolean;
  readonly client: number;
  readonly firstSector: number;
  readonly sectorCount: number;
  readonly firstValue: number;
  /** Tick of the oracle's clock. */
  readonly invoke: number;
  readonly atMs: number;
  endMs: number;
  outcome: string;
}

/** The judge of one world. */
export class Judge {
  readonly oracle = new Oracle();
  readonly #history: AskedFor[] = [];
  readonly #beganMs = performance.now();
  /** Ticks at which reads without an answer began. */
  readonly #readsInFlight = new Set<number>();
  #writes = 0;
  counts = { reads: 0, writes: 0, flushes: 0, failed: 0, unknown: 0 };

  constructor(sectorCount: number) {
    this.oracle.reset(sectorCount);
  }

  get elapsedMs(): number {
    return performance.now() - this.#beganMs;
  }

  /** A line that is no request: a fault, a client that begins. */
  note(text: string): void {
    this.#keep({
      ...{ kind: "flush", isFua: false, client: -1, firstSector: 0, sectorCount: -1, firstValue: 0, invoke: 0 },
      ...{ atMs: this.elapsedMs, endMs: 0, outcome: text },
    });
  }

  begin(kind: AskedFor["kind"], client: number, firstSector: number, sectorCount: number, isFua: boolean): AskedFor {
    const invoke = this.oracle.tick();
    const firstValue = kind === "write" ? ++this.#writes * MOST_SECTORS : 0;
    const request = {
      ...{ kind, isFua, client, firstSector, sectorCount, firstValue, invoke },
      ...{ atMs: this.elapsedMs, endMs: -1, outcome: "no answer" },
    };
    if (kind === "read") {
      // Answers on several connections overtake one another: a read may be heard of after a write that came later.
      this.#readsInFlight.add(invoke);
      this.#noteOldestRead();
    }
    if (kind !== "read" && kind !== "flush") this.oracle.beginWrite(firstSector, sectorCount, firstValue, invoke);
    this.#keep(request);
    return request;
  }

  /** It was answered with success. `data`: what a read of the client in force returned. */
  succeed(request: AskedFor, data: Uint8Array | null): void {
    request.endMs = this.elapsedMs;
    request.outcome = "done";
    if (request.kind === "flush") {
      this.counts.flushes++;
      this.oracle.ackFlush(request.invoke);
    } else if (request.kind === "read") {
      this.counts.reads++;
      if (data !== null) this.checkRead(data, request.firstSector, request.invoke);
      this.#readIsOver(request);
    } else {
      this.counts.writes++;
      this.oracle.ackWrite(request.firstSector, request.sectorCount, request.invoke, request.isFua);
    }
  }

  /** It was answered with an error. */
  fail(request: AskedFor, error: string): void {
    request.endMs = this.elapsedMs;
    request.outcome = error;
    this.counts.failed++;
    if (request.kind === "flush") this.oracle.failFlush();
    else this.#readIsOver(request);
  }

  /** It will never be answered. */
  abandon(request: AskedFor): void {
    request.outcome = "no answer";
    this.counts.unknown++;
    this.#readIsOver(request);
  }

  /** Throws unless `data` is what may be read from `firstSector` on by a read that began at `invoke`. */
  checkRead(data: Uint8Array, firstSector: number, invoke: number): void {
    this.oracle.tick();
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
    for (let i = 0; i < data.length / SECTOR_BYTES; i++) {
      const sector = firstSector + i;
      try {
        this.oracle.readSector(sector, valueOf(words, i * WORDS_PER_SECTOR, sector), invoke);
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${this.story(sector)}`);
      }
    }
  }

  /** What happened to a sector, newest last. */
  story(sector: number): string {
    const lines = this.#history.filter(({ firstSector, sectorCount, kind }) =>
      sectorCount < 0 || kind === "flush" || (firstSector <= sector && sector < firstSector + sectorCount)
    );
    return lines.slice(-SHOWN).map((request) => {
      if (request.sectorCount < 0) return `${request.atMs.toFixed(0)} ms: ${request.outcome}`;
      const { kind, firstSector, sectorCount, firstValue, client, isFua, invoke } = request;
      return `${request.atMs.toFixed(0)} ms: client ${client} ${kind}${
        isFua ? " FUA" : ""
      } ${firstSector}+${sectorCount}` +
        `${firstValue > 0 ? ` (value ${firstValue + sector - firstSector})` : ""} tick ${invoke}: ` +
        `${request.outcome}${request.endMs >= 0 ? ` at ${request.endMs.toFixed(0)} ms` : ""}`;
    }).join("\n");
  }

  #readIsOver(request: AskedFor): void {
    if (this.#readsInFlight.delete(request.invoke)) this.#noteOldestRead();
  }

  /** Ticks are added in ascending order, so the first of the set is the oldest. */
  #noteOldestRead(): void {
    this.oracle.oldestRead = this.#readsInFlight.values().next().value ?? Infinity;
  }

  #keep(request: AskedFor): void {
    this.#history.push(request);
    if (this.#history.length > 2 * HISTORY_LENGTH) this.#history.splice(0, HISTORY_LENGTH);
  }
}

/** The payload of a write: each 16 bytes say which value and which sector they are. */
export function contentOf(firstSector: number, sectorCount: number, firstValue: number): Uint8Array {
  const words = new Uint32Array(sectorCount * WORDS_PER_SECTOR);
  for (let i = 0; i < sectorCount; i++) {
    const value = firstValue + i;
    for (let at = i * WORDS_PER_SECTOR; at < (i + 1) * WORDS_PER_SECTOR; at += 4) {
      words[at] = value >>> 0;
      words[at + 1] = Math.floor(value / 2 ** 32);
      words[at + 2] = firstSector + i;
      words[at + 3] = 0x42524d52;
    }
  }
  return new Uint8Array(words.buffer);
}

/** The value that a sector's bytes say; 0 for zeroes, -1 for what nobody wrote there. */
function valueOf(words: Uint32Array, at: number, sector: number): number {
  if (words[at + 3] === 0) {
    for (let i = at; i < at + WORDS_PER_SECTOR; i++) if (words[i] !== 0) return GARBAGE;
    return 0;
  }
  for (let i = at; i < at + WORDS_PER_SECTOR; i += 4) {
    const isSame = words[i] === words[at] && words[i + 1] === words[at + 1] && words[i + 2] === sector &&
      words[i + 3] === 0x42524d52;
    if (!isSame) return GARBAGE;
  }
  return words[at] + words[at + 1] * 2 ** 32;
}
