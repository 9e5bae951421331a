/**
 * Pulling: runs of `todo` are asked of the source and written when they arrive, if the client has not overwritten part of them
 * meanwhile. In mode "reconcile" a run is compared by hash first, and only chunks that differ are pulled.
 *
 * @module
 */

import { type Message, MessageType } from "../wire/message.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";
import { PullState } from "./pull_table.ts";
import type { ResyncJob } from "./resync_job.ts";

const EAGAIN = -11;
/** Answers that say nothing about the source's disk. */
const ESTALE = -116;
const EINVAL = -22;
/** How long to leave a source alone that said "not yet". */
export const AGAIN_MS = 5;
/** First pause before chunks that could not be read are tried again; doubles up to the second. */
const RETRY_FAILED_MS = 1000;
const RETRY_FAILED_MOST_MS = 30_000;

/** The pulls of one leg's resync. */
export class ResyncPull {
  readonly #job: ResyncJob;
  #cursor = 0;
  #retryFailedMs = RETRY_FAILED_MS;
  #retryFailedAtMs = 0;

  constructor(job: ResyncJob) {
    this.#job = job;
  }

  /** A new resync begins. */
  begin(): void {
    this.#cursor = 0;
    this.#retryFailedMs = RETRY_FAILED_MS;
  }

  /** Whether chunks that could not be read are to be tried again now, best from another source. */
  get isRetryDue(): boolean {
    return this.#job.failed.count > 0 && this.#job.leg.nowMs >= this.#retryFailedAtMs;
  }

  /** Pulls, ahead of all others, the chunks that an operation of the client waits for. */
  pullUrgent(offset: number, lengthBytes: number): void {
    const { leg, todo, busy, failed, links, pulls, source } = this.#job;
    const end = leg.chunkOf(offset) + leg.chunksOf(offset, lengthBytes);
    for (let chunk = todo.next(leg.chunkOf(offset)); chunk >= 0 && chunk < end; chunk = todo.next(chunk + 1)) {
      if (busy.test(chunk) || failed.test(chunk)) continue;
      if (!links.isUp(source) || !pulls.hasRoom) return;
      this.#ask(chunk, 1);
    }
  }

