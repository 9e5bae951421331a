/**
 * A process that holds a device, for the tests beside it: `lock_holder.ts PATH` holds it until killed; `lock_holder.ts
 * PATH write` also has a write of 0xab at byte 4096 in flight. Says "holding" when it does.
 *
 * @module
 */

import { SlabBufferPool } from "../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../lib/io/uring_reactor.ts";
import { DeviceFile } from "../../lib/store/leg_device.ts";
import { UringBlockStore } from "../../lib/store/uring_block_store.ts";

const [path, mode] = Deno.args;
const pool = new SlabBufferPool({ totalBytes: 4 * 1024 * 1024 });
const reactor = UringReactor.create({ pool });
const handler = {
  onBlockDone(token: number, result: number): void {
    console.log(`done ${token} ${result}`);
  },
};
const store = new UringBlockStore({ device: DeviceFile.open(path, { access: "exclusive" }), reactor, pool, handler });
if (mode === "write") {
  const slot = pool.allocate(4096);
  pool.bytes(slot).fill(0xab);
  store.write(1, slot, 4096, 4096, true);
}
// Submits the write, then says so, then waits to be killed.
reactor.turn(0);
console.log("holding");
for (;;) reactor.turn(Infinity);
