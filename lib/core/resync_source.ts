/**
 * What a leg does for a peer that resyncs from it: tells the dirty map, reads, hashes, and clears on the peer's word.
 *
 * Everything is answered only within a resync session that the client has announced here by JOIN. As frames of one connection
 * arrive in order, having seen JOIN means having seen every write that skipped the peer: the map is complete, and
 * a read that waits for overlapping writes in flight returns data that contains them.
 *
 * @module
 */

import { type Message, MessageType } from "../wire/message.ts";
import { runsFrom } from "./chunk_runs.ts";
import type { DirtyMap } from "./dirty_map.ts";
import type { LegContext } from "./leg_context.ts";
import { OperationKind, OperationState } from "./operation_table.ts";
import { OutputKind } from "./output.ts";

const EAGAIN = -11;
const EINVAL = -22;
const ESTALE = -116;
const NO_RUNS = { runs: new Uint32Array(0), next: -1 };

/** The source side of resync. */
export class ResyncSource {
  readonly #leg: LegContext;
  /** Reads that wait for writes in flight on their range. */
  readonly #waiting: number[] = [];

  constructor(leg: LegContext) {
    this.#leg = leg;
  }

  /** MAP_FETCH, PULL, HASH, CLEAR from a peer. */
  handleMessage(connection: number, message: Message, body: unknown): void {
    const refusal = this.#refusal(connection, message);
    if (message.type === MessageType.CLEAR) this.#clear(connection, message, body as Uint32Array, refusal);
    else if (message.type === MessageType.MAP_FETCH) this.#tellMap(connection, message, refusal);
    else this.#read(connection, message, refusal);
  }

  /** The read of a PULL or PEER_HASH has ended. */
  diskDone(operation: number, result: number, slot: number): void {
    const leg = this.#leg;
    const operations = leg.operations;
    const connection = operations.connection[operation];
    operations.slot[operation] = -1;
    const isPull = operations.kind[operation] === OperationKind.PULL;
    if (!leg.peers.has(connection)) {
      leg.freeSlot(slot);
      operations.free(operation);
      return;
    }
    if (result < 0) {
      leg.freeSlot(slot);
      this.#answer(operation, isPull ? MessageType.PULL_DATA : MessageType.HASH_DATA, result);
      operations.free(operation);
      return;
    }
    if (!isPull) {
      operations.state[operation] = OperationState.HASHING;
      operations.slot[operation] = slot;
      const output = leg.outputs.push(OutputKind.HASH);
      output.token = operation;
      output.slot = slot;
      output.lengthBytes = operations.lengthBytes[operation];
      return;
    }
    const answer = this.#answer(operation, MessageType.PULL_DATA, 0);
    answer.slot = slot;
    answer.freeAfterSend = true;
    answer.message.payloadLength = operations.lengthBytes[operation];
    leg.counters.pullsServed++;
    operations.free(operation);
  }

  /** Hashes for a peer are computed. */
  hashed(operation: number, words: Uint32Array): void {
    const leg = this.#leg;
    leg.freeSlot(leg.operations.slot[operation]);
    leg.operations.slot[operation] = -1;
    if (leg.peers.has(leg.operations.connection[operation])) {
      this.#answer(operation, MessageType.HASH_DATA, 0).body = words;
    }
    leg.operations.free(operation);
  }

  /** Writes have ended: waiting reads may go. */
  retryWaiting(): void {
    if (this.#waiting.length === 0) return;
    const operations = this.#leg.operations;
    for (const operation of this.#waiting.splice(0)) {
      const peer = this.#leg.peers.get(operations.connection[operation]);
      if (peer === undefined) operations.free(operation);
      else if (this.#leg.joins[peer.legIndex] !== operations.session[operation]) {
        const isPull = operations.kind[operation] === OperationKind.PULL;
        this.#answer(operation, isPull ? MessageType.PULL_DATA : MessageType.HASH_DATA, ESTALE);
        operations.free(operation);
      } else if (this.#leg.writesInFlight.any(operations.offset[operation], operations.lengthBytes[operation])) {
        this.#waiting.push(operation);
      } else this.#submit(operation);
    }
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  #refusal(connection: number, message: Message): number {
    const leg = this.#leg;
    const peer = leg.peers.get(connection);
    if (peer === undefined || peer.role !== "peer") return EINVAL;
    if (!leg.isMember) return leg.isInSync ? EAGAIN : ESTALE;
    if (message.resyncSession === 0 || leg.joins[peer.legIndex] !== message.resyncSession) return EAGAIN;
    return 0;
  }

  #tellMap(connection: number, message: Message, refusal: number): void {
    const leg = this.#leg;
    const answer = leg.send(connection, MessageType.MAP_PART, message.requestId, refusal);
    answer.message.legIndex = message.legIndex;
    answer.message.resyncSession = message.resyncSession;
    if (refusal !== 0) return;
    // What a leg that drops out may lack is in the map from the epoch on that drops it.
    if (message.watermark > leg.record.epoch) {
      answer.message.status = EAGAIN;
      return;
    }
    const bits = leg.maps[message.legIndex]?.bits;
    const part = bits === undefined ? NO_RUNS : runsFrom(bits, message.sequence);
    answer.message.sequence = part.next < 0 ? 0 : part.next;
    answer.body = part.runs;
  }

