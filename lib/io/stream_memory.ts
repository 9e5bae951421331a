/**
 * The memory of one stream socket: staging area, send area, and the iovecs and message header that sendmsg takes.
 *
 * Connections come and go but mappings live for the process, so memory is handed from a dead stream to the next one.
 *
 * @module
 */

import { mapAnonymous, pointerTo } from "../../ffi/libc/memory.ts";

/** Pieces (iovecs) that can be queued at once; a power of two, at most the kernel's UIO_MAXIOV of 1024. */
export const MAX_PIECES = 512;
/** Bytes of a `struct iovec`. */
export const IOVEC_BYTES = 16;
const MESSAGE_BYTES = 64;

/** Memory of one stream. LIFETIME: the process; the kernel uses it only while operations of its stream are in flight. */
export class StreamMemory {
  readonly staging: Uint8Array;
  readonly stagingView: DataView;
  readonly stagingAddress: number;
  readonly sendArea: Uint8Array;
  readonly sendAreaView: DataView;
  readonly sendAreaAddress: number;
  /** `struct iovec[MAX_PIECES]` as words: address low, address high, length, 0. */
  readonly iovecs: Uint32Array;
  readonly iovecsAddress: number;
  /** `struct msghdr` as words; zero but for msg_iov (word 4, 5) and msg_iovlen (word 6). */
  readonly message: Uint32Array;
  readonly messageAddress: number;
  /** The same, as calls take it. */
  readonly messagePointer: Deno.PointerValue;
  readonly #spares: StreamMemory[];

  constructor(stagingBytes: number, sendAreaBytes: number, spares: StreamMemory[]) {
    const iovecsAt = stagingBytes + sendAreaBytes;
    const messageAt = iovecsAt + MAX_PIECES * IOVEC_BYTES;
    const { address, buffer } = mapAnonymous(messageAt + MESSAGE_BYTES);
    this.staging = new Uint8Array(buffer, 0, stagingBytes);
    this.stagingView = new DataView(buffer, 0, stagingBytes);
    this.stagingAddress = address;
    this.sendArea = new Uint8Array(buffer, stagingBytes, sendAreaBytes);
    this.sendAreaView = new DataView(buffer, stagingBytes, sendAreaBytes);
    this.sendAreaAddress = address + stagingBytes;
    this.iovecs = new Uint32Array(buffer, iovecsAt, MAX_PIECES * 4);
    this.iovecsAddress = address + iovecsAt;
    this.message = new Uint32Array(buffer, messageAt, MESSAGE_BYTES / 4);
    this.messageAddress = address + messageAt;
    this.messagePointer = pointerTo(this.messageAddress);
    this.#spares = spares;
  }

  /** The stream is dead and nothing of it is in flight. */
  giveBack(): void {
    this.#spares.push(this);
  }
}

const sparesBySize = new Map<string, StreamMemory[]>();

/** Memory for a stream. Both sizes are multiples of 4096. */
export function takeStreamMemory(stagingBytes: number, sendAreaBytes: number): StreamMemory {
  if (!(stagingBytes > 0 && sendAreaBytes > 0) || stagingBytes % 4096 !== 0 || sendAreaBytes % 4096 !== 0) {
    throw new RangeError(`Areas of ${stagingBytes} and ${sendAreaBytes} bytes: give multiples of 4096`);
  }
  const key = `${stagingBytes} ${sendAreaBytes}`;
  let spares = sparesBySize.get(key);
  if (spares === undefined) sparesBySize.set(key, spares = []);
  return spares.pop() ?? new StreamMemory(stagingBytes, sendAreaBytes, spares);
}
