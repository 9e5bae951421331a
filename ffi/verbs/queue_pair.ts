/**
 * A reliable connected queue pair, as librdmacm makes it for one of its ids.
 *
 * @module
 */

import { Errno } from "../libc/errno.ts";
import { bindCall, type BoundCall } from "../libffi/bound_call.ts";
import { addressOf, HeldMemory } from "../libc/held_memory.ts";
import type { CompletionQueue } from "./completion_queue.ts";
import type { VerbsContext } from "./device.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { verbs } from "./library.ts";
import { ReceiveChain, SendChain } from "./work_request.ts";

/** How much a queue pair holds. */
export interface QueuePairLimits {
  readonly sendRequests: number;
  readonly receiveRequests: number;
  /** Wished for; the device may give less. */
  readonly inlineBytes: number;
}

/** What {@link makeQueuePair} has made. */
export interface MadeQueuePair {
  /** Of the `struct ibv_qp`, or a negative errno. */
  readonly address: number;
  /** Bytes that a request may take along: at most what was wished for. */
  readonly inlineBytes: number;
}

/** What is asked for where more is refused: a packet of one frame, then nothing at all. */
const LESSER_INLINE_BYTES = [128, 96, 0];

/**
 * Has `create` make a queue pair for one completion queue, as `CmId.createQueuePair` does. Devices refuse more inline data than
 * they have, in place of giving what there is, and none tells beforehand: so less is asked for then.
 */
export function makeQueuePair(
  queue: Pick<CompletionQueue, "pointer">,
  limits: QueuePairLimits,
  create: (attributes: HeldMemory) => number,
): MadeQueuePair {
  let address = 0;
  for (const inlineBytes of [limits.inlineBytes, ...LESSER_INLINE_BYTES]) {
    const attributes = queuePairAttributes(queue, { ...limits, inlineBytes });
    address = create(attributes);
    if (address >= 0) {
      const given = attributes.view.getUint32(AT["ibv_qp_init_attr.cap.max_inline_data"], true);
      return { address, inlineBytes: Math.min(inlineBytes, given) };
    }
    // Older versions of librdmacm say ENOMEM in place of what the device said.
    if (address !== -Errno.EINVAL && address !== -Errno.ENOMEM) break;
  }
  return { address, inlineBytes: 0 };
}

/** `struct ibv_qp_init_attr`; what was given is written back to it. */
function queuePairAttributes(queue: Pick<CompletionQueue, "pointer">, limits: QueuePairLimits): HeldMemory {
  const attributes = new HeldMemory(AT["sizeof(ibv_qp_init_attr)"]);
  attributes.setAddress(AT["ibv_qp_init_attr.send_cq"], addressOf(queue.pointer));
  attributes.setAddress(AT["ibv_qp_init_attr.recv_cq"], addressOf(queue.pointer));
  attributes.view.setUint32(AT["ibv_qp_init_attr.cap.max_send_wr"], limits.sendRequests, true);
  attributes.view.setUint32(AT["ibv_qp_init_attr.cap.max_recv_wr"], limits.receiveRequests, true);
  attributes.view.setUint32(AT["ibv_qp_init_attr.cap.max_send_sge"], 1, true);
  attributes.view.setUint32(AT["ibv_qp_init_attr.cap.max_recv_sge"], 1, true);
  attributes.view.setUint32(AT["ibv_qp_init_attr.cap.max_inline_data"], limits.inlineBytes, true);
  attributes.view.setUint32(AT["ibv_qp_init_attr.qp_type"], AT.IBV_QPT_RC, true);
  return attributes;
}

/** Posts to one `struct ibv_qp`, which its cm id owns and destroys. */
export class QueuePair {
  readonly sends: SendChain;
  readonly receives: ReceiveChain;
  readonly #pointer: Deno.PointerObject;
  readonly #refused = new HeldMemory(8);
  readonly #postSend: BoundCall;
  readonly #postReceive: BoundCall;

  constructor(context: VerbsContext, address: number, chainLength: number) {
    this.#pointer = Deno.UnsafePointer.create(BigInt(address))!;
    this.sends = new SendChain(chainLength);
    this.receives = new ReceiveChain(chainLength);
    const self = { pointer: address };
    const refused = { pointer: this.#refused.address };
    this.#postSend = bindCall(context.operation("post_send"), [self, { pointer: this.sends.address }, refused]);
    this.#postReceive = bindCall(context.operation("post_recv"), [self, { pointer: this.receives.address }, refused]);
  }

  /** Posts the chain of sends, and empties it. 0, or an errno: the queue pair is then of no more use. */
  postSends(): number {
    if (this.sends.count === 0) return 0;
    this.sends.clear();
    return this.#postSend.call();
  }

  /** Posts the chain of receives, and empties it. 0, or an errno. */
  postReceives(): number {
    if (this.receives.count === 0) return 0;
    this.receives.clear();
    return this.#postReceive.call();
  }

  /** Bytes of the path's MTU; 0 when it cannot be told. */
  pathMtuBytes(): number {
    const attributes = new DataView(new ArrayBuffer(AT["sizeof(ibv_qp_attr)"]));
    const initial = new Uint8Array(AT["sizeof(ibv_qp_init_attr)"]);
    const bytes = new Uint8Array(attributes.buffer);
    if (verbs().ibv_query_qp(this.#pointer, bytes, AT.IBV_QP_PATH_MTU, initial) !== 0) return 0;
    return 128 << attributes.getInt32(AT["ibv_qp_attr.path_mtu"], true);
  }
}
