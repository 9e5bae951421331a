/**
 * libibverbs, opened on first use. Only what is exported is here; the verbs of the data path are function pointers in
 * `struct ibv_context` and are bound by the objects that use them.
 *
 * @module
 */

import { addressOf } from "../libc/held_memory.ts";

const SYMBOLS = {
  ibv_get_device_list: { parameters: ["buffer"], result: "pointer" },
  ibv_free_device_list: { parameters: ["pointer"], result: "void" },
  ibv_get_device_name: { parameters: ["pointer"], result: "pointer" },
  ibv_alloc_pd: { parameters: ["pointer"], result: "pointer" },
  ibv_dealloc_pd: { parameters: ["pointer"], result: "i32" },
  ibv_reg_mr: { parameters: ["pointer", "pointer", "usize", "i32"], result: "pointer" },
  ibv_dereg_mr: { parameters: ["pointer"], result: "i32" },
  ibv_create_comp_channel: { parameters: ["pointer"], result: "pointer" },
  ibv_destroy_comp_channel: { parameters: ["pointer"], result: "i32" },
  ibv_create_cq: { parameters: ["pointer", "i32", "pointer", "pointer", "i32"], result: "pointer" },
  ibv_destroy_cq: { parameters: ["pointer"], result: "i32" },
  ibv_query_qp: { parameters: ["pointer", "buffer", "i32", "buffer"], result: "i32" },
  ibv_get_async_event: { parameters: ["pointer", "pointer"], result: "i32" },
  ibv_ack_async_event: { parameters: ["pointer"], result: "void" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Exported functions that are bound to their arguments, for the data path (see `bound_call.ts`): their addresses. */
const BOUND_SYMBOLS = {
  ibv_get_cq_event: { type: "pointer" },
  ibv_ack_cq_events: { type: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The exported functions of libibverbs that this program uses. */
export type VerbsSymbols = Deno.StaticForeignLibraryInterface<typeof SYMBOLS>;

/** What is missing for RDMA. */
export type RdmaLack = "library" | "module" | "device" | "failed";

/** Thrown when there is no RDMA here; the message says what is missing and what to do. */
export class RdmaUnavailable extends Error {
  override name = "RdmaUnavailable";
  readonly lack: RdmaLack;
  constructor(lack: RdmaLack, message: string) {
    super(message);
    this.lack = lack;
  }
}

let opened: {
  readonly called: VerbsSymbols;
  readonly bound: Deno.StaticForeignLibraryInterface<typeof BOUND_SYMBOLS>;
} | undefined;

/** A name is either called or asked for its address, hence two handles of one library. */
function open() {
  return opened ??= {
    called: openRdmaLibrary("libibverbs.so.1", "libibverbs1", SYMBOLS),
    bound: openRdmaLibrary("libibverbs.so.1", "libibverbs1", BOUND_SYMBOLS),
  };
}

/** The functions of libibverbs. Opened at the first call in an isolate; throws {@link RdmaUnavailable}. */
export function verbs(): VerbsSymbols {
  return open().called;
}

/** The address of an exported function, for `bindCall`. Throws {@link RdmaUnavailable}. */
export function verbsFunction(name: keyof typeof BOUND_SYMBOLS): number {
  return addressOf(open().bound[name]!);
}

/** Opens a library of rdma-core, for good: nothing is ever unloaded, so function pointers remain valid. */
export function openRdmaLibrary<S extends Deno.ForeignLibraryInterface>(
  soname: string,
  debianPackage: string,
  symbols: S,
): Deno.StaticForeignLibraryInterface<S> {
  try {
    return Deno.dlopen(soname, symbols).symbols;
  } catch (cause) {
    // Deno says twice that it is about a library; what comes then names it.
    const why = (cause instanceof Error ? cause.message : String(cause)).replace(/^(Could not open library: )+/, "");
    throw new RdmaUnavailable(
      "library",
      `There is no RDMA here: ${soname} cannot be opened (${why}). ` +
        `Install rdma-core (Debian: ${debianPackage} ibverbs-providers)`,
    );
  }
}
