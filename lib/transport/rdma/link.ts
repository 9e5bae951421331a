/**
 * What the RDMA transport asks of the layer below it: connections of queue pairs. `verbs_network.ts` gives those of real
 * devices; tests give links in memory.
 *
 * @module
 */

import type { Landing } from "./landing_memory.ts";
import type { LinkDescription } from "./link_description.ts";
import type { Offer } from "./packet.ts";

/** Receives posted on each end, and packets each end can have under way. */
export const RECEIVE_COUNT = 128;
export const SEND_COUNT = 120;
/** Requests in the send queue: packets, and the writes that go before them. */
export const SEND_REQUEST_COUNT = 512;

/** A queue pair that is connected, and its completion queue. Requests complete in the order in which they were added. */
export interface RdmaLink {
  /** Packets up to this long are sent inline. */
  readonly inlineBytes: number;
  /** For people: device, GID, MTU. */
  readonly description: LinkDescription;
  /** Adds an RDMA WRITE of pool memory to page `remotePage` of the peer's landing. No completion tells of it. */
  addWrite(address: number, lengthBytes: number, remotePage: number): void;
  /** Adds a SEND that completes with `workId`, after the writes added before it. */
  addSend(workId: number, address: number, lengthBytes: number): void;
  /** Adds a receive that completes with `workId`. */
  addReceive(workId: number, address: number, lengthBytes: number): void;
  /** Posts what was added. 0, or an errno: the link is broken. */
  post(): number;
  /** Takes completions, shown by the methods below until the next poll. Their count; negative when the queue is broken. */
  poll(): number;
  workId(index: number): number;
  /** 0, or what went wrong: IBV_WC_*. */
  status(index: number): number;
  byteLength(index: number): number;
  /**
   * The network shall tell (`onReadable`) of the next packet received, or with `everything` of the next completion of any kind.
   * False when that was asked already.
   */
  arm(everything: boolean): boolean;
  /**
   * Ends the connection, whether or not the peer answers: what is under way completes, with an error if nothing else, and
   * is polled as before. A completion tells that the device does not read the request's memory any more.
   */
  stop(): void;
  /** Lets the link go. From when it returns no device reads or writes memory for it. Waits for the device. */
  close(): void;
  /**
   * The same without waiting: a device may be busy for seconds with what it still wants to send to a peer that is gone.
   * `released` is called within a later turn, when no device reads or writes memory for the link. Nothing is polled any more.
   */
  abandon(released: () => void): void;
}

/** Hears how a connection fares: either `onFailed`, or `onEstablished` and later perhaps `onDisconnected`. */
export interface LinkUser {
  readonly landing: Landing;
  onEstablished(link: RdmaLink, offer: Offer): void;
  /** @param reason negative errno */
  onFailed(reason: number): void;
  /** The peer has ended the connection (0), or the device is gone (negative errno). */
  onDisconnected(reason: number): void;
}

/** An attempt under way. */
export interface PendingLink {
  /** Gives up. Nothing is heard of it any more; the landing is out of the device's reach when this returns. */
  cancel(): void;
}

/** Says whether a peer may connect: null refuses it. */
export type AcceptLink = (peerAddress: string, pending: PendingLink) => LinkUser | null;

/** A listener. */
export interface LinkListener {
  readonly boundAddress: string;
  close(): void;
}

/** See the module's description. None of the calls calls back before it returns. A listener outlives its device. */
export interface RdmaNetwork {
  /** Called within the reactor's turn when there may be completions. */
  onReadable: () => void;
  /** Throws an Error that says what is wrong. */
  listen(address: string, accept: AcceptLink): LinkListener;
  /** Once a turn: links that were abandoned may have ended. */
  turn(): void;
  /** Throws an Error when the address is malformed. */
  connect(address: string, user: LinkUser): PendingLink;
}
