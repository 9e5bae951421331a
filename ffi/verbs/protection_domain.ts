/**
 * A protection domain: a queue pair reaches only memory that was registered in its own.
 *
 * @module
 */

import { errnoName } from "../libc/errno.ts";
import { errno } from "../libc/library.ts";
import type { VerbsContext } from "./device.ts";
import { RdmaUnavailable, verbs } from "./library.ts";

/** Owns one `struct ibv_pd`. What was made in it is closed before it. */
export class ProtectionDomain {
  readonly pointer: Deno.PointerObject;
  #isClosed = false;

  constructor(context: VerbsContext) {
    const pointer = verbs().ibv_alloc_pd(context.pointer);
    if (pointer === null) throw new RdmaUnavailable("failed", `ibv_alloc_pd failed: ${errnoName(errno())}`);
    this.pointer = pointer;
  }

  /** 0, or an errno. */
  close(): number {
    if (this.#isClosed) return 0;
    this.#isClosed = true;
    return verbs().ibv_dealloc_pd(this.pointer);
  }
}
