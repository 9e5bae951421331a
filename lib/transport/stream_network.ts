/**
 * Where streams come from: what a transport over streams asks of the layer below it. `uring_network.ts` gives real sockets;
 * tests give streams in memory.
 *
 * None of these calls, and neither `close` nor `resumeReceiving` of a stream, calls back before it returns: callbacks come
 * from within the reactor's turn.
 *
 * @module
 */

import type { PayloadSharing } from "./payload_sharing.ts";
import type { StreamProtocol, StreamSocket } from "../io/stream_socket.ts";

/** What of a stream a connection of frames uses, and how much of what was queued is still here. */
export interface FrameStream extends
  Pick<
    StreamSocket,
    | "expectPayload"
    | "reserve"
    | "sendBytes"
    | "sendView"
    | "queuePayload"
    | "canSend"
    | "flushSends"
    | "resumeReceiving"
    | "lastReceivedMs"
    | "close"
  > {
  /** Bytes queued and not yet taken by the network. */
  readonly queuedBytes: number;
  /** Memory that both ends share, if they do: then payloads need not travel. */
  readonly sharing?: PayloadSharing | null;
  /** Which way it takes, for people. Default TCP. */
  readonly way?: StreamWay;
}

/** Which way a stream takes; `reason`: why it is TCP where memory might be shared. */
export interface StreamWay {
  readonly transport: "tcp" | "shared-memory";
  readonly reason?: string;
}

/** Makes the stream of an accepted connection; `protocol` hears what happens on it. To be called at once, or not at all. */
export type OpenStream = (protocol: StreamProtocol) => FrameStream;

/** Called for each connection accepted. A connection that is not opened is closed. */
export type AcceptStream = (peerAddress: string, open: OpenStream) => void;

/** Hears how an attempt to connect ends: exactly one of the two is called. */
export interface StreamConnector {
  /** Hears what happens on the stream once it is connected. */
  readonly protocol: StreamProtocol;
  onConnected(stream: FrameStream): void;
  /** @param reason negative errno; -ECANCELED after `cancel` */
  onConnectFailed(reason: number): void;
}

/** An attempt under way. */
export interface PendingConnect {
  /** Gives up; `onConnectFailed` follows, unless the outcome was already told. */
  cancel(): void;
}

/** A socket that accepts. */
export interface StreamListener {
  /** As asked for, with the port that was given when 0 was asked. */
  readonly boundAddress: string;
  /** Accepts no more. Accepted streams live on. */
  close(): void;
}

/** See the module's description. */
export interface StreamNetwork {
  /** Throws an Error that says what is wrong with the address, or why it cannot be had. */
  listen(address: string, accept: AcceptStream): StreamListener;
  /** Throws an Error when the address is malformed. */
  connect(address: string, connector: StreamConnector): PendingConnect;
}
