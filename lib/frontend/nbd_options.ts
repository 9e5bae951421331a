/**
 * What each option of the handshake means, and its answer. No state but the {@link Negotiation} that is passed in.
 *
 * Source: "Option types" and "Metadata querying" of the NBD protocol.
 *
 * @module
 */

import type { NbdExport } from "./nbd_export.ts";
import { type OptionReplies, u16, u32, u64 } from "./nbd_option_replies.ts";
import {
  ALLOCATION_CONTEXT_ID,
  ALLOCATION_CONTEXT_NAME,
  InfoType,
  MAX_STRING_BYTES,
  Option,
  OptionReply,
} from "./nbd_protocol.ts";

/** What has been agreed on so far. */
export interface Negotiation {
  structuredReplies: boolean;
  /** The export for which base:allocation was selected, as the client wrote it; null when it is not selected. */
  contextExport: string | null;
}

/** Answers `option` into `replies`. Returns whether it was accepted. EXPORT_NAME and ABORT are not for this function. */
export function answerOption(
  option: number,
  data: Uint8Array,
  target: NbdExport,
  negotiation: Negotiation,
  replies: OptionReplies,
): boolean {
  switch (option) {
    case Option.LIST:
      if (data.length > 0) return refuse(replies, option, "LIST takes no data");
      replies.add(option, OptionReply.SERVER, u32(target.nameBytes.length), target.nameBytes, target.descriptionBytes);
      replies.add(option, OptionReply.ACK);
      return true;
    case Option.STRUCTURED_REPLY:
      if (data.length > 0) return refuse(replies, option, "STRUCTURED_REPLY takes no data");
      negotiation.structuredReplies = true;
      replies.add(option, OptionReply.ACK);
      return true;
    case Option.STARTTLS:
      if (data.length > 0) return refuse(replies, option, "STARTTLS takes no data");
      replies.addError(option, OptionReply.ERR_UNSUP, "This server does not speak TLS");
      return false;
    case Option.INFO:
    case Option.GO:
      return answerInfo(option, data, target, negotiation, replies);
    case Option.LIST_META_CONTEXT:
    case Option.SET_META_CONTEXT:
      return answerMetaContext(option, data, target, negotiation, replies);
    default:
      replies.addError(option, OptionReply.ERR_UNSUP, `Option ${option} is not known here`);
      return false;
  }
}

function refuse(replies: OptionReplies, option: number, message: string): boolean {
  replies.addError(option, OptionReply.ERR_INVALID, message);
  return false;
}

function answerInfo(
  option: number,
  data: Uint8Array,
  target: NbdExport,
  negotiation: Negotiation,
  replies: OptionReplies,
): boolean {
  const reader = new OptionReader(data);
  const name = reader.string();
  const requestCount = reader.u16();
  const wanted = new Set<number>();
  for (let i = 0; i < requestCount && !reader.failed; i++) wanted.add(reader.u16());
  if (reader.failed || !reader.atEnd) return refuse(replies, option, "The option's data does not have the right form");
  if (!target.answersTo(name)) return refuseExport(replies, option, target);
  const flags = target.transmissionFlags(negotiation.structuredReplies);
  replies.add(option, OptionReply.INFO, u16(InfoType.EXPORT), u64(target.sizeBytes), u16(flags));
  if (wanted.has(InfoType.NAME)) replies.add(option, OptionReply.INFO, u16(InfoType.NAME), target.nameBytes);
  if (wanted.has(InfoType.DESCRIPTION)) {
    replies.add(option, OptionReply.INFO, u16(InfoType.DESCRIPTION), target.descriptionBytes);
  }
  // Always: a server with constraints of its own should tell them, even to a client that did not ask.
  replies.add(
    option,
    OptionReply.INFO,
    u16(InfoType.BLOCK_SIZE),
    u32(target.minimumBlockBytes),
    u32(target.preferredBlockBytes),
    u32(target.maxPayloadBytes),
  );
  replies.add(option, OptionReply.ACK);
  return true;
}

function refuseExport(replies: OptionReplies, option: number, target: NbdExport): boolean {
  replies.addError(option, OptionReply.ERR_UNKNOWN, `No such export; there is "${target.name}"`);
  return false;
}

function answerMetaContext(
  option: number,
  data: Uint8Array,
  target: NbdExport,
  negotiation: Negotiation,
  replies: OptionReplies,
): boolean {
  const selects = option === Option.SET_META_CONTEXT;
  // The last SET_META_CONTEXT counts, even one that fails.
  if (selects) negotiation.contextExport = null;
  if (!negotiation.structuredReplies) {
    return refuse(replies, option, "Metadata contexts need structured replies: negotiate STRUCTURED_REPLY first");
  }
  const reader = new OptionReader(data);
  const name = reader.string();
  const queryCount = reader.u32();
  let matches = !selects && queryCount === 0;
  for (let i = 0; i < queryCount && !reader.failed; i++) {
    const query = reader.string();
    if (query === ALLOCATION_CONTEXT_NAME || (!selects && query === "base:")) matches = true;
  }
  if (reader.failed || !reader.atEnd) return refuse(replies, option, "The option's data does not have the right form");
  if (!target.answersTo(name)) return refuseExport(replies, option, target);
  if (matches) {
    const id = u32(selects ? ALLOCATION_CONTEXT_ID : 0);
    replies.add(option, OptionReply.META_CONTEXT, id, new TextEncoder().encode(ALLOCATION_CONTEXT_NAME));
    if (selects) negotiation.contextExport = name;
  }
  replies.add(option, OptionReply.ACK);
  return true;
}

/** Reads an option's data in order. After a read past the end `failed` is true and every read gives zero or "". */
class OptionReader {
  failed = false;
  readonly #data: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.length);
  }

  get atEnd(): boolean {
    return this.#at === this.#data.length;
  }

  u16(): number {
    return this.#has(2) ? this.#view.getUint16(this.#at - 2) : 0;
  }

  u32(): number {
    return this.#has(4) ? this.#view.getUint32(this.#at - 4) : 0;
  }

  /** A u32 length and as many bytes of UTF-8. */
  string(): string {
    const lengthBytes = this.u32();
    if (lengthBytes > MAX_STRING_BYTES || !this.#has(lengthBytes)) {
      this.failed = true;
      return "";
    }
    return new TextDecoder().decode(this.#data.subarray(this.#at - lengthBytes, this.#at));
  }

  #has(lengthBytes: number): boolean {
    if (this.failed || this.#at + lengthBytes > this.#data.length) {
      this.failed = true;
      return false;
    }
    this.#at += lengthBytes;
    return true;
  }
}
