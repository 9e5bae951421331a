/**
 * The handshake phase of one NBD connection: fixed newstyle negotiation, from the greeting to GO or EXPORT_NAME.
 *
 * An option's data is collected into a buffer of fixed size, its answers are built in another, and the next option is
 * read when the answers are in the socket: a client cannot make this grow. It is not on the hot path, so strings and
 * small objects are allowed here; the whole object is dropped when transmission begins.
 *
 * Formats: "Newstyle negotiation", "Fixed newstyle negotiation", "Option types" of the NBD protocol.
 *
 * @module
 */

import type { StreamSocket } from "../io/stream_socket.ts";
import type { NbdExport } from "./nbd_export.ts";
import { answerOption, type Negotiation } from "./nbd_options.ts";
import { OptionReplies } from "./nbd_option_replies.ts";
import {
  CLIENT_FLAGS_BYTES,
  ClientFlag,
  EXPORT_NAME_PADDING_BYTES,
  GREETING_BYTES,
  GREETING_MAGIC,
  HandshakeFlag,
  Option,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OptionReply,
} from "./nbd_protocol.ts";

/** Longest option data that is looked at: a name and some queries, each at most 4 KiB. Longer ones are answered TOO_BIG. */
const MAX_OPTION_BYTES = 16 << 10;
/** Longest option data that is skipped. A client that announces more is dropped. */
const MAX_SKIPPED_BYTES = 1 << 20;
/** A client that has not made up its mind after so many options never will. */
const MAX_OPTIONS = 1000;

const TWO_32 = 4294967296;

/** How the handshake stands. */
export type HandshakePhase =
  /** Going on. */
  | "haggling"
  /** Over: the bytes that follow are requests. */
  | "transmission"
  /** The client has taken its leave (ABORT); close when the answer has left. */
  | "aborted"
  /** The client broke the protocol, or asked EXPORT_NAME for something that is not here: close now. */
  | "broken";

/** One connection in its handshake phase. */
export class NbdHandshake {
  phase: HandshakePhase = "haggling";
  readonly #stream: StreamSocket;
  readonly #target: NbdExport;
  readonly negotiation: Negotiation = { structuredReplies: false, contextExport: null };
  readonly #data = new Uint8Array(MAX_OPTION_BYTES);
  readonly #replies = new OptionReplies();
  #clientFlagsSeen = false;
  #clientFlags = 0;
  #option = 0;
  /** Bytes of option data still to come; -1: an option header comes next. */
  #dataLeftBytes = -1;
  #dataBytes = 0;
  #tooBig = false;
  #optionCount = 0;
  #paused = false;
  #phaseWhenSent: HandshakePhase = "haggling";

  constructor(stream: StreamSocket, target: NbdExport) {
    this.#stream = stream;
    this.#target = target;
  }

  /** Sends the greeting, the first bytes on the connection. */
  greet(): void {
    const at = this.#stream.reserve(GREETING_BYTES);
    if (at < 0) {
      this.phase = "broken";
      return;
    }
    const view = this.#stream.sendView;
    view.setUint32(at, GREETING_MAGIC.high);
    view.setUint32(at + 4, GREETING_MAGIC.low);
    view.setUint32(at + 8, OPTION_MAGIC.high);
    view.setUint32(at + 12, OPTION_MAGIC.low);
    view.setUint16(at + 16, HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES);
  }

  /** As `StreamProtocol.onBytes`, but stops consuming when the phase changes. */
  onBytes(staging: Uint8Array, view: DataView, start: number, end: number): number {
    let at = start;
    while (this.phase === "haggling") {
      if (this.#replies.isPending) {
        if (at > start) return at - start;
        this.#paused = true;
        return -1;
      }
      const consumedBytes = this.#take(staging, view, at, end);
      if (consumedBytes < 0) return at - start;
      at += consumedBytes;
    }
    return at - start;
  }

