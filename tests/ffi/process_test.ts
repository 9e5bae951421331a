import assert from "node:assert/strict";
import "./libc_opened.ts";
import { closeDescriptor, openFile, OpenFlag, readAt } from "../../ffi/libc/file.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { libc } from "../../ffi/libc/library.ts";
import { mapAnonymous, pointerTo } from "../../ffi/libc/memory.ts";
import {
  getLimit,
  Limit,
  monotonicMs,
  nameThread,
  newEventfd,
  raiseLimit,
  setLimit,
  wakeEventfd,
} from "../../ffi/libc/process.ts";

Deno.test("monotonicMs() runs with performance.now(), in milliseconds", async () => {
  // Each span read from within holds for the span around it, however long this thread was kept from running.
  const outer = performance.now();
  const before = monotonicMs();
  const inner = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 30));
  const innerMs = performance.now() - inner;
  const elapsedMs = monotonicMs() - before;
  const outerMs = performance.now() - outer;
  // The runtime's clock may be coarser than the kernel's.
  assert.ok(innerMs - 1 <= elapsedMs && elapsedMs <= outerMs + 1, `${innerMs} <= ${elapsedMs} <= ${outerMs}`);
});

Deno.test("an eventfd counts its wake-ups", () => {
  const descriptor = newEventfd();
  assert.ok(descriptor >= 0);
  for (let i = 0; i < 3; i++) assert.equal(wakeEventfd(descriptor), 0);
  const memory = mapAnonymous(4096);
  assert.equal(libc().read(descriptor, pointerTo(memory.address), 8n), 8n);
  assert.equal(new Uint32Array(memory.buffer)[0], 3);
  closeDescriptor(descriptor);
  assert.equal(wakeEventfd(descriptor), -Errno.EBADF);
});

Deno.test("a failed call's errno is that of the call before, not of an earlier one", () => {
  const memory = mapAnonymous(4096);
  for (let i = 0; i < 1000; i++) {
    assert.equal(readAt(-1, memory.address, 1, 0), -Errno.EBADF);
    assert.equal(readAt(0, memory.address, 1, -1), -Errno.EINVAL);
  }
});

Deno.test("limits are read, lowered and raised to the hard limit", () => {
  const before = getLimit(Limit.OPEN_FILES);
  assert.ok(typeof before !== "number");
  try {
    assert.equal(setLimit(Limit.OPEN_FILES, 256, before.hard), 0);
    const lowered = getLimit(Limit.OPEN_FILES);
    assert.ok(typeof lowered !== "number" && lowered.soft === 256);
    assert.equal(raiseLimit(Limit.OPEN_FILES), before.hard);
  } finally {
    assert.equal(setLimit(Limit.OPEN_FILES, before.soft, before.hard), 0);
  }
  assert.equal(getLimit(99), -Errno.EINVAL);
});

/** The kernel's name of the calling thread. By the C library: it stays on this thread, and needs no further permission. */
function threadName(): string {
  const descriptor = openFile("/proc/thread-self/comm", OpenFlag.READ_ONLY);
  assert.ok(descriptor >= 0, String(descriptor));
  // LIFETIME: the kernel writes to it only within the call.
  const memory = mapAnonymous(4096);
  const count = readAt(descriptor, memory.address, 64, 0);
  assert.equal(closeDescriptor(descriptor), 0);
  return new TextDecoder().decode(new Uint8Array(memory.buffer, 0, count)).trim();
}

Deno.test("nameThread() shows in the kernel's name of the thread", () => {
  const before = threadName();
  try {
    assert.equal(nameThread("brmr-test"), 0);
    assert.equal(threadName(), "brmr-test");
  } finally {
    nameThread(before);
  }
});
