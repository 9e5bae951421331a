/** A queue pair is made with as much inline data as the device has, and with none where it has none. */

import assert from "node:assert/strict";
import { HeldMemory } from "../../ffi/libc/held_memory.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { makeQueuePair } from "../../ffi/verbs/queue_pair.ts";

const queue = { pointer: new HeldMemory(8).pointer };
const limits = { sendRequests: 512, receiveRequests: 128, inlineBytes: 256 };
/** `struct ibv_qp_init_attr`: offsets of `cap`'s fields. */
const MAX_SEND_WR = 32, MAX_RECV_WR = 36, MAX_INLINE_DATA = 48;

/** A device that grants `mostBytes`, refuses more and writes down what it gives; what it was asked for. */
function device(mostBytes: number, errno: number = Errno.EINVAL, given = (asked: number) => asked) {
  const asked: number[] = [];
  const create = ({ view }: HeldMemory) => {
    assert.equal(view.getUint32(MAX_SEND_WR, true), 512);
    assert.equal(view.getUint32(MAX_RECV_WR, true), 128);
    const bytes = view.getUint32(MAX_INLINE_DATA, true);
    asked.push(bytes);
    view.setUint32(MAX_SEND_WR, 0, true); // what a refused attempt leaves there is not asked for again
    if (bytes > mostBytes) return -errno;
    view.setUint32(MAX_INLINE_DATA, given(bytes), true);
    return 0x1000;
  };
  return { create, asked };
}

Deno.test("a device that has less inline data than is wished for is asked for less, down to none", () => {
  const cases = [[512, 256], [256, 256], [229, 128], [101, 96], [48, 0], [0, 0]];
  for (const [mostBytes, inlineBytes] of cases) {
    const { create } = device(mostBytes);
    assert.deepEqual(makeQueuePair(queue, limits, create), { address: 0x1000, inlineBytes });
  }
});

Deno.test("what the device says that it gave counts, and more than was wished for is not used", () => {
  assert.equal(makeQueuePair(queue, limits, device(512, Errno.EINVAL, () => 64).create).inlineBytes, 64);
  assert.equal(makeQueuePair(queue, limits, device(512, Errno.EINVAL, () => 800).create).inlineBytes, 256);
});

Deno.test("a queue pair that is refused without any inline data is refused with that errno; others are not tried again", () => {
  const full = device(-1);
  assert.deepEqual(makeQueuePair(queue, limits, full.create), { address: -Errno.EINVAL, inlineBytes: 0 });
  assert.deepEqual(full.asked, [256, 128, 96, 0]);
  const gone = device(-1, Errno.ENODEV);
  assert.deepEqual(makeQueuePair(queue, limits, gone.create), { address: -Errno.ENODEV, inlineBytes: 0 });
  assert.deepEqual(gone.asked, [256]);
  // An older librdmacm says ENOMEM, whatever the device said.
  assert.equal(makeQueuePair(queue, limits, device(101, Errno.ENOMEM).create).inlineBytes, 96);
});
