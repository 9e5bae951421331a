/**
 * The stage for streams within one machine, on one io_uring reactor: side 0 lends its memory, side 1 borrows it. Side 1
 * can look into borrowed memory, which is what the kernel does for a real node.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { BufferPool } from "../../../lib/io/buffer_pool.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { LocalNetwork } from "../../../lib/transport/local_network.ts";
import { BorrowingPool } from "../../../lib/transport/payload_sharing.ts";
import { TcpTransport } from "../../../lib/transport/tcp_transport.ts";
import { UringNetwork } from "../../../lib/transport/uring_network.ts";
import { checkClean, type Harness, type HarnessOptions, makeSides, POOL_BYTES } from "./harness.ts";
import { turnUntil } from "./uring_harness.ts";

// libc is opened when first needed and stays open; here, so that no test is blamed for it.
UringReactor.create({ entries: 8, completionEntries: 256 }).dispose();

class ReadablePool extends BorrowingPool {
  override bytes(slot: number): Uint8Array {
    if (slot < 1 << 24) return super.bytes(slot);
    const pointer = Deno.UnsafePointer.create(BigInt(this.address(slot)));
    return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer!, this.capacity(slot)));
  }
}

/** What the sharing tests look at besides. */
export interface LocalHarness extends Harness {
  readonly reactor: UringReactor;
  readonly lender: SlabBufferPool;
  readonly transports: readonly TcpTransport[];
}

/** @param lends whether side 0 shares its memory; otherwise it connects by TCP */
export function localHarness(options: HarnessOptions, lends = true): LocalHarness {
  const lender = new SlabBufferPool({ totalBytes: POOL_BYTES, shareable: true });
  const reactor = UringReactor.create({ entries: 256, completionEntries: 256, pool: lender });
  const borrower = new ReadablePool(new SlabBufferPool({ totalBytes: POOL_BYTES }));
  const pools: BufferPool[] = [lender, borrower];
  const transports: TcpTransport[] = [];
  const tcp = new UringNetwork(reactor);
  const report = () => {};
  const sides = makeSides((pool, handler) => {
    const network = new LocalNetwork({
      reactor,
      network: tcp,
      lend: pool === lender && lends ? lender : null,
      borrow: pool === borrower ? borrower : null,
      report,
    });
    const transport = new TcpTransport(network, pool, handler, { ...options, report });
    transports.push(transport);
    return transport;
  }, () => pools.shift()!);

  const until = (condition: () => boolean) => turnUntil(reactor, sides, condition);

  return {
    sides,
    reactor,
    lender,
    transports,
    anyAddress: "127.0.0.1:0",
    deadAddress: "127.0.0.1:1",
    until,
    damageNext: null,
    close(): void {
      for (const transport of transports) transport.closeAll();
      until(() => transports.every((transport) => transport.connectionCount === 0) && reactor.inFlightCount === 0);
      reactor.dispose();
      checkClean(sides);
      assert.equal(lender.heldBytes, 0, "Nothing is held any more");
    },
  };
}
