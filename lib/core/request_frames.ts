/**
 * The frames by which requests go to the legs, and which leg a read goes to.
 *
 * @module
 */

import { type Message, MessageFlag, MessageType } from "../wire/message.ts";
import type { ClientContext, LegLink } from "./client_context.ts";
import { FRESH_PAYLOAD } from "./output.ts";
import { RequestFlag, RequestKind } from "./request_kind.ts";
import type { RequestTable } from "./request_table.ts";
import { indicesOf } from "./start_rule.ts";

const MESSAGE_TYPE = [MessageType.READ, MessageType.WRITE, MessageType.WRITE_ZEROES, MessageType.DISCARD];
/** Answers that say nothing about the disk: the leg is not (any more) in the state to answer, or was asked nonsense. */
const ESTALE = -116;
const EINVAL = -22;
const EAGAIN = -11;

/** Whether a read was answered so because the leg's disk could not read the place. */
export function isUnreadable(status: number): boolean {
  return status < 0 && status !== ESTALE && status !== EINVAL && status !== EAGAIN;
}

/** Whether requests of this kind change data. */
export function isWriteKind(kind: number): boolean {
  return kind === RequestKind.WRITE || kind === RequestKind.WRITE_ZEROES || kind === RequestKind.DISCARD;
}

/** The write-back of a read is over; legs that failed it as well have been dropped. */
export function noteRepaired(pool: ClientContext, requests: RequestTable, request: number): void {
  for (const index of indicesOf(requests.unreadableMask[request] & pool.inSyncMask & ~pool.lostMask)) {
    const link = pool.links[index] as LegLink;
    link.repairedBytes += requests.lengthBytes[request];
    pool.counters.readRepairs++;
    const where = `${requests.lengthBytes[request]} bytes at ${requests.offset[request]}`;
    pool.event(
      "warning",
      "read-repaired",
      `${where} could not be read from leg ${index}; they are written anew`,
      index,
    );
  }
}

/** Sends a write, write-zeroes or discard to every active leg; one that takes no frames now gets it later. */
export function sendWrite(pool: ClientContext, requests: RequestTable, request: number): void {
  const active = pool.activeMask & ~pool.lostMask;
  requests.skipMask[request] = pool.configuredMask & ~active;
  for (let mask = active & ~pool.unreachableMask; mask !== 0; mask &= mask - 1) {
    sendWriteTo(pool, requests, request, pool.links[31 - Math.clz32(mask & -mask)] as LegLink, 0);
  }
}

/** Sends it to one leg. `moreFlags`: of {@link MessageFlag}. */
export function sendWriteTo(
  pool: ClientContext,
  requests: RequestTable,
  request: number,
  link: LegLink,
  moreFlags: number,
): void {
  const kind = requests.kind[request];
  const output = pool.send(link, MESSAGE_TYPE[kind], requests.requestId(request));
  const message = output.message;
  message.flags = moreFlags;
  if ((requests.flags[request] & RequestFlag.FUA) !== 0) message.flags |= MessageFlag.FUA;
  if ((requests.flags[request] & RequestFlag.NO_HOLE) !== 0) message.flags |= MessageFlag.NO_HOLE;
  message.sequence = requests.sequence[request];
  message.offset = requests.offset[request];
  message.length = requests.lengthBytes[request];
  message.mask = requests.skipMask[request];
  if (kind !== RequestKind.WRITE) return;
  message.payloadLength = requests.lengthBytes[request];
  output.slot = requests.slot[request];
  output.tag = requests.tag[request];
  if (requests.isRepair[request] === 1) output.flags = FRESH_PAYLOAD;
}

/** Sends a flush to every active leg; one that takes no frames now gets it later. */
export function sendFlush(pool: ClientContext, requests: RequestTable, request: number): void {
  for (let mask = pool.activeMask & ~pool.lostMask & ~pool.unreachableMask; mask !== 0; mask &= mask - 1) {
    sendFlushTo(pool, requests, request, pool.links[31 - Math.clz32(mask & -mask)] as LegLink);
  }
}

/** Sends it to one leg. */
export function sendFlushTo(pool: ClientContext, requests: RequestTable, request: number, link: LegLink): void {
  pool.send(link, MessageType.FLUSH, requests.requestId(request)).message.sequence = requests.sequence[request];
}

/** Tells every active leg the watermark, when no other frame may be about to. */
export function tellWatermark(pool: ClientContext): void {
  for (const index of indicesOf(pool.activeMask & ~pool.lostMask & ~pool.unreachableMask)) {
    pool.send(pool.links[index] as LegLink, MessageType.PING, 0);
  }
}

/** Has the legs of `legMask` hash the range of a request; those that take no frames now are asked later. */
export function sendHash(pool: ClientContext, requests: RequestTable, request: number, legMask: number): void {
  for (let mask = legMask & ~pool.unreachableMask; mask !== 0; mask &= mask - 1) {
    sendHashTo(pool, requests, request, pool.links[31 - Math.clz32(mask & -mask)] as LegLink);
  }
}

/** Asks one leg. */
export function sendHashTo(pool: ClientContext, requests: RequestTable, request: number, link: LegLink): void {
  const { message } = pool.send(link, MessageType.HASH, requests.requestId(request));
  message.offset = requests.offset[request];
  message.length = requests.lengthBytes[request];
}

/** Sends a read to one leg. */
export function sendRead(pool: ClientContext, requests: RequestTable, request: number, link: LegLink): void {
  link.readsInFlight++;
  requests.readLeg[request] = link.legIndex;
  requests.readConnection[request] = link.connection;
  const message: Message = pool.send(link, MessageType.READ, requests.requestId(request)).message;
  message.offset = requests.offset[request];
  message.length = requests.lengthBytes[request];
}

/** The usable leg with the fewest reads in flight, the first of equals counted from `firstIndex`; null when there is none. */
export function chooseReader(pool: ClientContext, triedMask: number, firstIndex: number): LegLink | null {
  const usable = ~triedMask & ~pool.lostMask;
  let candidates = pool.inSyncMask & usable;
  // A leg under resync fetches what it lacks before it answers.
  if (candidates === 0) candidates = pool.activeMask & usable;
  let best: LegLink | null = null;
  for (let step = 0; step < 8; step++) {
    const index = (firstIndex + step) & 7;
    if ((candidates & (1 << index)) === 0) continue;
    const link = pool.links[index];
    if (link !== null && link.state === "claimed" && (best === null || link.readsInFlight < best.readsInFlight)) {
      best = link;
    }
  }
  return best;
}

/** Whether the pool can do such a request at all. */
export function isInRange(pool: ClientContext, kind: number, offset: number, lengthBytes: number): boolean {
  const { options } = pool;
  const block = options.logicalBlockBytes;
  const hasPayload = kind === RequestKind.READ || kind === RequestKind.WRITE;
  const most = hasPayload ? pool.maxPayloadBytes : pool.maxRangeBytes;
  return lengthBytes > 0 && lengthBytes <= most && offset >= 0 && offset % block === 0 && lengthBytes % block === 0 &&
    offset + lengthBytes <= options.sizeBytes;
}
