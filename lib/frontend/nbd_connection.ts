/**
 * One NBD connection, from the greeting to the last answer: hands the stream's events to the handshake, then to the
 * transmission, and closes the stream when the client has said goodbye and has all its answers.
 *
 * @module
 */

import type { StreamProtocol, StreamSocket } from "../io/stream_socket.ts";
import { assert } from "../base/assert.ts";
import type { NbdAdmission } from "./nbd_admission.ts";
import type { NbdExport } from "./nbd_export.ts";
import { NbdHandshake } from "./nbd_handshake.ts";
import type { ReplyLinks } from "./nbd_replies.ts";
import { type NbdTerms, NbdTransmission } from "./nbd_transmission.ts";

/** One connection. Its owner calls `start` once the stream exists. */
export class NbdConnection implements StreamProtocol {
  readonly #connection: number;
  readonly #admission: NbdAdmission;
  readonly #links: ReplyLinks;
  readonly #target: NbdExport;
  readonly #onEnded: (connection: number) => void;
  #stream: StreamSocket | null = null;
  #handshake: NbdHandshake | null = null;
  #transmission: NbdTransmission | null = null;
  /** Nothing more will be queued: the stream closes when everything has been sent. */
  #closing = false;
  #closeAsked = false;
  #closed = false;

  constructor(
    connection: number,
    admission: NbdAdmission,
    links: ReplyLinks,
    target: NbdExport,
    onEnded: (connection: number) => void,
  ) {
    this.#connection = connection;
    this.#admission = admission;
    this.#links = links;
    this.#target = target;
    this.#onEnded = onEnded;
  }

  /** Greets the client; or takes its requests at once, when the terms were agreed on by other means: simple replies. */
  start(stream: StreamSocket, phase: "handshake" | "transmission" = "handshake"): void {
    this.#stream = stream;
    if (phase === "transmission") {
      this.#beginTransmission({ structuredReplies: false, contextSelected: false });
      return;
    }
    this.#handshake = new NbdHandshake(stream, this.#target);
    this.#handshake.greet();
    this.#followPhase(this.#handshake);
  }

  /** Takes no more requests; closes when those begun are answered. */
  finish(): void {
    if (this.#transmission === null) this.#closing = true;
    else this.#transmission.finish();
  }

  /** Closes now, whatever is under way. */
  abort(): void {
    this.#closing = true;
    this.#closeAsked = true;
    if (!this.#closed) this.#stream?.close();
  }

  /** Once a turn: answers that were held up go on, the send is started, a finished connection is closed. */
  flushSends(): void {
    if (this.#closed) return;
    const stream = this.#stream;
    assert(stream !== null, "a connection is started before it is used");
    const handshake = this.#handshake;
    if (handshake !== null) {
      const receiveAgain = handshake.resume();
      this.#followPhase(handshake);
      if (receiveAgain) stream.resumeReceiving();
    }
    const transmission = this.#transmission;
    if (transmission !== null && transmission.replies.isBlocked) {
      transmission.replies.emit();
      transmission.resumeOwn();
    }
    if (this.#closed) return;
    stream.flushSends();
    if (transmission !== null && transmission.isFinished) this.#closing = true;
    if (!this.#closing || this.#closeAsked) return;
    this.#closeAsked = true;
    stream.closeWhenSent();
  }

  /** The host has done `part`. */
  onPartDone(part: number, status: number): void {
    assert(this.#transmission !== null, "a part belongs to a connection in transmission", part);
    this.#transmission.onPartDone(part, status);
  }

  onBytes(staging: Uint8Array, view: DataView, start: number, end: number): number {
    if (this.#closing) return end - start;
    if (this.#transmission !== null) return this.#transmission.onBytes(view, start, end);
    return this.#onHandshakeBytes(staging, view, start, end);
  }

  #onHandshakeBytes(staging: Uint8Array, view: DataView, start: number, end: number): number {
    const handshake = this.#handshake;
    assert(handshake !== null, "a connection is started before bytes arrive");
    const consumedBytes = handshake.onBytes(staging, view, start, end);
    this.#followPhase(handshake);
    return consumedBytes;
  }

  #followPhase(handshake: NbdHandshake): void {
    if (handshake.phase === "aborted") this.#closing = true;
    else if (handshake.phase === "broken") this.abort();
    else if (handshake.phase === "transmission") {
      this.#handshake = null;
      this.#beginTransmission({
        structuredReplies: handshake.negotiation.structuredReplies,
        contextSelected: handshake.contextSelected,
      });
    }
  }

  #beginTransmission(terms: NbdTerms): void {
    assert(this.#stream !== null, "a connection is started before it is used");
    this.#transmission = new NbdTransmission(
      this.#connection,
      this.#admission,
      this.#links,
      this.#target,
      terms,
      this.#stream,
    );
  }

  onPayload(): void {
    this.#admission.enter();
    this.#transmission?.onPayload();
    this.#admission.exit();
  }

  onSent(token: number, _result: number): void {
    this.#admission.enter();
    assert(this.#transmission !== null, "only read data is sent with a token", token);
    this.#transmission.onSent(token);
    this.#admission.exit();
  }

  onClosed(_reason: number): void {
    this.#closed = true;
    this.#admission.enter();
    this.#transmission?.onClosed();
    this.#onEnded(this.#connection);
    this.#admission.exit();
  }
}
