/**
 * A connected stream socket (TCP or unix) on a reactor, for protocols made of `header | payload` frames.
 *
 * Receiving: bytes arrive in a staging area; the protocol is asked to parse. A payload that is already staged is copied
 * to its place; the rest of a larger one is received straight into its place, so big payloads are never copied.
 *
 * Sending: small pieces are copied into the socket's send area; large ones are sent from where they are (sendmsg with an
 * iovec). One send is in flight at a time; everything queued meanwhile leaves with the next one, and `flushSends()` is
 * called once a loop turn, so that many small messages leave as one.
 *
 * Nothing here grows: when the send queue is full, `canSend` is false until a send completes.
 *
 * @module
 */

/** The protocol above a stream. */
export interface StreamProtocol {
  /**
   * Called whenever staged bytes wait. Reads what it can from `staging[start .. end)` and returns how many bytes it has
   * consumed. To take a payload it calls `expectPayload` on the stream and returns: the stream then fills it and calls
   * `onPayload`. Returning 0 with no payload expected means: more bytes are needed. A return of -1 stops reading until
   * `resumeReceiving()` (back-pressure).
   */
  onBytes(staging: Uint8Array, view: DataView, start: number, end: number): number;
  /** The expected payload is complete in its place. */
  onPayload(): void;
  /** A piece sent with a non-negative token has left, or never will (`result` < 0): its memory may be reused. */
  onSent(token: number, result: number): void;
  /** The stream is dead: reset, end of file (0), error (negative errno). Called once; all tokens were returned before. */
  onClosed(reason: number): void;
}

/** One stream. */
export interface StreamSocket {
  /** Next `lengthBytes` go to `bytes`/`address`. Only from within `onBytes`. */
  expectPayload(bytes: Uint8Array, address: number, lengthBytes: number): void;
  /** Room of at least `lengthBytes` in the send area to encode a header into; returns its offset in `sendBytes`, -1 if full. */
  reserve(lengthBytes: number): number;
  /** The send area, for writing what was reserved. */
  readonly sendBytes: Uint8Array;
  readonly sendView: DataView;
  /**
   * Queues payload bytes behind what was reserved. Short ones are copied at once (and `onSent` is called before this
   * returns); longer ones are sent in place and must stay valid until `onSent(token)`. False when the queue is full.
   */
  queuePayload(bytes: Uint8Array, address: number, lengthBytes: number, token: number): boolean;
  /** Whether `reserve` and `queuePayload` have room for a frame. */
  readonly canSend: boolean;
  /** Starts the send of what is queued, if none is in flight. Once a turn. */
  flushSends(): void;
  /** Goes on after a -1 from `onBytes`. */
  resumeReceiving(): void;
  /** Milliseconds (reactor clock) when bytes last arrived. */
  readonly lastReceivedMs: number;
  /** Ends the stream; `onClosed` follows. */
  close(): void;
  /** Ends the stream once all that is queued has left; nothing more can be queued. `onClosed` follows. */
  closeWhenSent(): void;
}
