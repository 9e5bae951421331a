/**
 * Streams in memory: the double of real sockets under the TCP transport. Bytes move only in `step` and `run`, in pieces
 * as small as a test wants, and may be changed on their way.
 *
 * Keeps the contract of `StreamSocket` to the letter, also where a real socket is seldom seen doing it: short sends, full
 * send areas, payloads that arrive in pieces, streams that stop reading.
 *
 * @module
 */

import { assert } from "../../../lib/base/assert.ts";
import type { StreamProtocol } from "../../../lib/io/stream_socket.ts";
import type {
  AcceptStream,
  FrameStream,
  PendingConnect,
  StreamConnector,
  StreamListener,
  StreamNetwork,
} from "../../../lib/transport/stream_network.ts";

const ECANCELED = -125;
const ECONNREFUSED = -111;

export interface MemoryStreamOptions {
  /** Bytes of one send area, of which a stream has two. */
  readonly areaBytes?: number;
  /** Bytes that are received before they are parsed. */
  readonly stagingBytes?: number;
  /** Payloads up to this length are copied into the send area. */
  readonly copyBytes?: number;
  /** Pieces sent in place that may wait at once. */
  readonly maxPieces?: number;
}

/** A run of bytes to be sent: from the send area (token -1) or in place. */
interface Piece {
  bytes: Uint8Array;
  lengthBytes: number;
  token: number;
}

export class MemoryStreamNetwork implements StreamNetwork {
  nowMs = 0;
  /** Most bytes one step moves. */
  maxChunkBytes = Infinity;
  /** May change bytes on their way; gets a copy. */
  corrupt: ((bytes: Uint8Array, from: MemoryStream) => void) | null = null;
  readonly options: Required<MemoryStreamOptions>;
  readonly streams: MemoryStream[] = [];
  readonly #listeners = new Map<string, AcceptStream>();
  readonly #events: (() => void)[] = [];
  #nextPort = 40000;

  constructor(options: MemoryStreamOptions = {}) {
    this.options = { areaBytes: 16384, stagingBytes: 16384, copyBytes: 2048, maxPieces: 16, ...options };
  }

