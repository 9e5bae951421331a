/**
 * Registered memory: pages that the device may reach, with keys to name them by.
 *
 * @module
 */

import { errnoName } from "../libc/errno.ts";
import { errno } from "../libc/library.ts";
import { VERBS_LAYOUT as AT } from "./layout.ts";
import { RdmaUnavailable, verbs } from "./library.ts";
import type { ProtectionDomain } from "./protection_domain.ts";

/** Owns one `struct ibv_mr`. LIFETIME: the memory stays mapped until `close` has returned; from then on no device reaches it. */
export class MemoryRegion {
  /** Names the region in work requests of this side. */
  readonly localKey: number;
  /** Names the region in work requests of the peer; only good with remote access. */
  readonly remoteKey: number;
  readonly lengthBytes: number;
  readonly #pointer: Deno.PointerObject;
  #isClosed = false;

  /** @param access IBV_ACCESS_* */
  constructor(domain: ProtectionDomain, address: number, lengthBytes: number, access: number) {
    const memory = Deno.UnsafePointer.create(BigInt(address));
    const pointer = verbs().ibv_reg_mr(domain.pointer, memory, BigInt(lengthBytes), access);
    if (pointer === null) {
      throw new RdmaUnavailable(
        "failed",
        `${lengthBytes} bytes cannot be registered for RDMA: ${errnoName(errno())}. ` +
          `Raise the limit of locked memory (ulimit -l) or give the process CAP_IPC_LOCK`,
      );
    }
    const view = new Deno.UnsafePointerView(pointer);
    this.#pointer = pointer;
    this.lengthBytes = lengthBytes;
    this.localKey = view.getUint32(AT["ibv_mr.lkey"]);
    this.remoteKey = view.getUint32(AT["ibv_mr.rkey"]);
  }

  /** 0, or an errno. */
  close(): number {
    if (this.#isClosed) return 0;
    this.#isClosed = true;
    return verbs().ibv_dereg_mr(this.#pointer);
  }
}
