/**
 * Where the connection manager tells what happens to its ids.
 *
 * @module
 */

import { errnoName } from "../libc/errno.ts";
import { setNonBlocking } from "../libc/file.ts";
import { HeldMemory, readAddress } from "../libc/held_memory.ts";
import { errno } from "../libc/library.ts";
import { RdmaUnavailable } from "../verbs/library.ts";
import { RDMACM_LAYOUT as AT } from "./layout.ts";
import { rdmaCm } from "./library.ts";

/** One thing that has happened. */
export interface CmEvent {
  /** Address of the id it happened to; for a request to connect a new one. */
  readonly id: number;
  /** Address of the id that listens, for a request to connect; else 0. */
  readonly listenId: number;
  /** One of `CmEventType`. */
  readonly type: number;
  /** A negative errno, or a reason of the device. */
  readonly status: number;
  /** What the peer gave along with its request or answer. */
  readonly privateData: Uint8Array;
}

/** Owns one `struct rdma_event_channel`. */
export class CmEventChannel {
  readonly pointer: Deno.PointerObject;
  readonly descriptor: number;
  readonly #out = new HeldMemory(8);

  /** Throws {@link RdmaUnavailable}. */
  constructor() {
    const pointer = rdmaCm().rdma_create_event_channel();
    if (pointer === null) {
      throw new RdmaUnavailable(
        "module",
        `RDMA connections cannot be made here: ${errnoName(errno())}. Load the module rdma_ucm (modprobe rdma_ucm)`,
      );
    }
    this.pointer = pointer;
    this.descriptor = new Deno.UnsafePointerView(pointer).getInt32(AT["rdma_event_channel.fd"]);
    setNonBlocking(this.descriptor);
  }

  /** Takes the next event, acknowledged: nothing of it may be waited for when its id is destroyed. Null when there is none. */
  takeEvent(): CmEvent | null {
    if (rdmaCm().rdma_get_cm_event(this.pointer, this.#out.pointer) !== 0) return null;
    const pointer = Deno.UnsafePointer.create(this.#out.view.getBigUint64(0, true))!;
    const view = new Deno.UnsafePointerView(pointer);
    const lengthBytes = view.getUint8(AT["rdma_cm_event.param.conn.private_data_len"]);
    const data = view.getPointer(AT["rdma_cm_event.param.conn.private_data"]);
    const privateData = new Uint8Array(data === null ? 0 : lengthBytes);
    if (privateData.length > 0) new Deno.UnsafePointerView(data!).copyInto(privateData);
    const event = {
      id: readAddress(pointer, AT["rdma_cm_event.id"]),
      listenId: readAddress(pointer, AT["rdma_cm_event.listen_id"]),
      type: view.getInt32(AT["rdma_cm_event.event"]),
      status: view.getInt32(AT["rdma_cm_event.status"]),
      privateData,
    };
    rdmaCm().rdma_ack_cm_event(pointer);
    return event;
  }

  /** After all its ids. */
  close(): void {
    rdmaCm().rdma_destroy_event_channel(this.pointer);
  }
}