  #read(connection: number, message: Message, refusal: number): void {
    const leg = this.#leg;
    const isPull = message.type === MessageType.PULL;
    const answerType = isPull ? MessageType.PULL_DATA : MessageType.HASH_DATA;
    let status = refusal;
    let operation = -1;
    if (status === 0) {
      const isInRange = message.length > 0 && message.offset % leg.chunkBytes === 0 &&
        message.offset + message.length <= leg.superblock.sizeBytes && message.length <= 1 << 20 &&
        message.length % leg.superblock.logicalBlockBytes === 0;
      if (!isInRange) status = EINVAL;
      else {
        const kind = isPull ? OperationKind.PULL : OperationKind.PEER_HASH;
        // A peer never crowds out the client: half of the table is the client's.
        operation = leg.operations.count > leg.creditRequests + 128
          ? -1
          : leg.operations.allocate(kind, connection, message.offset, message.length);
        if (operation < 0) status = EAGAIN;
      }
    }
    if (status !== 0) {
      const answer = leg.send(connection, answerType, message.requestId, status);
      answer.message.resyncSession = message.resyncSession;
      return;
    }
    leg.operations.requestId[operation] = message.requestId;
    leg.operations.session[operation] = message.resyncSession;
    if (leg.writesInFlight.any(message.offset, message.length)) {
      leg.operations.state[operation] = OperationState.WAIT_WRITES;
      this.#waiting.push(operation);
    } else this.#submit(operation);
  }

  #submit(operation: number): void {
    const operations = this.#leg.operations;
    operations.state[operation] = OperationState.DISK;
    const output = this.#leg.outputs.push(OutputKind.DISK_READ);
    output.token = operation;
    output.offset = operations.offset[operation];
    output.lengthBytes = operations.lengthBytes[operation];
  }

  /**
   * What was pulled may hold a write that is not complete: one that the peer's source had, and the peer itself need not have got yet.
   * If the session ends now, such a write may be known to nobody who is left: so what is not in our own intent log by now stays in the map.
   */
  #clear(connection: number, message: Message, runs: Uint32Array, refusal: number): void {
    const leg = this.#leg;
    let status = refusal;
    const peer = leg.peers.get(connection);
    const mayHoldMore = message.watermark > leg.receivedSequence;
    const map = peer === undefined || mayHoldMore ? null : leg.maps[peer.legIndex];
    if (status === 0 && map !== null) {
      for (let i = 0; i + 1 < runs.length; i += 2) {
        if (runs[i + 1] === 0 || runs[i] + runs[i + 1] > leg.chunkCount) {
          status = EINVAL;
          break;
        }
        this.#clearRun(map, runs[i], runs[i + 1]);
      }
    } else if (status === EAGAIN) status = ESTALE;
    leg.send(connection, MessageType.ACK, message.requestId, status).message.resyncSession = message.resyncSession;
  }

  /** Clears chunks, but for those that a write in flight touches: its intent may not be durable. */
  #clearRun(map: DirtyMap, first: number, count: number): void {
    const { chunkBytes, writesInFlight } = this.#leg;
    if (!writesInFlight.any(first * chunkBytes, count * chunkBytes)) {
      map.clear(first, count);
      return;
    }
    for (let chunk = first; chunk < first + count; chunk++) {
      if (!writesInFlight.any(chunk * chunkBytes, chunkBytes)) map.clear(chunk, 1);
    }
  }

  #answer(operation: number, type: number, status: number) {
    const operations = this.#leg.operations;
    const answer = this.#leg.send(operations.connection[operation], type, operations.requestId[operation], status);
    answer.message.offset = operations.offset[operation];
    answer.message.length = operations.lengthBytes[operation];
    answer.message.resyncSession = operations.session[operation];
    answer.message.sequence = this.#leg.counters.readBytes + this.#leg.counters.writtenBytes;
    answer.message.mask = this.#leg.serviceTime.meanUs(this.#leg.nowMs);
    answer.message.watermark = Math.max(this.#leg.receivedSequence, this.#leg.pulledSequence);
    return answer;
  }
}
