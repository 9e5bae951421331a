/**
 * What has to be on stable storage before a record of a leg's may be written. Records wait for it, all of them, in order.
 *
 * @module
 */

import type { LegContext } from "./leg_context.ts";
import type { LegIo } from "./leg_io.ts";
import { type LegMetadata, PURPOSE_NOBODY_WAITS } from "./leg_metadata.ts";

const EIO = -5;

/** Those of one leg. */
export class RecordConditions {
  readonly #leg: LegContext;
  readonly #metadata: LegMetadata;
  readonly #io: LegIo;
  /** A record will not be written, because what had to come first has failed. */
  readonly #refuse: (purpose: number, result: number) => void;
  /** The record before is in force here again. */
  readonly #onTakenBack: () => void;
  /** The flush that records wait for, -1 for none; and whether another must follow it. */
  #flush = -1;
  #flushAgain = false;
  /** Flushes that had failed when it began: a disk tells of what it could not flush once, to whichever flush there is. */
  #failedBefore = 0;
  /** They wait for pages. */
  #arePagesDue = false;

  constructor(
    leg: LegContext,
    metadata: LegMetadata,
    io: LegIo,
    refuse: (purpose: number, result: number) => void,
    onTakenBack: () => void,
  ) {
    this.#leg = leg;
    this.#metadata = metadata;
    this.#io = io;
    this.#refuse = refuse;
    this.#onTakenBack = onTakenBack;
  }

  /**
   * Once a record that takes a member out of the set has landed here, confirmed or not, nobody asks that member for what was acked with it.
   * So all that is on stable storage here first.
   */
  flushFirst(): void {
    this.#metadata.holdRecords();
    if (this.#flush >= 0) {
      this.#flushAgain = true;
      return;
    }
    this.#failedBefore = this.#leg.failedFlushCount;
    this.#flush = this.#io.flushSession();
  }

  /** Pages that may be on the disk must not come to count by a record before they say what is true. */
  savePagesFirst(): void {
    this.#metadata.holdRecords();
    this.#arePagesDue = true;
  }

  /** A flush outside any request has ended. Returns whether it was one of these. */
  flushed(operation: number): boolean {
    if (operation !== this.#flush) return false;
    const hasFailed = this.#leg.failedFlushCount !== this.#failedBefore;
    this.#flush = !hasFailed && this.#flushAgain ? this.#io.flushSession() : -1;
    this.#flushAgain = false;
    if (this.#flush >= 0) return true;
    if (hasFailed) this.#takeBack(EIO);
    else if (!this.#arePagesDue) this.#release(0);
    return true;
  }

  /**
   * What has to come before a record has failed. So the record is taken back, in memory too, and is not written with the next claim either: others, whom
   * it would have given up, are asked first.
   */
  #takeBack(result: number): void {
    this.#release(result);
    this.#arePagesDue = false;
    if (this.#leg.returnTo(this.#metadata.begunRecord)) this.savePagesFirst();
    this.#metadata.writeRecord(PURPOSE_NOBODY_WAITS);
    this.#onTakenBack();
  }

  /** Goes on with pages. */
  advance(): void {
    if (!this.#arePagesDue) return;
    this.#metadata.savePages();
    if (this.#leg.maps.some((map) => map !== null && !map.isCheckpointDone)) return;
    this.#arePagesDue = false;
    if (this.#flush < 0) this.#release(0);
  }

  /** A page could not be saved that they wait for. */
  pageFailed(result: number): void {
    if (this.#arePagesDue && this.#flush < 0) this.#takeBack(result);
  }

  #release(result: number): void {
    for (const purpose of this.#metadata.releaseRecords()) {
      if (result < 0) this.#refuse(purpose, result);
      else this.#metadata.writeRecord(purpose);
    }
  }
}