  /**
   * The socket may have room again: sends the answers that wait. Returns true when the stream was stopped meanwhile and
   * is to receive again (which is up to the caller, because the phase may have changed).
   */
  resume(): boolean {
    if (!this.#replies.isPending) return false;
    this.#sendReplies();
    if (this.#replies.isPending || !this.#paused) return false;
    this.#paused = false;
    return true;
  }

  /** Takes one step. Returns how many bytes it has used, -1 when it needs more. */
  #take(staging: Uint8Array, view: DataView, at: number, end: number): number {
    if (!this.#clientFlagsSeen) {
      if (end - at < CLIENT_FLAGS_BYTES) return -1;
      this.#clientFlags = view.getUint32(at);
      this.#clientFlagsSeen = true;
      if ((this.#clientFlags & ~(ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES)) !== 0) this.phase = "broken";
      return CLIENT_FLAGS_BYTES;
    }
    if (this.#dataLeftBytes < 0) {
      if (end - at < OPTION_HEADER_BYTES) return -1;
      this.#beginOption(view, at);
      return OPTION_HEADER_BYTES;
    }
    const bytes = Math.min(this.#dataLeftBytes, end - at);
    if (bytes === 0) return -1;
    if (!this.#tooBig) this.#data.set(staging.subarray(at, at + bytes), this.#dataBytes);
    this.#dataBytes += bytes;
    this.#dataLeftBytes -= bytes;
    if (this.#dataLeftBytes === 0) this.#endOption();
    return bytes;
  }

  #beginOption(view: DataView, at: number): void {
    if (view.getUint32(at) !== OPTION_MAGIC.high || view.getUint32(at + 4) !== OPTION_MAGIC.low) {
      this.phase = "broken";
      return;
    }
    this.#option = view.getUint32(at + 8);
    this.#dataLeftBytes = view.getUint32(at + 12);
    this.#dataBytes = 0;
    this.#tooBig = this.#dataLeftBytes > MAX_OPTION_BYTES;
    // Without fixed newstyle there is no answer format but that of EXPORT_NAME.
    const fixed = (this.#clientFlags & ClientFlag.FIXED_NEWSTYLE) !== 0;
    if (
      this.#dataLeftBytes > MAX_SKIPPED_BYTES || ++this.#optionCount > MAX_OPTIONS ||
      (!fixed && this.#option !== Option.EXPORT_NAME)
    ) this.phase = "broken";
    else if (this.#dataLeftBytes === 0) this.#endOption();
  }

  #endOption(): void {
    this.#dataLeftBytes = -1;
    const option = this.#option;
    if (option === Option.EXPORT_NAME) return this.#answerExportName();
    this.#phaseWhenSent = "haggling";
    if (option === Option.ABORT) {
      this.#replies.add(option, OptionReply.ACK);
      this.#phaseWhenSent = "aborted";
    } else if (this.#tooBig) {
      this.#replies.addError(option, OptionReply.ERR_TOO_BIG, `Option data is limited to ${MAX_OPTION_BYTES} bytes`);
    } else {
      const data = this.#data.subarray(0, this.#dataBytes);
      const accepted = answerOption(option, data, this.#target, this.negotiation, this.#replies);
      if (option === Option.GO && accepted) this.#phaseWhenSent = "transmission";
    }
    this.#sendReplies();
  }

  #sendReplies(): void {
    if (!this.#replies.moveTo(this.#stream)) return;
    this.phase = this.#phaseWhenSent;
  }

  /** EXPORT_NAME has no way to say no: an unknown name ends the connection. */
  #answerExportName(): void {
    const name = new TextDecoder().decode(this.#data.subarray(0, Math.min(this.#dataBytes, MAX_OPTION_BYTES)));
    if (this.#tooBig || !this.#target.answersTo(name)) {
      this.phase = "broken";
      return;
    }
    const padded = (this.#clientFlags & ClientFlag.NO_ZEROES) === 0;
    const reply = this.#replies.addRaw(10 + (padded ? EXPORT_NAME_PADDING_BYTES : 0));
    const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
    view.setUint32(0, this.#target.sizeBytes / TWO_32);
    view.setUint32(4, this.#target.sizeBytes >>> 0);
    view.setUint16(8, this.#target.transmissionFlags(this.negotiation.structuredReplies));
    this.#phaseWhenSent = "transmission";
    this.#sendReplies();
  }

  /** Whether block status may be asked for: the last SET_META_CONTEXT was for the export in use, and selected one. */
  get contextSelected(): boolean {
    return this.negotiation.contextExport !== null && this.#target.answersTo(this.negotiation.contextExport);
  }
}
