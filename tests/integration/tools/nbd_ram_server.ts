/**
 * An NBD server over a pool in memory, for the tools of the conformance test (and to measure the frontend by itself).
 *
 *     deno run --allow-ffi --allow-read --allow-write tests/integration/tools/nbd_ram_server.ts ADDRESS [SIZE_MIB] [BLOCK_BYTES] [read-only]
 *
 * Prints `ready URI` when it listens, and serves until it is killed.
 *
 * @module
 */

import { openNbdServer } from "../../../lib/frontend/nbd_listener.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";
import { RamHost } from "../../unit/frontend/ram_host.ts";

const [address, sizeMib = "64", blockBytes = "512", access = ""] = Deno.args;
const pool = new SlabBufferPool({ totalBytes: 64 << 20 });
const reactor = UringReactor.create({ entries: 1024, completionEntries: 256, pool });
const host = new RamHost(pool, {
  sizeBytes: Number(sizeMib) << 20,
  logicalBlockBytes: Number(blockBytes),
  readOnly: access === "read-only",
});
host.keepsLog = false;
const server = openNbdServer({ reactor, pool, host, address });
host.frontend = server;
console.log(`ready ${server.uri}`);
for (;;) {
  reactor.turn(host.pending.length > 0 ? 0 : Infinity);
  do {
    if (host.completeAll() > 0) server.onReady();
    server.flushSends();
  } while (host.pending.length > 0);
}
