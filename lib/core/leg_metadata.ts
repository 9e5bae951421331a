/**
 * What a leg writes to its metadata area, and when: epoch records at once, intent blocks when a write waits for them, dirty pages
 * when the intent log needs room or the leg is idle. Tokens of metadata writes are separate from those of data I/O.
 *
 * A dirty page that could not be written stays unsaved. After such a failure no page is written before `retry`: a disk that fails,
 * or has no space, is not kept busy with it.
 *
 * @module
 */

import { PAGE_WORDS } from "../base/sparse_bitmap.ts";
import { encodeEpochRecord } from "../disk_format/epoch_record.ts";
import { encodeIntentBlock, INTENT_SLOTS_PER_BLOCK } from "../disk_format/intent_block.ts";
import { intentBlockOffset, mapPageOffset } from "../disk_format/layout.ts";
import { encodeMapPage } from "../disk_format/map_page.ts";
import { MAX_LEGS, type SharedEpoch } from "../disk_format/records.ts";
import type { DirtyMap } from "./dirty_map.ts";
import { FREE_SLOT } from "./intent_log.ts";
import type { LegContext } from "./leg_context.ts";
import { OutputKind } from "./output.ts";

/** Purpose of a record write that nobody waits for. */
export const PURPOSE_NOBODY_WAITS = -1;
/** The same, and all that is new is what the leg says of itself. */
export const PURPOSE_OWN = -2;

/** Dirty pages being written at one time. */
const PAGES_IN_FLIGHT = 8;

/** One metadata write under way. */
type Pending =
  | { readonly kind: "record"; readonly purpose: number; readonly mapResets: number; readonly serial: number }
  | { readonly kind: "intents"; readonly block: number }
  | {
    readonly kind: "page";
    readonly legIndex: number;
    readonly page: number;
    readonly map: DirtyMap;
    readonly life: number;
  };

/** What a finished metadata write means to the leg. */
export type MetadataDone =
  /** `isNews`: of a failure, whether it is the first since one was written. */
  | { readonly kind: "record"; readonly purpose: number; readonly result: number; readonly isNews: boolean }
  | { readonly kind: "intents"; readonly result: number }
  /** `isAwaited`: it is one of those that its map's checkpoint waits for. `isNews`: of a failure, whether it is the first since a page was saved. */
  | {
    readonly kind: "page";
    readonly result: number;
    readonly legIndex: number;
    readonly isAwaited: boolean;
    readonly isNews: boolean;
  };

/** The metadata writer of one leg. */
export class LegMetadata {
  readonly #leg: LegContext;
  readonly #pending = new Map<number, Pending>();
  readonly #words = new Uint32Array(PAGE_WORDS);
  readonly #identity: { poolUuid: string; legUuid: string };
  #sequence: number;
  #nextToken = 1;
  #pagesInFlight = 0;
  /** A page could not be written: no other is tried until {@link retry}. */
  #arePagesHeld = false;
  /** No page was saved since one could not be written. */
  #arePagesFailing = false;
  /** Purposes of record writes that wait for {@link releaseRecords}; null when none need to. */
  #heldRecords: number[] | null = null;
  /** Record writes begun, and the last of them that is on the disk. */
  #recordSerial = 0;
  #savedSerial = 0;
  /** The shared record whose write was begun last, and the resets of maps that go with it. */
  #begun: { readonly shared: SharedEpoch; readonly mapResets: number };
  /** No record was written since one could not be. */
  #areRecordsFailing = false;
  /** A record for which nobody waits could not be written. */
  #owesRecord = false;

  constructor(leg: LegContext) {
    this.#leg = leg;
    this.#sequence = leg.options.metadataSequence;
    this.#begun = { shared: leg.record, mapResets: leg.mapResets };
    this.#identity = { poolUuid: leg.superblock.poolUuid, legUuid: leg.superblock.legUuid };
  }

  /** Writes the leg's record as it is then, now or when it may. `purpose` comes back in {@link done}. */
  writeRecord(purpose: number): void {
    if (this.#heldRecords !== null) {
      this.#heldRecords.push(purpose);
      return;
    }
    this.#begun = { shared: this.#leg.record, mapResets: this.#leg.mapResets };
    this.#writeBegun(purpose);
  }

  /** Writes what the leg says of itself, beside the shared record that was begun last: one that is held, or was refused, is not told of. */
  writeOwn(): void {
    this.#writeBegun(PURPOSE_OWN);
  }