  /** Asks for as much as the throttle and the table allow. */
  pullMore(): void {
    const job = this.#job;
    const { leg, todo, busy, failed, throttle } = job;
    // The client waits for a reconciliation, so that is never paused.
    const isPaused = job.isPaused && job.mode === "dirty";
    if (isPaused || todo.count === 0 || leg.nowMs < job.waitUntilMs) return;
    const most = Math.max(1, Math.floor((leg.options.pullBytes ?? 131072) / leg.chunkBytes));
    let hasWrapped = false;
    while (job.links.isUp(job.source) && job.pulls.hasRoom) {
      const chunk = todo.next(this.#cursor);
      if (chunk < 0) {
        if (hasWrapped) return;
        hasWrapped = true;
        this.#cursor = 0;
        continue;
      }
      if (busy.test(chunk) || failed.test(chunk)) {
        // Pulls in flight sit in front of the cursor only after it has wrapped; step over them.
        this.#cursor = chunk + Math.max(1, busy.runLength(chunk, todo.bitCount));
        continue;
      }
      if (!throttle.mayStart(leg.nowMs)) return;
      const count = this.#runLength(chunk, most);
      throttle.spend(count * leg.chunkBytes);
      this.#ask(chunk, count);
      this.#cursor = chunk + count;
    }
  }

  /** PULL_DATA. Takes over `slot`. */
  handleData(message: Message, slot: number): void {
    const job = this.#job;
    const { leg, pulls, todo } = job;
    if (message.status === 0) {
      job.sourceForegroundBytes = message.sequence;
      job.sourceServiceUs = message.mask;
    }
    const pull = pulls.find(message.requestId);
    if (pull < 0 || pulls.state[pull] !== PullState.ASKED) {
      leg.freeSlot(slot);
      return;
    }
    const first = pulls.firstChunk[pull];
    const count = pulls.chunkCount[pull];
    if (message.status !== 0 || slot < 0 || message.payloadLength !== job.bytesOf(first, count)) {
      leg.freeSlot(slot);
      this.#giveUp(pull);
      this.#failed(first, count, message.status);
      return;
    }
    // Where the client has overwritten part of it since, that part is newer than what we hold, and what a former order is still
    // writing would land on it: such a run is asked again.
    const isWanted = todo.runLength(first, count) === count && !job.writing.any(first, count);
    const operation = isWanted
      ? leg.operations.allocate(OperationKind.RESYNC_WRITE, -1, first * leg.chunkBytes, message.payloadLength)
      : -1;
    if (operation < 0) {
      leg.freeSlot(slot);
      this.#giveUp(pull);
      this.#cursor = Math.min(this.#cursor, first);
      return;
    }
    job.progress.copied += message.payloadLength;
    leg.pulledSequence = Math.max(leg.pulledSequence, message.watermark);
    pulls.state[pull] = PullState.WRITING;
    job.writing.set(first, count);
    leg.operations.slot[operation] = slot;
    leg.operations.session[operation] = job.run;
    leg.operations.extra[operation] = pull;
    job.busyOperations++;
    const output = leg.outputs.push(OutputKind.DISK_WRITE);
    output.token = operation;
    output.slot = slot;
    output.offset = leg.operations.offset[operation];
    output.lengthBytes = message.payloadLength;
  }

  /** The write of pulled data has ended. Returns whether it is on the disk or of no interest any more. */
  written(operation: number, result: number): boolean {
    const job = this.#job;
    const { leg } = job;
    const isOurs = job.owns(operation);
    leg.freeSlot(leg.operations.slot[operation]);
    leg.operations.slot[operation] = -1;
    const pull = leg.operations.extra[operation];
    const first = leg.chunkOf(leg.operations.offset[operation]);
    const count = leg.chunksOf(leg.operations.offset[operation], leg.operations.lengthBytes[operation]);
    leg.operations.free(operation);
    job.writing.clear(first, count);
    if (!isOurs) return true;
    this.#giveUp(pull);
    if (result < 0) return false;
    job.todo.clear(first, count);
    job.differing.clear(first, count);
    if (job.mode === "dirty") job.markCleaned(first, count);
    return true;
  }

  /** HASH_DATA. */
  handleHashes(message: Message, words: Uint32Array | null): void {
    const { pulls } = this.#job;
    const pull = pulls.find(message.requestId);
    if (pull < 0 || pulls.state[pull] !== PullState.COMPARING) return;
    const first = pulls.firstChunk[pull];
    const count = pulls.chunkCount[pull];
    if (message.status !== 0 || words === null || words.length !== 2 * count) {
      // The operation that hashes our own data finds its pull gone and ends by itself.
      this.#giveUp(pull);
      this.#failed(first, count, message.status);
      return;
    }
    pulls.theirs[pull] = words;
    this.#maybeCompare(pull);
  }

  /** The read of our own data has ended. */
  ownRead(operation: number, result: number, slot: number): void {
    const job = this.#job;
    const { leg } = job;
    const isOurs = job.owns(operation);
    if (result < 0 || !isOurs) {
      leg.freeSlot(slot);
      leg.operations.slot[operation] = -1;
      const requestId = leg.operations.requestId[operation];
      leg.operations.free(operation);
      // Our own copy cannot be read: whatever it is, it differs.
      if (isOurs) this.#compared(requestId, null);
      return;
    }
    job.busyOperations++;
    leg.operations.slot[operation] = slot;
    leg.operations.state[operation] = OperationState.HASHING;
    const output = leg.outputs.push(OutputKind.HASH);
    output.token = operation;
    output.slot = slot;
    output.lengthBytes = leg.operations.lengthBytes[operation];
  }

  /** Our own data is hashed. */
  ownHashed(operation: number, words: Uint32Array): void {
    const job = this.#job;
    const { operations } = job.leg;
    const isOurs = job.owns(operation);
    job.busyOperations--;
    job.leg.freeSlot(operations.slot[operation]);
    operations.slot[operation] = -1;
    const requestId = operations.requestId[operation];
    operations.free(operation);
    if (isOurs) this.#compared(requestId, words);
  }

  /** Answers that are outstanding will not come, or are of no use. */
  giveUpAsked(): void {
    const { pulls, busy } = this.#job;
    pulls.forEachAsked((pull) => busy.clear(pulls.firstChunk[pull], pulls.chunkCount[pull]));
    pulls.clearAsked();
  }

  #runLength(chunk: number, most: number): number {
    const { todo, busy, failed, singles, differing } = this.#job;
    if (singles.test(chunk)) return 1;
    const isDiffering = differing.test(chunk);
    const count = todo.runLength(chunk, most);
    for (let i = 1; i < count; i++) {
      const isApart = busy.test(chunk + i) || failed.test(chunk + i) || singles.test(chunk + i);
      if (isApart || differing.test(chunk + i) !== isDiffering) return i;
    }
    return count;
  }

