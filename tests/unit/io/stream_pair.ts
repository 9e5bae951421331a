/** Two streams over one connection, for tests: a simple framed protocol that keeps what it sees. */

import assert from "node:assert/strict";
import { newSocketPair, setSocketOption, SocketOption } from "../../../ffi/libc/socket.ts";
import { ConnectAttempt } from "../../../lib/io/connect_attempt.ts";
import { ListenSocket } from "../../../lib/io/listen_socket.ts";
import type { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import type { StreamProtocol } from "../../../lib/io/stream_socket.ts";
import type { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { UringStreamSocket } from "../../../lib/io/uring_stream_socket.ts";
import { turnUntil } from "./turn_until.ts";

export const HEADER_BYTES = 16;

/** Frames of `number u32 | payload length u32 | 8 bytes of 0xaa`, then a payload whose bytes follow from the number. */
export class FrameProtocol implements StreamProtocol {
  stream!: UringStreamSocket;
  readonly received: { number: number; lengthBytes: number }[] = [];
  readonly sent: { token: number; result: number }[] = [];
  closedWith: number | null = null;
  closedCount = 0;
  /** Frames that may be taken before reading stops; Infinity for all. */
  budget = Infinity;
  readonly #pool: SlabBufferPool;
  readonly #slot: number;
  #number = 0;
  #lengthBytes = 0;
  onFrame: (() => void) | null = null;

  constructor(pool: SlabBufferPool) {
    this.#pool = pool;
    this.#slot = pool.allocate(1 << 20);
    assert.ok(this.#slot >= 0);
  }

  onBytes(staging: Uint8Array, view: DataView, start: number, end: number): number {
    assert.equal(this.closedWith, null, "no bytes after the end");
    if (end - start < HEADER_BYTES) return 0;
    if (this.budget === 0) return -1;
    this.budget--;
    this.#number = view.getUint32(start, true);
    this.#lengthBytes = view.getUint32(start + 4, true);
    for (let i = 8; i < HEADER_BYTES; i++) assert.equal(staging[start + i], 0xaa, "a header where one should be");
    if (this.#lengthBytes > 0) {
      this.stream.expectPayload(this.#pool.bytes(this.#slot), this.#pool.address(this.#slot), this.#lengthBytes);
    } else {
      this.#take();
    }
    return HEADER_BYTES;
  }

  onPayload(): void {
    const bytes = this.#pool.bytes(this.#slot);
    for (let i = 0; i < this.#lengthBytes; i++) {
      if (bytes[i] !== payloadByte(this.#number, i)) assert.fail(`frame ${this.#number}, byte ${i}`);
    }
    this.#take();
  }

  #take(): void {
    this.received.push({ number: this.#number, lengthBytes: this.#lengthBytes });
    this.onFrame?.();
  }

  onSent(token: number, result: number): void {
    assert.equal(this.closedWith, null, "tokens come back before the end");
    this.sent.push({ token, result });
  }

  onClosed(reason: number): void {
    this.closedWith = reason;
    this.closedCount++;
  }

  /** Queues a frame. `slot` must hold its payload (see {@link fillPayload}). False when there was no room. */
  sendFrame(number: number, lengthBytes: number, slot: number, token: number): boolean {
    if (!this.stream.canSend) return false;
    const at = this.stream.reserve(HEADER_BYTES);
    assert.ok(at >= 0, "canSend promised room for a header");
    this.stream.sendView.setUint32(at, number, true);
    this.stream.sendView.setUint32(at + 4, lengthBytes, true);
    this.stream.sendBytes.fill(0xaa, at + 8, at + HEADER_BYTES);
    if (lengthBytes > 0) {
      const queued = this.stream.queuePayload(this.#pool.bytes(slot), this.#pool.address(slot), lengthBytes, token);
      assert.ok(queued, "canSend promised room for a payload");
    }
    return true;
  }
}

function payloadByte(number: number, index: number): number {
  return (number * 31 + index * 7 + (index >> 8)) & 255;
}

/** Fills a slot with the payload of frame `number`. */
export function fillPayload(bytes: Uint8Array, number: number, lengthBytes: number): void {
  for (let i = 0; i < lengthBytes; i++) bytes[i] = payloadByte(number, i);
}

export interface PairOptions {
  readonly kind: "unix" | "tcp";
  /** Small socket buffers, so that sends and receives are partial. */
  readonly tiny?: boolean;
  readonly stagingBytes?: number;
  readonly sendAreaBytes?: number;
  readonly copyLimitBytes?: number;
}

/** Connected descriptors. */
export function connectedSockets(reactor: UringReactor, kind: "unix" | "tcp"): [number, number] {
  if (kind === "unix") {
    const pair = newSocketPair();
    assert.ok(typeof pair !== "number");
    return pair;
  }
  const listener = ListenSocket.open("127.0.0.1:0");
  let accepted = -1;
  let connected = -1;
  listener.start(reactor, { onAccepted: (socket) => accepted = socket });
  new ConnectAttempt(reactor, listener.boundAddress, {
    onConnected: (socket) => connected = socket,
    onConnectFailed: (result) => assert.fail(`connect: ${result}`),
  });
  turnUntil(reactor, () => accepted >= 0 && connected >= 0, "a connection");
  listener.close();
  turnUntil(reactor, () => reactor.inFlightCount === 0, "the listener is closed");
  return [accepted, connected];
}

/** Two protocols whose streams are connected to each other. */
export function streamPair(
  reactor: UringReactor,
  pool: SlabBufferPool,
  options: PairOptions,
): [FrameProtocol, FrameProtocol] {
  const sockets = connectedSockets(reactor, options.kind);
  const protocols: [FrameProtocol, FrameProtocol] = [new FrameProtocol(pool), new FrameProtocol(pool)];
  protocols.forEach((protocol, i) => {
    if (options.tiny) {
      // TCP with a window below a segment would wait for its timers all the time.
      setSocketOption(sockets[i], SocketOption.SEND_BUFFER, options.kind === "tcp" ? 8192 : 1);
      setSocketOption(sockets[i], SocketOption.RECEIVE_BUFFER, options.kind === "tcp" ? 65536 : 1);
    }
    protocol.stream = new UringStreamSocket({ reactor, socket: sockets[i], protocol, ...options });
  });
  return protocols;
}
