/**
 * A completion channel: a descriptor that becomes readable when a completion queue that was armed has something.
 *
 * @module
 */

import { errnoName } from "../libc/errno.ts";
import { setNonBlocking } from "../libc/file.ts";
import { addressOf, HeldMemory } from "../libc/held_memory.ts";
import { errno } from "../libc/library.ts";
import { bindCall, bindVoidCall, type BoundCall, type BoundVoidCall } from "../libffi/bound_call.ts";
import type { VerbsContext } from "./device.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { RdmaUnavailable, verbs, verbsFunction } from "./library.ts";

/** Owns one `struct ibv_comp_channel`. */
export class CompletionChannel {
  readonly pointer: Deno.PointerObject;
  readonly descriptor: number;
  /** Two words that the library writes: the queue, and its context. */
  readonly #out = new HeldMemory(16);
  readonly #take: BoundCall;
  /** Acknowledges one event of the queue that was taken last. */
  readonly #acknowledge: BoundVoidCall;

  constructor(context: VerbsContext) {
    const pointer = verbs().ibv_create_comp_channel(context.pointer);
    if (pointer === null) throw new RdmaUnavailable("failed", `ibv_create_comp_channel failed: ${errnoName(errno())}`);
    this.pointer = pointer;
    this.descriptor = new Deno.UnsafePointerView(pointer).getInt32(AT["ibv_comp_channel.fd"]);
    const { address } = this.#out;
    const channel = { pointer: addressOf(pointer) };
    this.#take = bindCall(verbsFunction("ibv_get_cq_event"), [channel, { pointer: address }, { pointer: address + 8 }]);
    this.#acknowledge = bindVoidCall(verbsFunction("ibv_ack_cq_events"), [{ pointerAt: address }, { int: 1 }]);
    setNonBlocking(this.descriptor);
  }

  /** Takes one event and acknowledges it. The address of its queue, which is to be polled; 0 when there was none. */
  takeEvent(): number {
    if (this.#take.call() !== 0) return 0;
    this.#acknowledge.call();
    return this.#out.getAddress(0);
  }

  /** 0, or an errno. After the completion queues that use it. */
  close(): number {
    return verbs().ibv_destroy_comp_channel(this.pointer);
  }
}