  #writeBegun(purpose: number): void {
    const leg = this.#leg;
    const { shared, mapResets } = this.#begun;
    const block = encodeEpochRecord({ ...leg.fullRecord, shared }, this.#identity, ++this.#sequence);
    const serial = ++this.#recordSerial;
    this.#write(leg.layout.epochOffset, block, { kind: "record", purpose, mapResets, serial });
  }

  /** The shared record whose write was begun last. */
  get begunRecord(): SharedEpoch {
    return this.#begun.shared;
  }

  /** Whether the leg's record is on its disk as it is. */
  get isRecordSaved(): boolean {
    return this.#heldRecords === null && this.#savedSerial === this.#recordSerial &&
      this.#begun.shared === this.#leg.record;
  }

  /** No record is written until {@link releaseRecords}: it says what is not true on the disk yet. */
  holdRecords(): void {
    this.#heldRecords ??= [];
  }

  /** Records may be written again. Returns the purposes of those that wait. */
  releaseRecords(): number[] {
    const held = this.#heldRecords ?? [];
    this.#heldRecords = null;
    return held;
  }

  /** Starts the intent block writes that additions wait for (with `lazy`, all that changed). */
  writeIntents(lazy: boolean): void {
    const leg = this.#leg;
    for (;;) {
      const block = leg.intents.nextBlockToWrite(lazy);
      if (block < 0) return;
      const slots = new Uint32Array(INTENT_SLOTS_PER_BLOCK).fill(FREE_SLOT);
      slots.set(leg.intents.beginWrite(block));
      const bytes = encodeIntentBlock({ blockIndex: block, slots }, this.#identity, ++this.#sequence);
      this.#write(intentBlockOffset(leg.layout, block), bytes, { kind: "intents", block });
    }
  }

  /** Pages may be written again, and so is a record for which nobody waits. Called from time to time. */
  retry(): void {
    this.#arePagesHeld = false;
    if (!this.#owesRecord) return;
    this.#owesRecord = false;
    this.writeOwn();
  }

  /** Saves dirty pages, as many as may be in flight. Returns whether any is unsaved or being saved. */
  savePages(): boolean {
    const leg = this.#leg;
    let unsaved = false;
    for (let index = 0; index < MAX_LEGS; index++) {
      const map = leg.mapAt(index);
      if (map === null || map.unsavedCount === 0) continue;
      unsaved = true;
      while (!this.#arePagesHeld && this.#pagesInFlight < PAGES_IN_FLIGHT) {
        const page = map.takeUnsaved();
        if (page < 0) break;
        map.bits.copyPage(page, this.#words);
        const bytes = encodeMapPage(
          { legIndex: index, page, mapIncarnation: map.incarnation, words: this.#words },
          this.#identity,
          ++this.#sequence,
        );
        this.#pagesInFlight++;
        this.#write(mapPageOffset(leg.layout, index, page), bytes, {
          kind: "page",
          legIndex: index,
          page,
          map,
          life: map.life,
        });
      }
    }
    return unsaved;
  }

  /** Metadata writes under way or waiting for one at the same place. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** A metadata write has ended. */
  done(token: number, result: number): MetadataDone | null {
    const pending = this.#pending.get(token);
    if (pending === undefined) return null;
    this.#pending.delete(token);
    if (pending.kind === "record") {
      if (result === 0) {
        this.#leg.savedMapResets = Math.max(this.#leg.savedMapResets, pending.mapResets);
        this.#savedSerial = Math.max(this.#savedSerial, pending.serial);
        if (pending.serial === this.#recordSerial) this.#owesRecord = false;
      } else if (pending.purpose < 0) this.#owesRecord = true;
      const isNews = result < 0 && !this.#areRecordsFailing;
      this.#areRecordsFailing = result < 0;
      return { kind: "record", purpose: pending.purpose, result, isNews };
    }
    if (pending.kind === "intents") {
      this.#leg.intents.endWrite(pending.block, result === 0);
      return { kind: "intents", result };
    }
    this.#pagesInFlight--;
    const { legIndex, page, map, life } = pending;
    const isAwaited = map.finishSave(page, life, result === 0);
    const isNews = result < 0 && !this.#arePagesFailing;
    this.#arePagesFailing = result < 0;
    if (result < 0) this.#arePagesHeld = true;
    return { kind: "page", result, legIndex, isAwaited, isNews };
  }

  #write(offset: number, block: Uint8Array, pending: Pending): void {
    const token = this.#nextToken++;
    this.#pending.set(token, pending);
    this.#leg.counters.metadataWrites++;
    const output = this.#leg.outputs.push(OutputKind.METADATA_WRITE);
    output.token = token;
    output.offset = offset;
    output.body = block;
  }
}
