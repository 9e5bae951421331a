/**
 * RDMA devices: which there are, and what an opened one (`struct ibv_context`) tells about itself. Contexts belong to
 * librdmacm, which opens each device once and closes none; nothing here has to be closed.
 *
 * @module
 */

import { HeldMemory, readAddress } from "../libc/held_memory.ts";
import { setNonBlocking } from "../libc/file.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { RdmaUnavailable, verbs } from "./library.ts";

/** Names of this machine's RDMA devices, such as "mlx5_0" or "rxe0". Throws {@link RdmaUnavailable}. */
export function rdmaDeviceNames(): string[] {
  const list = verbs().ibv_get_device_list(null);
  const names: string[] = [];
  if (list === null) return names;
  for (let i = 0; i < 64; i++) {
    const device = readAddress(list, 8 * i);
    if (device === 0) break;
    names.push(deviceName(device));
  }
  verbs().ibv_free_device_list(list);
  return names;
}

/** Throws {@link RdmaUnavailable} that says what is missing, unless there is an RDMA device. */
export function requireRdmaDevice(): void {
  if (rdmaDeviceNames().length > 0) return;
  throw new RdmaUnavailable(
    "device",
    "There is no RDMA device here (ibv_devices lists none). Load its driver; without such hardware, soft-RoCE needs the " +
      "module rdma_rxe: modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0",
  );
}

function deviceName(address: number): string {
  const name = verbs().ibv_get_device_name(Deno.UnsafePointer.create(BigInt(address)));
  return name === null ? "unknown" : new Deno.UnsafePointerView(name).getCString();
}

/** An opened device. */
export class VerbsContext {
  readonly pointer: Deno.PointerObject;
  readonly name: string;
  readonly #event = new HeldMemory(AT["sizeof(ibv_async_event)"]);

  /** @param address of a `struct ibv_context` that librdmacm keeps open. LIFETIME: the process. */
  constructor(address: number) {
    this.pointer = Deno.UnsafePointer.create(BigInt(address))!;
    this.name = deviceName(readAddress(this.pointer, AT["ibv_context.device"]));
  }

  /** Address of one of the functions that the device's provider has put into the context. */
  operation(name: "poll_cq" | "req_notify_cq" | "post_send" | "post_recv"): number {
    return readAddress(this.pointer, AT[`ibv_context.ops.${name}`]);
  }

  /** Descriptor that becomes readable when the device has something to tell; made non-blocking. */
  openEvents(): number {
    const descriptor = new Deno.UnsafePointerView(this.pointer).getInt32(AT["ibv_context.async_fd"]);
    setNonBlocking(descriptor);
    return descriptor;
  }

  /** Takes the next event of the device and acknowledges it. Its type, or -1 when there is none. */
  takeEvent(): number {
    if (verbs().ibv_get_async_event(this.pointer, this.#event.pointer) !== 0) return -1;
    const type = this.#event.view.getInt32(AT["ibv_async_event.event_type"], true);
    verbs().ibv_ack_async_event(this.#event.pointer);
    return type;
  }
}
