/**
 * What has to be on stable storage before a record of a leg's may be written. Records wait for it, all of them, in order.
 *
 * @module
 */

import type { LegContext } from "./leg_context.ts";
import type { LegIo } from "./leg_io.ts";
import { type LegMetadata, PURPOSE_NOBODY_WAITS } from "./leg_metadata.ts";

/** Those of one leg. */
export class RecordConditions {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #io: LegIo;
  /** A record will not be written, because what had to come first has failed. */
  readonly #refuse: (purpose: number, result: number) => void;
  /** The flush that records wait for, -1 for none; and whether another must follow it. */
  #flush = -1;
  #flushAgain = false;
  /** They wait for pages. */
  #arePagesDue = false;

  constructor(
    leg: LegContext,
    metadata: LegMetadata,
    io: LegIo,
    refuse: (purpose: number, result: number) => void,
  ) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#io = io;
    this.#refuse = refuse;
  }

  /**
   * Once a record that takes a member out of the set has landed here, confirmed or not, nobody asks that member for what was acked with it.
   * So all that is on stable storage here first.
   */
  flushFirst(): void {
    this.#metadata.holdRecords();
    if (this.#flush >= 0) this.#flushAgain = true;
    else this.#flush = this.#io.flushSession();
  }

  /** Pages that may be on the disk must not come to count by a record before they say what is true. */
  savePagesFirst(): void {
    this.#metadata.holdRecords();
    this.#arePagesDue = true;
  }

  /** A flush outside any request has ended. Returns whether it was one of these. */
  flushed(operation: number, result: number): boolean {
    if (operation !== this.#flush) return false;
    this.#flush = result === 0 && this.#flushAgain ? this.#io.flushSession() : -1;
    this.#flushAgain = false;
    if (this.#flush >= 0 || (result === 0 && this.#arePagesDue)) return true;
    this.#release(result);
    if (result < 0) this.#takeBack();
    if (this.#arePagesDue) this.#metadata.holdRecords();
    return true;
  }

  /**
   * What a record would have vouched for may be gone. It is taken back, and is not written with the next claim either: others, whom it would have
   * given up, are asked first.
   */
  #takeBack(): void {
    if (this.#leg.returnTo(this.#metadata.begunRecord)) this.savePagesFirst();
    this.#metadata.writeRecord(PURPOSE_NOBODY_WAITS);
  }

  /** Goes on with pages. */
  advance(): void {
    if (!this.#arePagesDue) return;
    this.#metadata.savePages();
    if (this.#leg.maps.some((map) => map !== null && !map.isCheckpointDone)) return;
    this.#arePagesDue = false;
    if (this.#flush < 0) this.#release(0);
  }

  /** A page could not be saved that they wait for: those that wait will not be written. Later ones wait anew. */
  pageFailed(result: number): void {
    if (!this.#arePagesDue) return;
    this.#release(result);
    this.#metadata.holdRecords();
  }

  #release(result: number): void {
    for (const purpose of this.#metadata.releaseRecords()) {
      if (result < 0) this.#refuse(purpose, result);
      else this.#metadata.writeRecord(purpose);
    }
  }
}
