import assert from "node:assert/strict";
import "./libc_opened.ts";
import { Errno } from "../../ffi/libc/errno.ts";
import { EnterFlag, Feature, Opcode, RegisterOp, SetupFlag } from "../../ffi/uring/constants.ts";
import { runningKernel, type UringKernel, UringRing, UringUnavailable } from "../../ffi/uring/ring.ts";
import { UringReactor } from "../../lib/io/uring_reactor.ts";

/** The running kernel, with set-up refused for flags in `unknownFlags`, as an older one does. */
function kernelWithout(unknownFlags: number, seen: number[] = []): UringKernel {
  return {
    setup(entries, params) {
      seen.push(params[2]);
      return (params[2] & unknownFlags) !== 0 ? -Errno.EINVAL : runningKernel.setup(entries, params);
    },
    register: (ring, op, argument, count) => runningKernel.register(ring, op, argument, count),
  };
}

function refusalOf(kernel: UringKernel): UringUnavailable {
  try {
    UringReactor.create({ entries: 8, completionEntries: 256, kernel });
  } catch (error) {
    assert.ok(error instanceof UringUnavailable, String(error));
    return error;
  }
  assert.fail("the kernel should have been refused");
}

/** One NOP through the ring: the user data that comes back. */
function roundTrip(ring: UringRing): number {
  ring.sqes[0] = Opcode.NOP;
  ring.sqes[8] = 4711;
  Atomics.store(ring.words, ring.sqTailIndex, 1);
  assert.equal(ring.enter(1, 1, EnterFlag.GETEVENTS), 1);
  assert.equal(Atomics.load(ring.words, ring.cqTailIndex), 1);
  return ring.words[ring.cqesIndex];
}

Deno.test("a ring takes an entry and gives its completion, with whatever flags the kernel has", () => {
  const sets = [
    0,
    SetupFlag.NO_SQARRAY,
    SetupFlag.DEFER_TASKRUN,
    SetupFlag.DEFER_TASKRUN | SetupFlag.COOP_TASKRUN,
    SetupFlag.DEFER_TASKRUN | SetupFlag.COOP_TASKRUN | SetupFlag.SUBMIT_ALL,
  ];
  for (const unknown of sets) {
    const seen: number[] = [];
    const ring = UringRing.open(8, 32, kernelWithout(unknown, seen));
    assert.equal(ring.setupFlags & unknown, 0, `flags ${ring.setupFlags.toString(16)}`);
    assert.equal(ring.sqEntries, 8);
    assert.equal(ring.cqEntries, 32);
    assert.equal(roundTrip(ring), 4711);
    ring.unregisterAll();
    ring.close();
    // Flags are given up one set at a time, never asked for twice.
    assert.equal(new Set(seen).size, seen.length);
  }
});

Deno.test("enterFor() returns -ETIME when its time is over", () => {
  const ring = UringRing.open(8, 32);
  const before = performance.now();
  assert.equal(ring.enterFor(0, 1, EnterFlag.GETEVENTS, 12.5), -Errno.ETIME);
  const elapsedMs = performance.now() - before;
  assert.ok(elapsedMs >= 12, `${elapsedMs}`);
  ring.close();
});

Deno.test("a missing io_uring is refused with what to do", () => {
  const refusal = refusalOf({ ...runningKernel, setup: () => -Errno.ENOSYS });
  assert.equal(refusal.reason, "missing");
  assert.match(refusal.message, /no io_uring \(ENOSYS\).*CONFIG_IO_URING.*seccomp/);
});

Deno.test("a disabled io_uring is refused with what to do", () => {
  const refusal = refusalOf({ ...runningKernel, setup: () => -Errno.EPERM });
  assert.equal(refusal.reason, "disabled");
  assert.match(refusal.message, /kernel\.io_uring_disabled=0/);
});

Deno.test("lack of memory and of descriptors are told apart", () => {
  const noMemory = refusalOf({ ...runningKernel, setup: () => -Errno.ENOMEM });
  assert.equal(noMemory.reason, "no-memory");
  assert.match(noMemory.message, /ulimit -l/);
  const noFiles = refusalOf({ ...runningKernel, setup: () => -Errno.EMFILE });
  assert.equal(noFiles.reason, "failed");
  assert.match(noFiles.message, /ulimit -n/);
});

Deno.test("a kernel without a needed feature is refused", () => {
  for (const feature of [Feature.EXT_ARG, Feature.NODROP, Feature.SINGLE_MMAP]) {
    const refusal = refusalOf({
      ...runningKernel,
      setup(entries, params) {
        const descriptor = runningKernel.setup(entries, params);
        params[5] &= ~feature;
        return descriptor;
      },
    });
    assert.equal(refusal.reason, "too-old");
    assert.match(refusal.message, /Linux 5\.11 or newer/);
  }
});

Deno.test("a kernel that lacks an operation is refused by the name of the operation", () => {
  const refusal = refusalOf({
    ...runningKernel,
    register(ring, op, argument, count) {
      const result = runningKernel.register(ring, op, argument, count);
      if (op === RegisterOp.PROBE) {
        const probe = argument as Uint8Array;
        for (const opcode of [Opcode.SHUTDOWN, Opcode.SEND]) probe[16 + opcode * 8 + 2] = 0;
      }
      return result;
    },
  });
  assert.equal(refusal.reason, "too-old");
  assert.match(refusal.message, /lacks SEND, SHUTDOWN/);
});

Deno.test("a kernel on which every flag set is invalid is refused, not asked for ever", () => {
  let asked = 0;
  const refusal = refusalOf({
    ...runningKernel,
    setup() {
      asked++;
      return -Errno.EINVAL;
    },
  });
  assert.equal(refusal.reason, "failed");
  assert.match(refusal.message, /EINVAL/);
  assert.ok(asked >= 2 && asked < 20);
});
