/** Commands to device drivers. /dev/null takes any and does nothing, from Linux 6.1 on. */

import "./libc_opened.ts";
import assert from "node:assert/strict";
import { closeDescriptor, openFile, OpenFlag } from "../../ffi/libc/file.ts";
import { newEventfd } from "../../ffi/libc/process.ts";
import { CommandRing } from "../../ffi/uring/command_ring.ts";
import { UringReactor } from "../../lib/io/uring_reactor.ts";

Deno.test("CommandRing runs one command after the other, far more than it has entries", () => {
  const wake = newEventfd();
  const ring = CommandRing.open(wake);
  if (typeof ring === "number") throw new Error(`no ring: ${ring}`);
  const file = openFile("/dev/null", OpenFlag.READ_WRITE);
  for (let i = 0; i < 50; i++) assert.equal(ring.run(file, i, new Int32Array(8).fill(-1)), 0);
  assert.equal(ring.poll(), null);
  assert.equal(ring.run(9999, 1, new Int32Array(8)), -9, "a descriptor that is not open");
  assert.equal(ring.isBusy, false);
  for (const descriptor of [file, wake]) closeDescriptor(descriptor);
  ring.close();
});

Deno.test("a command's argument does not leak into operations that take its place in the ring", () => {
  const reactor = UringReactor.create({ entries: 8 });
  const results: number[] = [];
  const owner = reactor.register({ onCompletion: (_, result) => results.push(result) });
  const file = openFile("/dev/null", OpenFlag.READ_WRITE);
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 8; i++) reactor.command(owner, i, file, 1, -1, -1, 4096);
    for (let i = 0; i < 8; i++) reactor.nop(owner, i);
    for (let i = 0; i < 8; i++) reactor.flush(owner, i, file);
  }
  while (reactor.inFlightCount > 0) reactor.turn(Infinity);
  const count = (value: number) => results.filter((result) => result === value).length;
  assert.deepEqual([count(0), count(-22)], [64, 32], "/dev/null cannot be flushed; nothing else is refused");
  reactor.unregister(owner);
  closeDescriptor(file);
  reactor.dispose();
});
