/**
 * Fetching dirty maps from the source: this leg's own, to know what to pull, and at the end those of all other absent legs, for this leg
 * may be the last survivor next time.
 *
 * @module
 */

import { SparseBitmap } from "../base/sparse_bitmap.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import { type Message, MessageType } from "../wire/message.ts";
import type { ResyncJob } from "./resync_job.ts";
import { AGAIN_MS } from "./resync_pull.ts";

const EAGAIN = -11;
/** How long to wait after a map that makes no sense: it will hardly make more when it is asked for at once. */
const BAD_MAP_MS = 1000;

/** What a MAP_PART has led to. */
export type MapProgress = "more" | "bad" | { readonly legIndex: number; readonly chunks: SparseBitmap };

/** The map fetches of one leg's resync. */
export class ResyncMap {
  readonly #job: ResyncJob;
  #fetched: SparseBitmap | null = null;
  #requestId = 0;
  #legIndex = -1;

  constructor(job: ResyncJob) {
    this.#job = job;
  }

  /** Begins anew. */
  reset(): void {
    this.#fetched = null;
    this.#requestId = 0;
    this.#legIndex = -1;
  }

  /** Whether a map may be asked for now. */
  get canAsk(): boolean {
    const { links, source, leg, waitUntilMs } = this.#job;
    return this.#requestId === 0 && links.isUp(source) && leg.nowMs >= waitUntilMs;
  }

  /** Asks for this leg's own map. */
  askOwn(): void {
    this.#begin(this.#job.leg.legIndex);
  }

  /** Asks for the map of the next absent leg. False when there is none left. */
  askNext(): boolean {
    const { leg } = this.#job;
    for (let index = this.#legIndex + 1; index < MAX_LEGS; index++) {
      if (leg.maps[index] === null || (leg.record.inSyncMask & (1 << index)) !== 0) continue;
      this.#begin(index);
      return true;
    }
    return false;
  }

  /** MAP_PART. */
  handlePart(message: Message, runs: Uint32Array | null): MapProgress {
    const job = this.#job;
    const { leg } = job;
    const fetched = this.#fetched;
    if (message.requestId !== this.#requestId || fetched === null) return "more";
    this.#requestId = 0;
    if (message.status !== 0) {
      if (message.status !== EAGAIN) job.message = `Leg ${job.source} does not tell its map (${message.status})`;
      job.waitUntilMs = leg.nowMs + AGAIN_MS;
      // To be asked again.
      this.#legIndex--;
      return "more";
    }
    for (let i = 0; runs !== null && i + 1 < runs.length; i += 2) {
      if (runs[i + 1] === 0 || runs[i] + runs[i + 1] > leg.chunkCount) {
        job.message = `Leg ${job.source} told a map that does not fit the pool`;
        job.waitUntilMs = leg.nowMs + BAD_MAP_MS;
        return "bad";
      }
      fetched.set(runs[i], runs[i + 1]);
    }
    if (message.sequence > 0 && message.sequence < leg.chunkCount) {
      this.#ask(message.sequence);
      return "more";
    }
    this.#fetched = null;
    return { legIndex: this.#legIndex, chunks: fetched };
  }

  #begin(legIndex: number): void {
    this.#legIndex = legIndex;
    this.#fetched = new SparseBitmap(this.#job.leg.chunkCount);
    this.#ask(0);
  }

  #ask(fromChunk: number): void {
    const { leg, pulls, sourceConnection, session } = this.#job;
    this.#requestId = pulls.nextRequestId();
    const message = leg.send(sourceConnection, MessageType.MAP_FETCH, this.#requestId).message;
    message.legIndex = this.#legIndex;
    message.sequence = fromChunk;
    // The news of this epoch may still be on its way to the source, and with it what the leg that it drops may lack.
    message.watermark = leg.record.epoch;
    message.resyncSession = session;
  }
}
