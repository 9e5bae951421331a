/**
 * A completion channel: a descriptor that becomes readable when a completion queue that was armed has something.
 *
 * @module
 */

import { errnoName } from "../libc/errno.ts";
import { setNonBlocking } from "../libc/file.ts";
import { HeldMemory } from "../libc/held_memory.ts";
import { errno } from "../libc/library.ts";
import type { VerbsContext } from "./device.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { RdmaUnavailable, verbs } from "./library.ts";

/** Owns one `struct ibv_comp_channel`. */
export class CompletionChannel {
  readonly pointer: Deno.PointerObject;
  readonly descriptor: number;
  /** Two words that the library writes: the queue, and its context. */
  readonly #out = new HeldMemory(16);
  readonly #contextOut: Deno.PointerValue;

  constructor(context: VerbsContext) {
    const pointer = verbs().ibv_create_comp_channel(context.pointer);
    if (pointer === null) throw new RdmaUnavailable("failed", `ibv_create_comp_channel failed: ${errnoName(errno())}`);
    this.pointer = pointer;
    this.descriptor = new Deno.UnsafePointerView(pointer).getInt32(AT["ibv_comp_channel.fd"]);
    this.#contextOut = Deno.UnsafePointer.create(BigInt(this.#out.address + 8));
    setNonBlocking(this.descriptor);
  }

  /** Takes one event and acknowledges it. The address of its queue, which is to be polled; 0 when there was none. */
  takeEvent(): number {
    if (verbs().ibv_get_cq_event(this.pointer, this.#out.pointer, this.#contextOut) !== 0) return 0;
    const queue = this.#out.view.getBigUint64(0, true);
    verbs().ibv_ack_cq_events(Deno.UnsafePointer.create(queue), 1);
    return Number(queue);
  }

  /** 0, or an errno. After the completion queues that use it. */
  close(): number {
    return verbs().ibv_destroy_comp_channel(this.pointer);
  }
}