  #ask(chunk: number, count: number): void {
    const job = this.#job;
    const { leg, pulls } = job;
    const isCompare = job.mode === "reconcile" && !job.differing.test(chunk);
    const pull = pulls.allocate(chunk, count, isCompare ? PullState.COMPARING : PullState.ASKED);
    job.busy.set(chunk, count);
    const type = isCompare ? MessageType.HASH : MessageType.PULL;
    const message = leg.send(job.sourceConnection, type, pulls.requestId[pull]).message;
    message.offset = chunk * leg.chunkBytes;
    message.length = job.bytesOf(chunk, count);
    message.resyncSession = job.session;
    if (!isCompare) return;
    const operation = leg.operations.allocate(OperationKind.OWN_HASH, -1, message.offset, message.length);
    if (operation < 0) {
      this.#compared(pulls.requestId[pull], null);
      return;
    }
    leg.operations.session[operation] = job.run;
    leg.operations.requestId[operation] = pulls.requestId[pull];
    job.busyOperations++;
    const read = leg.outputs.push(OutputKind.DISK_READ);
    read.token = operation;
    read.offset = leg.operations.offset[operation];
    read.lengthBytes = leg.operations.lengthBytes[operation];
  }

  #giveUp(pull: number): void {
    const { pulls, busy } = this.#job;
    busy.clear(pulls.firstChunk[pull], pulls.chunkCount[pull]);
    pulls.free(pull);
  }

  #failed(first: number, count: number, status: number): void {
    const job = this.#job;
    const { leg } = job;
    if (status === EAGAIN) {
      job.waitUntilMs = leg.nowMs + AGAIN_MS;
      this.#cursor = Math.min(this.#cursor, first);
      return;
    }
    if (count > 1) {
      job.singles.set(first, count);
      return;
    }
    job.failed.set(first, count);
    if (status !== ESTALE && status !== EINVAL) job.unreadableLeg = job.source;
    this.#retryFailedAtMs = leg.nowMs + this.#retryFailedMs;
    this.#retryFailedMs = Math.min(RETRY_FAILED_MOST_MS, this.#retryFailedMs * 2);
    const firstAt = job.failed.next(0) * leg.chunkBytes;
    job.message = `${job.failed.count * leg.chunkBytes} bytes, the first at ${firstAt}, could not be read from leg ` +
      `${job.source} (${status})`;
    leg.event("warning", "resync-chunk-failed", job.message, job.source);
  }

  #compared(requestId: number, words: Uint32Array | null): void {
    const { pulls } = this.#job;
    const pull = pulls.find(requestId);
    if (pull < 0 || pulls.state[pull] !== PullState.COMPARING) return;
    pulls.ours[pull] = words ?? new Uint32Array(0);
    this.#maybeCompare(pull);
  }

  #maybeCompare(pull: number): void {
    const job = this.#job;
    const ours = job.pulls.ours[pull];
    const theirs = job.pulls.theirs[pull];
    if (ours === null || theirs === null) return;
    const first = job.pulls.firstChunk[pull];
    const count = job.pulls.chunkCount[pull];
    this.#giveUp(pull);
    for (let i = 0; i < count; i++) {
      const isEqual = ours.length === theirs.length && ours[2 * i] === theirs[2 * i] &&
        ours[2 * i + 1] === theirs[2 * i + 1];
      if (isEqual) {
        job.todo.clear(first + i, 1);
        job.progress.skipped += job.leg.chunkBytes;
      } else job.differing.set(first + i, 1);
    }
  }
}
