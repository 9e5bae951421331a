/**
 * The transport contract: frames between nodes, over TCP, in memory (loopback), or RDMA.
 *
 * It is shaped for one-sided placement: before a payload arrives its receiver says where it belongs (`placePayload`), in
 * pool memory that is registered with the transport. Credits bound what may be in flight: a connection's receiver grants
 * requests and bytes in its WELCOME, and the core never has more outstanding, so no queue here grows.
 *
 * A connection is a small integer. Frames on one connection arrive in the order sent, whole, and checked (header CRC,
 * payload CRC), or the connection is closed. A frame is never delivered twice.
 *
 * @module
 */

import type { Message } from "../wire/message.ts";
import type { StreamWay } from "./stream_network.ts";
import type { LinkDescription } from "./rdma/link_description.ts";

/**
 * What a transport tells its user. Called from within the reactor's turn or from `flushSends`, never re-entrantly from
 * another call into the transport. All calls into the transport but `flushSends` are allowed from within these.
 */
export interface TransportHandler {
  /** A peer connected to our listener `listener`. */
  onAccepted(connection: number, listener: number, peerAddress: string): void;
  /** A `connect` succeeded. */
  onConnected(connection: number): void;
  /**
   * A header with payload arrived: which slot takes its payload? Return a slot of the buffer pool with room for
   * `message.payloadLength`, -1 to pause this connection until `resume` (no memory now; the question is asked again; meanwhile the
   * end of the peer may go unnoticed), or
   * -2 to refuse (the connection is closed with EPROTO). Control payloads (JSON) go to slots too.
   *
   * With `landedSlot` >= 0 the payload is there already, in that slot: the peer has put it into memory that the transport
   * lent it. Returned, that slot is the handler's like any other; with another slot the payload is copied there.
   *
   * The slot stays the handler's all along. A connection has at most one payload under way; when `onClosed` comes and not
   * `onMessage`, it has not arrived whole, and from then on (not before) nobody writes to the slot.
   */
  placePayload(connection: number, message: Message, landedSlot: number): number;
  /** A whole frame. `slot` is -1 without payload; otherwise the one that `placePayload` named. `message` is only valid now. */
  onMessage(connection: number, message: Message, slot: number): void;
  /**
   * The transport no longer needs a payload given to `send` with this `token` >= 0.
   * Called exactly once for each such send, also when the connection dies. For a WRITE, which the peer answers, it may come
   * as late as the answer: nobody is woken to hear it earlier.
   */
  onSent(connection: number, token: number): void;
  /** The connection is gone (or `connect` failed): `reason` is a negative errno, 0 for an orderly end. Called once. */
  onClosed(connection: number, reason: number): void;
}

/** Counters of one connection. */
export interface ConnectionStats {
  sentBytes: number;
  receivedBytes: number;
  sentFrames: number;
  receivedFrames: number;
}

/** Frames in, frames out. */
export interface Transport {
  /** Listens on `address` ("127.0.0.1:7701", "[::1]:7701"). Returns a listener id; throws with a clear reason. */
  listen(address: string): { listener: number; boundAddress: string };
  /** Starts to connect. The outcome comes as onConnected or onClosed. */
  connect(address: string): number;
  /**
   * Queues a frame. `slot` >= 0 names payload of `message.payloadLength` bytes in the pool. If `token` >= 0 the payload
   * must stay untouched until `onSent(token)`; with a negative token it is copied before this returns. When
   * `message.payloadCrc` is 0 and checksums are on, or the payload is copied, the sum is computed here. `message` is left as it was.
   * Returns false when the connection is gone (then `onSent` is NOT called).
   */
  send(connection: number, message: Message, slot: number, token: number): boolean;
  /** As `send`, with the payload in ordinary memory; it is copied. For control frames and maps. */
  sendBytes(connection: number, message: Message, payload: Uint8Array | null): boolean;
  /**
   * Once a turn, after the outputs of the core were carried out: what was queued leaves. May call `onSent` (payloads that
   * were copied) and `onClosed` (addresses that cannot be connected to), so it comes before the front end's own flush.
   */
  flushSends(): void;
  /** Asks `placePayload` again on connections that were paused. */
  resume(): void;
  /** Ends a connection. onClosed (reason 0) follows, no message does. What is queued may be lost. */
  close(connection: number): void;
  /** Reactor clock when bytes last arrived, for heartbeats. */
  lastReceivedMs(connection: number): number;
  stats(connection: number): ConnectionStats;
  /** Which way a connection takes within a machine or over TCP, for status; null or absent for other networks. */
  way?(connection: number): StreamWay | null;
  /** Whether payloads sent on it are summed, so that a caller does well to sum once for several. Absent: they are. */
  sumsPayloads?(connection: number): boolean;
  /** Bytes queued but not yet taken by the network. */
  queuedBytes(connection: number): number;
  /** Which way a connection goes over RDMA, for status; null or absent for other networks. */
  describe?(connection: number): LinkDescription | null;
}
