/**
 * librdmacm, opened on first use.
 *
 * @module
 */

import { openRdmaLibrary } from "../verbs/library.ts";

const SYMBOLS = {
  rdma_create_event_channel: { parameters: [], result: "pointer" },
  rdma_destroy_event_channel: { parameters: ["pointer"], result: "void" },
  rdma_get_cm_event: { parameters: ["pointer", "pointer"], result: "i32" },
  rdma_ack_cm_event: { parameters: ["pointer"], result: "i32" },
  rdma_create_id: { parameters: ["pointer", "pointer", "pointer", "i32"], result: "i32" },
  rdma_destroy_id: { parameters: ["pointer"], result: "i32" },
  rdma_bind_addr: { parameters: ["pointer", "buffer"], result: "i32" },
  rdma_listen: { parameters: ["pointer", "i32"], result: "i32" },
  rdma_get_src_port: { parameters: ["pointer"], result: "u16" },
  rdma_resolve_addr: { parameters: ["pointer", "pointer", "buffer", "i32"], result: "i32" },
  rdma_resolve_route: { parameters: ["pointer", "i32"], result: "i32" },
  rdma_set_option: { parameters: ["pointer", "i32", "i32", "buffer", "usize"], result: "i32" },
  rdma_create_qp: { parameters: ["pointer", "pointer", "pointer"], result: "i32" },
  rdma_destroy_qp: { parameters: ["pointer"], result: "void" },
  /** The same on a thread of its own. */
  destroyQueuePairAside: { name: "rdma_destroy_qp", parameters: ["pointer"], result: "void", nonblocking: true },
  rdma_connect: { parameters: ["pointer", "pointer"], result: "i32" },
  rdma_accept: { parameters: ["pointer", "pointer"], result: "i32" },
  rdma_reject: { parameters: ["pointer", "pointer", "u8"], result: "i32" },
  rdma_disconnect: { parameters: ["pointer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of librdmacm that this program uses. */
export type RdmaCmSymbols = Deno.StaticForeignLibraryInterface<typeof SYMBOLS>;

let opened: RdmaCmSymbols | undefined;

/** The functions of librdmacm. Throws `RdmaUnavailable` when it is not installed. */
export function rdmaCm(): RdmaCmSymbols {
  return opened ??= openRdmaLibrary("librdmacm.so.1", "librdmacm1", SYMBOLS);
}