  listen(address: string, accept: AcceptStream): StreamListener {
    const boundAddress = address.replace(/:0$/, () => `:${this.#nextPort++}`);
    if (this.#listeners.has(boundAddress)) throw new Error(`Address "${boundAddress}" is in use`);
    this.#listeners.set(boundAddress, accept);
    return { boundAddress, close: () => void this.#listeners.delete(boundAddress) };
  }

  connect(address: string, connector: StreamConnector): PendingConnect {
    if (!/^.+:\d+$/.test(address)) throw new Error(`Address "${address}" is not of the form host:port`);
    let cancelled = false;
    this.later(() => {
      const accept = this.#listeners.get(address);
      if (cancelled) return connector.onConnectFailed(ECANCELED);
      if (accept === undefined) return connector.onConnectFailed(ECONNREFUSED);
      const near = new MemoryStream(this, connector.protocol);
      let far: MemoryStream | null = null;
      accept(`memory:${this.#nextPort++}`, (protocol) => far = new MemoryStream(this, protocol));
      near.peer = far;
      this.streams.push(near);
      if (far !== null) {
        (far as MemoryStream).peer = near;
        this.streams.push(far);
      }
      connector.onConnected(near);
      if (far === null) near.peerEnded(0);
    });
    return { cancel: () => void (cancelled = true) };
  }

  /** Runs `event` in a later step. */
  later(event: () => void): void {
    this.#events.push(event);
  }

  /** Does one thing that waits to be done. False when there is nothing. */
  step(): boolean {
    const event = this.#events.shift();
    if (event !== undefined) {
      event();
      return true;
    }
    for (const stream of this.streams) if (stream.step()) return true;
    return false;
  }

  /** Steps until nothing moves. */
  run(): void {
    let steps = 0;
    while (this.step()) assert(steps++ < 10_000_000, "The network comes to rest");
  }

  /** Ends both ends of a connection, as a reset does. */
  reset(stream: MemoryStream): void {
    stream.peer?.peerEnded(-104);
    stream.peerEnded(-104);
  }
}

export class MemoryStream implements FrameStream {
  lastReceivedMs = 0;
  peer: MemoryStream | null = null;
  readonly protocol: StreamProtocol;
  readonly #network: MemoryStreamNetwork;
  #area: Uint8Array;
  #view: DataView;
  #otherArea: Uint8Array;
  #otherView: DataView;
  #areaUsed = 0;
  #queued: Piece[] = [];
  #inPlaceCount = 0;
  #sending: Piece[] = [];
  #sentOfFirst = 0;
  readonly #staging: Uint8Array;
  readonly #stagingView: DataView;
  #start = 0;
  #end = 0;
  #expected: Uint8Array | null = null;
  #expectedBytes = 0;
  #arrivedBytes = 0;
  #inOnBytes = false;
  #stopped = false;
  #ended = false;
  #told = false;

  constructor(network: MemoryStreamNetwork, protocol: StreamProtocol) {
    const { areaBytes, stagingBytes } = network.options;
    this.#network = network;
    this.protocol = protocol;
    this.#area = new Uint8Array(areaBytes);
    this.#view = new DataView(this.#area.buffer);
    this.#otherArea = new Uint8Array(areaBytes);
    this.#otherView = new DataView(this.#otherArea.buffer);
    this.#staging = new Uint8Array(stagingBytes);
    this.#stagingView = new DataView(this.#staging.buffer);
  }

  get sendBytes(): Uint8Array {
    return this.#area;
  }

  get sendView(): DataView {
    return this.#view;
  }

  get canSend(): boolean {
    const { areaBytes, copyBytes, maxPieces } = this.#network.options;
    return this.#areaUsed + 64 + copyBytes <= areaBytes && this.#inPlaceCount < maxPieces;
  }

  get queuedBytes(): number {
    return [...this.#sending, ...this.#queued].reduce((sum, piece) => sum + piece.lengthBytes, -this.#sentOfFirst);
  }

  expectPayload(bytes: Uint8Array, _address: number, lengthBytes: number): void {
    assert(this.#inOnBytes, "expectPayload is called from within onBytes");
    assert(
      this.#expected === null && lengthBytes > 0 && lengthBytes <= bytes.length,
      "One payload at a time, which fits",
    );
    this.#expected = bytes;
    this.#expectedBytes = lengthBytes;
    this.#arrivedBytes = 0;
  }

  reserve(lengthBytes: number): number {
    if (this.#areaUsed + lengthBytes > this.#area.length) return -1;
    const at = this.#areaUsed;
    this.#areaUsed += lengthBytes;
    this.#queued.push({ bytes: this.#area.subarray(at, at + lengthBytes), lengthBytes, token: -1 });
    return at;
  }

  queuePayload(bytes: Uint8Array, _address: number, lengthBytes: number, token: number): boolean {
    const { copyBytes, maxPieces } = this.#network.options;
    if (lengthBytes <= copyBytes) {
      const at = this.reserve(lengthBytes);
      if (at < 0) return false;
      this.#area.set(bytes.subarray(0, lengthBytes), at);
      if (token >= 0) this.protocol.onSent(token, lengthBytes);
      return true;
    }
    if (this.#inPlaceCount >= maxPieces) return false;
    this.#inPlaceCount++;
    this.#queued.push({ bytes, lengthBytes, token });
    return true;
  }

  flushSends(): void {
    if (this.#sending.length > 0 || this.#queued.length === 0) return;
    this.#startSend();
  }

  resumeReceiving(): void {
    this.#stopped = false;
    this.#network.later(() => this.#dispatch());
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#network.later(() => {
      this.#tellEnd(ECANCELED);
      this.peer?.peerEnded(0);
    });
  }

  /** The other side is gone. */
  peerEnded(reason: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#network.later(() => this.#tellEnd(reason));
  }

  /** Moves one chunk to the other side. False when nothing moves. */
  step(): boolean {
    if (this.#ended || this.peer === null || this.#sending.length === 0) return false;
    const piece = this.#sending[0];
    const left = piece.lengthBytes - this.#sentOfFirst;
    const chunkBytes = Math.min(left, this.#network.maxChunkBytes, this.peer.room);
    if (chunkBytes === 0) return false;
    let chunk = piece.bytes.subarray(this.#sentOfFirst, this.#sentOfFirst + chunkBytes);
    if (this.#network.corrupt !== null) {
      chunk = chunk.slice();
      this.#network.corrupt(chunk, this);
    }
    this.#sentOfFirst += chunkBytes;
    this.peer.receive(chunk);
    // Only now may the sender's memory be used again.
    if (chunkBytes === left) this.#pieceDone(piece);
    return true;
  }

  /** Bytes arrive, at most as many as there is room for. For fuzzing also called directly. */
  receive(chunk: Uint8Array): void {
    if (this.#ended) return;
    this.lastReceivedMs = this.#network.nowMs;
    if (this.#expected !== null && this.#start === this.#end) {
      const directBytes = Math.min(chunk.length, this.#expectedBytes - this.#arrivedBytes);
      this.#expected.set(chunk.subarray(0, directBytes), this.#arrivedBytes);
      this.#arrivedBytes += directBytes;
      chunk = chunk.subarray(directBytes);
    }
    if (this.#end + chunk.length > this.#staging.length) {
      this.#staging.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    this.#staging.set(chunk, this.#end);
    this.#end += chunk.length;
    this.#dispatch();
  }

  /** Whether the stream is over, or will be in the next step. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes that can be received before the protocol takes some. */
  get room(): number {
    if (this.#ended) return 0;
    return this.#staging.length - (this.#end - this.#start);
  }

  #dispatch(): void {
    while (!this.#stopped && !this.#ended) {
      if (this.#expected !== null) {
        if (!this.#fillExpected()) return;
        this.#expected = null;
        this.protocol.onPayload();
        continue;
      }
      if (this.#start === this.#end) return;
      this.#inOnBytes = true;
      const consumed = this.protocol.onBytes(this.#staging, this.#stagingView, this.#start, this.#end);
      this.#inOnBytes = false;
      if (consumed < 0) {
        assert(consumed === -1 && this.#expected === null, "A protocol that stops reading expects nothing");
        this.#stopped = true;
        return;
      }
      assert(consumed <= this.#end - this.#start, "A protocol consumes what there is", consumed);
      this.#start += consumed;
      if (consumed === 0 && this.#expected === null) return;
    }
  }

  #fillExpected(): boolean {
    const takenBytes = Math.min(this.#end - this.#start, this.#expectedBytes - this.#arrivedBytes);
    this.#expected!.set(this.#staging.subarray(this.#start, this.#start + takenBytes), this.#arrivedBytes);
    this.#start += takenBytes;
    this.#arrivedBytes += takenBytes;
    return this.#arrivedBytes === this.#expectedBytes;
  }

  #startSend(): void {
    const spare = this.#sending;
    this.#sending = this.#queued;
    this.#queued = spare;
    [this.#area, this.#otherArea] = [this.#otherArea, this.#area];
    [this.#view, this.#otherView] = [this.#otherView, this.#view];
    this.#areaUsed = 0;
    this.#sentOfFirst = 0;
  }

  #pieceDone(piece: Piece): void {
    this.#sending.shift();
    this.#sentOfFirst = 0;
    const inPlace = piece.bytes.buffer !== this.#otherArea.buffer;
    if (inPlace) this.#inPlaceCount--;
    if (this.#sending.length === 0 && this.#queued.length > 0) this.#network.later(() => this.flushSends());
    if (inPlace && piece.token >= 0) this.protocol.onSent(piece.token, piece.lengthBytes);
  }

  #tellEnd(reason: number): void {
    assert(!this.#told, "A stream ends once");
    this.#told = true;
    const at = this.#network.streams.indexOf(this);
    if (at >= 0) this.#network.streams.splice(at, 1);
    for (const piece of [...this.#sending, ...this.#queued]) {
      if (piece.token >= 0) this.protocol.onSent(piece.token, ECANCELED);
    }
    this.#sending = [];
    this.#queued = [];
    this.protocol.onClosed(reason);
  }
}
