/**
 * A completion queue, polled in batches into memory of its own.
 *
 * @module
 */

import { bindCall, type BoundCall } from "../libffi/bound_call.ts";
import { errnoName } from "../libc/errno.ts";
import { addressOf, HeldMemory } from "../libc/held_memory.ts";
import { errno } from "../libc/library.ts";
import type { CompletionChannel } from "./completion_channel.ts";
import type { VerbsContext } from "./device.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { RdmaUnavailable, verbs } from "./library.ts";

const ENTRY_BYTES = AT["sizeof(ibv_wc)"];
/** Completions taken with one call. */
const BATCH = 32;

/** Owns one `struct ibv_cq`. */
export class CompletionQueue {
  readonly pointer: Deno.PointerObject;
  readonly address: number;
  readonly #completions = new HeldMemory(ENTRY_BYTES * BATCH);
  readonly #poll: BoundCall;
  readonly #arm: BoundCall;
  readonly #armSolicited: BoundCall;
  #isClosed = false;

  constructor(context: VerbsContext, capacity: number, channel: CompletionChannel) {
    const pointer = verbs().ibv_create_cq(context.pointer, capacity, null, channel.pointer, 0);
    if (pointer === null) throw new RdmaUnavailable("failed", `ibv_create_cq failed: ${errnoName(errno())}`);
    this.pointer = pointer;
    this.address = addressOf(pointer);
    const self = { pointer: this.address };
    this.#poll = bindCall(context.operation("poll_cq"), [self, { int: BATCH }, { pointer: this.#completions.address }]);
    this.#arm = bindCall(context.operation("req_notify_cq"), [self, { int: 0 }]);
    this.#armSolicited = bindCall(context.operation("req_notify_cq"), [self, { int: 1 }]);
  }

  /** Takes completions, which `workId` and its kin then show. Their count; negative when the queue is broken. */
  poll(): number {
    return this.#poll.call();
  }

  /** The completion channel shall tell of the next completion. What came before needs another poll. 0 or an errno. */
  arm(): number {
    return this.#arm.call();
  }

  /** The same, but of the next packet received that was sent as solicited, or (as devices go) of an error. */
  armSolicited(): number {
    return this.#armSolicited.call();
  }

  /** The number given with work request `index` of the last poll. */
  workId(index: number): number {
    return this.#completions.view.getUint32(index * ENTRY_BYTES + AT["ibv_wc.wr_id"], true);
  }

  /** IBV_WC_*; 0 is success. When it is not, only `workId` is valid besides. */
  status(index: number): number {
    return this.#completions.view.getInt32(index * ENTRY_BYTES + AT["ibv_wc.status"], true);
  }

  /** Bytes received. */
  byteLength(index: number): number {
    return this.#completions.view.getUint32(index * ENTRY_BYTES + AT["ibv_wc.byte_len"], true);
  }

  /** 0, or an errno. After the queue pairs that use it. */
  close(): number {
    if (this.#isClosed) return 0;
    this.#isClosed = true;
    return verbs().ibv_destroy_cq(this.pointer);
  }
}
