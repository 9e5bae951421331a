/**
 * Writes twin records over a block store: the first copy durable, then the second, then done.
 *
 * Writes to one offset follow one another. Those that wait for an earlier one are joined: only the newest content is
 * written, and all their tokens complete with it. (A metadata block always holds the whole record, so the newest says
 * all that the older ones said, as of later.)
 *
 * If a copy could not be written, its content is unknown and the other copy is the only good one; so the next write of
 * that record begins with the bad copy.
 *
 * Blocks wait in memory when all slots are taken; how many can wait is bounded by the caller, who has a bounded number
 * of records.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { BLOCK_BYTES } from "../disk_format/records.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { BlockStore, BlockStoreHandler, MetadataStore, MetadataStoreHandler } from "./block_store.ts";

/** How a {@link TwinMetadataStore} is made. */
export interface TwinMetadataStoreOptions {
  readonly pool: BufferPool;
  readonly handler: MetadataStoreHandler;
  /** Records written at once, each through a 4 KiB slot of the pool. */
  readonly slotCount?: number;
}

/** A record being written, or waiting to be. */
interface RecordWrite {
  readonly offset: number;
  /** Slot while it is being written, -1 before. */
  slotIndex: number;
  /** Copies written so far in this round: 0 or 1. */
  copiesDone: number;
  /** The copy (0 or 1) that this round begins with. */
  firstCopy: number;
  /** Tokens that complete with the write under way. */
  tokens: number[];
  /** Content and tokens of the next write; null when none waits. */
  nextBlock: Uint8Array | null;
  nextTokens: number[];
}

/** The metadata of one leg. It is the handler of the block store given to {@link attach}. */
export class TwinMetadataStore implements MetadataStore, BlockStoreHandler {
  readonly #pool: BufferPool;
  readonly #handler: MetadataStoreHandler;
  #blocks: BlockStore | null = null;
  /** By offset: records with a write under way or waiting. */
  readonly #records = new Map<number, RecordWrite>();
  /** By offset: the copy whose last write failed. */
  readonly #badCopies = new Map<number, number>();
  /** Pool slots; the index into this array is the token of the block store. */
  readonly #slots: number[] = [];
  readonly #writing: (RecordWrite | null)[] = [];
  readonly #freeSlots: number[] = [];
  /** Records that wait for a slot, oldest first. */
  readonly #waiting: RecordWrite[] = [];
  readonly #spareBlocks: Uint8Array[] = [];

  constructor(options: TwinMetadataStoreOptions) {
    this.#pool = options.pool;
    this.#handler = options.handler;
    const slotCount = options.slotCount ?? 32;
    for (let i = 0; i < slotCount; i++) {
      const slot = options.pool.allocate(BLOCK_BYTES);
      assert(slot >= 0, "The pool has room for metadata blocks", slotCount);
      this.#slots.push(slot);
      this.#writing.push(null);
      this.#freeSlots.push(i);
    }
  }

  /** Tells where to write. Once, before the first write. */
  attach(blocks: BlockStore): void {
    assert(this.#blocks === null, "A metadata store is attached once");
    this.#blocks = blocks;
  }

  /** Records being written or waiting. */
  get pendingCount(): number {
    return this.#records.size;
  }

  writeTwin(token: number, offset: number, block: Uint8Array): void {
    assert(block.length === BLOCK_BYTES, "A metadata block has 4096 bytes", block.length);
    assert(offset % BLOCK_BYTES === 0, "A record's offset is a multiple of 4096", offset);
    let record = this.#records.get(offset);
    if (record === undefined) {
      record = {
        offset,
        slotIndex: -1,
        copiesDone: 0,
        firstCopy: 0,
        tokens: [],
        nextBlock: null,
        nextTokens: [],
      };
      this.#records.set(offset, record);
      this.#waiting.push(record);
    }
    record.nextBlock ??= this.#spareBlocks.pop() ?? new Uint8Array(BLOCK_BYTES);
    record.nextBlock.set(block);
    record.nextTokens.push(token);
    this.#startWaiting();
  }

  onBlockDone(slotIndex: number, result: number): void {
    const record = this.#writing[slotIndex];
    assert(record !== null, "A completed write was begun", slotIndex);
    const copy = record.firstCopy ^ record.copiesDone;
    if (result < 0) {
      this.#badCopies.set(record.offset, copy);
      this.#finish(record, result);
    } else if (record.copiesDone === 0) {
      record.copiesDone = 1;
      this.#writeCopy(record);
    } else {
      this.#badCopies.delete(record.offset);
      this.#finish(record, 0);
    }
  }

  /** Gives the slots back. Only when nothing is pending. */
  close(): void {
    assert(this.#records.size === 0, "No record is being written at close", this.#records.size);
    for (const slot of this.#slots) this.#pool.free(slot);
    this.#slots.length = 0;
    this.#blocks?.close();
  }

  #startWaiting(): void {
    while (this.#waiting.length > 0 && this.#freeSlots.length > 0) {
      const record = this.#waiting.shift()!;
      const block = record.nextBlock!;
      record.slotIndex = this.#freeSlots.pop()!;
      this.#writing[record.slotIndex] = record;
      this.#pool.bytes(this.#slots[record.slotIndex]).set(block);
      this.#spareBlocks.push(block);
      record.nextBlock = null;
      const finished = record.tokens;
      record.tokens = record.nextTokens;
      record.nextTokens = finished;
      record.copiesDone = 0;
      record.firstCopy = this.#badCopies.get(record.offset) ?? 0;
      this.#writeCopy(record);
    }
  }

  #writeCopy(record: RecordWrite): void {
    const copy = record.firstCopy ^ record.copiesDone;
    assert(this.#blocks !== null, "The metadata store is attached");
    this.#blocks.write(
      record.slotIndex,
      this.#slots[record.slotIndex],
      BLOCK_BYTES,
      record.offset + copy * BLOCK_BYTES,
      true,
    );
  }

  #finish(record: RecordWrite, result: number): void {
    this.#writing[record.slotIndex] = null;
    this.#freeSlots.push(record.slotIndex);
    record.slotIndex = -1;
    const tokens = record.tokens;
    record.tokens = [];
    if (record.nextBlock === null) this.#records.delete(record.offset);
    else this.#waiting.push(record);
    this.#startWaiting();
    for (const token of tokens) this.#handler.onMetadataDone(token, result);
  }
}
