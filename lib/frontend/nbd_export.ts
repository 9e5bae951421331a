/**
 * What an NBD client is told about the pool: its name, size, transmission flags and size constraints.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import type { PoolGeometry } from "./frontend.ts";
import { MAX_STRING_BYTES, TransmissionFlag } from "./nbd_protocol.ts";

/** Largest payload of one request. The protocol wants at least this from a server that means to suit every client. */
export const MAX_PAYLOAD_BYTES = 32 << 20;

/** Preferred request size: the unit in which a pool tracks what a leg has missed. */
const PREFERRED_BLOCK_BYTES = 4096;

/** One export: the pool. Also answers to the empty name, which NBD reserves for "the default export". */
export class NbdExport {
  readonly name: string;
  readonly description: string;
  readonly nameBytes: Uint8Array;
  readonly descriptionBytes: Uint8Array;
  readonly sizeBytes: number;
  readonly minimumBlockBytes: number;
  readonly preferredBlockBytes: number;
  readonly maxPayloadBytes = MAX_PAYLOAD_BYTES;
  /** Most bytes of a read that is answered in one piece. */
  readonly maxUnsplitBytes: number;
  readonly readOnly: boolean;

  constructor(geometry: PoolGeometry) {
    const block = geometry.logicalBlockBytes;
    assert(block >= 1 && block <= 65536 && (block & (block - 1)) === 0, "a logical block is a power of two", block);
    assert(geometry.sizeBytes % block === 0, "a pool is a whole number of blocks", geometry.sizeBytes, block);
    this.name = geometry.name;
    this.description = `replicated pool "${geometry.name}"${geometry.readOnly ? ", read-only" : ""}`;
    this.nameBytes = new TextEncoder().encode(this.name);
    this.descriptionBytes = new TextEncoder().encode(this.description);
    assert(this.descriptionBytes.length <= MAX_STRING_BYTES / 4, "a pool's name is short", this.name);
    this.sizeBytes = geometry.sizeBytes;
    this.minimumBlockBytes = block;
    this.preferredBlockBytes = Math.max(PREFERRED_BLOCK_BYTES, block);
    this.maxUnsplitBytes = geometry.maxPayloadBytes;
    this.readOnly = geometry.readOnly;
  }

  /** Whether a client that asks for `name` means this export. */
  answersTo(name: string): boolean {
    return name === "" || name === this.name;
  }

  /**
   * The transmission flags. DF may only be offered with structured replies. FAST_ZERO is not offered: whether zeroing is
   * faster than writing is up to the disks of the legs, and the answer may differ from leg to leg.
   */
  transmissionFlags(structuredReplies: boolean): number {
    let flags = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.SEND_FUA |
      TransmissionFlag.CAN_MULTI_CONN | TransmissionFlag.SEND_CACHE;
    if (structuredReplies) flags |= TransmissionFlag.SEND_DF;
    if (this.readOnly) flags |= TransmissionFlag.READ_ONLY;
    else flags |= TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES;
    return flags;
  }
}
