import assert from "node:assert/strict";
import { Completions, drain, turnUntil } from "./turn_until.ts";
import { Errno } from "../../../ffi/libc/errno.ts";
import { closeDescriptor, statusOf } from "../../../ffi/libc/file.ts";
import { mapAnonymous, mapDescriptor } from "../../../ffi/libc/memory.ts";
import { getLimit, Limit, setLimit, wakeEventfd } from "../../../ffi/libc/process.ts";
import { newSocketPair } from "../../../ffi/libc/socket.ts";
import { Opcode, POLL_FIRST, RegisterOp, SetupFlag, SQE_WORDS } from "../../../ffi/uring/constants.ts";
import { runningKernel } from "../../../ffi/uring/ring.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";

function withReactor(entries: number, body: (reactor: UringReactor, done: Completions, owner: number) => void): void {
  const reactor = UringReactor.create({ entries, completionEntries: 256 });
  const done = new Completions();
  try {
    body(reactor, done, reactor.register(done));
    drain(reactor);
  } finally {
    reactor.dispose();
  }
}

Deno.test("turn() waits for its deadline and no longer", () => {
  withReactor(8, (reactor) => {
    const startMs = reactor.clockMs();
    assert.equal(reactor.turn(startMs + 25), 0);
    const elapsedMs = reactor.nowMs - startMs;
    assert.ok(elapsedMs >= 24.9, `${elapsedMs}`);
    assert.equal(reactor.turn(0), 0);
    assert.equal(reactor.turn(startMs), 0);
  });
});

Deno.test("a turn that gathers returns with one completion when the time is over, at once with enough, and never empty", () => {
  withReactor(8, (reactor, done, owner) => {
    // Enough: the hour of gathering is not waited for.
    for (let i = 0; i < 4; i++) reactor.nop(owner, i);
    assert.equal(reactor.turn(Infinity, 3_600_000_000, 4), 4);
    // Fewer than enough: a turn ends all the same, and has what there is.
    reactor.nop(owner, 4);
    assert.equal(reactor.turn(Infinity, 20_000, 100), 1);
    assert.equal(done.list.length, 5);
    // The deadline comes before the gathering is over.
    const startMs = reactor.clockMs();
    assert.equal(reactor.turn(startMs + 10, 3_600_000_000, 100), 0);
    assert.ok(reactor.nowMs - startMs < 3_600_000, "The hour was not waited for");
  });
});

Deno.test("wake() ends a turn that would wait for ever, also before it began, from here or by the descriptor", () => {
  withReactor(8, (reactor) => {
    for (let i = 0; i < 5; i++) {
      reactor.wake();
      assert.equal(reactor.turn(Infinity), 1);
      assert.equal(wakeEventfd(reactor.wakeDescriptor), 0);
      assert.equal(reactor.turn(Infinity), 1);
    }
    assert.equal(reactor.inFlightCount, 0);
  });
});

Deno.test("a wake-up from another thread ends a turn that waits", async () => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  const worker = new Worker(new URL("./waker_worker.ts", import.meta.url).href, { type: "module" });
  await new Promise((resolve) => worker.onmessage = resolve);
  worker.postMessage({ eventfd: reactor.wakeDescriptor, afterMs: 30 });
  const startMs = reactor.clockMs();
  assert.equal(reactor.turn(startMs + 20_000), 1);
  assert.ok(reactor.nowMs - startMs < 20_000);
  worker.terminate();
  reactor.dispose();
});

Deno.test("completions go to their owner with their token, once, and never from within the preparing call", () => {
  withReactor(8, (reactor, first, firstOwner) => {
    const second = new Completions();
    const secondOwner = reactor.register(second);
    reactor.nop(firstOwner, 0xffffffff);
    reactor.nop(secondOwner, 5);
    reactor.nop(firstOwner, 0);
    assert.equal(reactor.inFlightCount, 3);
    assert.equal(first.list.length + second.list.length, 0);
    assert.equal(reactor.turn(Infinity), 3);
    assert.deepEqual(first.list.map((one) => one.token), [0xffffffff, 0]);
    assert.deepEqual(second.list.map((one) => one.token), [5]);
    assert.equal(reactor.inFlightCount, 0);
  });
});

Deno.test("more operations than the ring has entries are submitted as needed", () => {
  withReactor(8, (reactor, done, owner) => {
    for (let token = 0; token < 3000; token++) reactor.nop(owner, token);
    drain(reactor);
    assert.deepEqual(done.list.map((one) => one.token), Array.from({ length: 3000 }, (_, i) => i));
  });
});

Deno.test("when completions overflow their ring none is lost, and order is kept", () => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 8 });
  const done = new Completions();
  const owner = reactor.register(done);
  for (let token = 0; token < 500; token++) reactor.nop(owner, token);
  drain(reactor);
  assert.deepEqual(done.list.map((one) => one.token), Array.from({ length: 500 }, (_, i) => i));
  reactor.dispose();
});

Deno.test("handlers may prepare more than the ring holds, while completions overflow", () => {
  const reactor = UringReactor.create({ entries: 4, completionEntries: 4 });
  let completed = 0;
  const owner = reactor.register({
    onCompletion(token) {
      completed++;
      // A tree: every operation of a generation prepares three of the next.
      if (token < 5) { for (let i = 0; i < 3; i++) reactor.nop(owner, token + 1); }
    },
  });
  reactor.nop(owner, 0);
  drain(reactor);
  assert.equal(completed, 1 + 3 + 9 + 27 + 81 + 243);
  reactor.dispose();
});

Deno.test("a kernel that does not defer completions works the same", () => {
  const kernel = {
    ...runningKernel,
    setup(entries: number, params: Uint32Array<ArrayBuffer>) {
      const lacking = SetupFlag.DEFER_TASKRUN | SetupFlag.COOP_TASKRUN | SetupFlag.SUBMIT_ALL;
      return (params[2] & lacking) !== 0 ? -Errno.EINVAL : runningKernel.setup(entries, params);
    },
  };
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256, kernel });
  assert.equal(reactor.setupFlags & SetupFlag.DEFER_TASKRUN, 0);
  const done = new Completions();
  const owner = reactor.register(done);
  for (let token = 0; token < 100; token++) reactor.nop(owner, token);
  drain(reactor);
  assert.equal(done.list.length, 100);
  reactor.wake();
  assert.equal(reactor.turn(Infinity), 1);
  reactor.dispose();
});

Deno.test("a receive says that it had better wait only to a kernel that knows what that is", () => {
  const { COOP_TASKRUN, DEFER_TASKRUN, SUBMIT_ALL } = SetupFlag;
  // A kernel before 5.19 knows none of them, and may refuse an entry that says something it does not know.
  const old = { isOld: true, lacking: DEFER_TASKRUN | COOP_TASKRUN | SUBMIT_ALL };
  for (const { isOld, lacking } of [old, { isOld: false, lacking: DEFER_TASKRUN }, { isOld: false, lacking: 0 }]) {
    let entries = new Int32Array(0);
    const kernel = {
      ...runningKernel,
      setup(count: number, params: Uint32Array<ArrayBuffer>) {
        if ((params[2] & lacking) !== 0) return -Errno.EINVAL;
        const ring = runningKernel.setup(count, params);
        if (ring >= 0) entries = new Int32Array(mapDescriptor(ring, 4096, 0x10000000).buffer);
        return ring;
      },
    };
    const reactor = UringReactor.create({ entries: 8, completionEntries: 256, kernel });
    const hasTaskrun = (reactor.setupFlags & (COOP_TASKRUN | DEFER_TASKRUN)) !== 0;
    if (isOld) assert.equal(hasTaskrun, false);
    const pair = newSocketPair();
    assert.ok(typeof pair !== "number");
    const memory = mapAnonymous(4096);
    const owner = reactor.register(new Completions());
    reactor.send(owner, 1, pair[0], memory.address, 1, true);
    for (const pollFirst of [true, false]) {
      reactor.receive(owner, 2, pair[1], memory.address + 8, 1, false, pollFirst);
      reactor.send(owner, 1, pair[0], memory.address, 1, true);
    }
    const said: number[] = [];
    for (let at = 0; at < 8 * SQE_WORDS; at += SQE_WORDS) {
      if ((entries[at] & 0xff) === Opcode.RECV) said.push(entries[at] >>> 16);
    }
    assert.deepEqual(said, [hasTaskrun ? POLL_FIRST : 0, 0]);
    drain(reactor);
    for (const descriptor of pair) closeDescriptor(descriptor);
    reactor.dispose();
  }
});

Deno.test("memory of others that is longer than one registered buffer may be is used unregistered", () => {
  let updates = 0;
  const kernel = {
    ...runningKernel,
    register(ring: number, op: number, argument: BufferSource | null, count: number) {
      if (op === RegisterOp.BUFFERS_UPDATE) updates++;
      return runningKernel.register(ring, op, argument, count);
    },
  };
  const pool = new SlabBufferPool({ totalBytes: 1 << 20 });
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256, pool, kernel });
  assert.equal(reactor.hasFixedBuffers, true, reactor.fixedBuffersRefusal);
  const { address } = mapAnonymous(8192);
  // As much more as a length of 32 bits does not show.
  for (const lengthBytes of [2 ** 32 + 8192, 2 ** 30 + 4096]) {
    assert.equal(reactor.registerMemory(address, lengthBytes), -1);
  }
  assert.equal(updates, 0, "the kernel is not asked");
  const place = reactor.registerMemory(address, 8192);
  assert.ok(place >= 0, "what fits is registered");
  reactor.unregisterMemory(place);
  reactor.dispose();
});

Deno.test("without locked memory the pool is used unregistered, and the reactor says why", () => {
  const kernel = {
    ...runningKernel,
    register: (ring: number, op: number, argument: BufferSource | null, count: number) =>
      op === RegisterOp.BUFFERS ? -Errno.ENOMEM : runningKernel.register(ring, op, argument, count),
  };
  const pool = new SlabBufferPool({ totalBytes: 1 << 20 });
  const refused = UringReactor.create({ entries: 8, completionEntries: 256, pool, kernel });
  assert.equal(refused.hasFixedBuffers, false);
  assert.match(refused.fixedBuffersRefusal, /ENOMEM.*ulimit -l/);
  refused.dispose();
  const taken = UringReactor.create({ entries: 8, completionEntries: 256, pool });
  assert.equal(taken.hasFixedBuffers, true, taken.fixedBuffersRefusal);
  taken.dispose();
});

Deno.test("fixed files: used while there is room, the raw descriptor when the table is full", () => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256, fixedFiles: 2 });
  const pair = newSocketPair();
  assert.ok(typeof pair !== "number");
  const [a, b] = pair;
  assert.equal(reactor.registerFile(a), -1);
  assert.equal(reactor.registerFile(b), -2);
  assert.equal(reactor.registerFile(b), b);
  reactor.unregisterFile(b);
  const memory = mapAnonymous(4096);
  const bytes = new Uint8Array(memory.buffer);
  const done = new Completions();
  const owner = reactor.register(done);
  bytes[0] = 99;
  reactor.send(owner, 1, -1, memory.address, 1, true);
  reactor.receive(owner, 2, -2, memory.address + 1, 1, false);
  // Taking a place back while an operation on it is prepared does not pull the file from under it.
  reactor.unregisterFile(-1);
  drain(reactor);
  assert.deepEqual(done.list.map((one) => one.result), [1, 1]);
  assert.equal(bytes[1], 99);
  assert.equal(reactor.registerFile(a), -1);
  reactor.unregisterFile(-1);
  reactor.unregisterFile(-2);
  assert.throws(() => reactor.unregisterFile(-2), /a fixed file is registered/);
  closeDescriptor(a);
  closeDescriptor(b);
  reactor.dispose();
});

Deno.test("cancel() ends what waits, with -ECANCELED, and only that", () => {
  const pair = newSocketPair();
  assert.ok(typeof pair !== "number");
  const memory = mapAnonymous(4096);
  withReactor(8, (reactor, done, owner) => {
    reactor.receive(owner, 1, pair[0], memory.address, 10, false);
    reactor.receive(owner, 2, pair[1], memory.address + 16, 10, false);
    reactor.turn(0);
    reactor.cancel(owner, 1);
    reactor.cancel(owner, 77); // nothing of that token: no effect
    turnUntil(reactor, () => done.list.length === 1, "the cancelled receive");
    assert.deepEqual(done.list.pop(), { token: 1, result: -Errno.ECANCELED, flags: 0 });
    assert.equal(reactor.inFlightCount, 1);
    reactor.shutdown(owner, 3, pair[0]);
    turnUntil(reactor, () => done.list.length === 2, "shutdown, and the end of the other receive");
    assert.deepEqual(done.list.map((one) => one.token).sort(), [2, 3]);
    assert.ok(done.list.every((one) => one.result === 0));
    reactor.close(owner, 4, pair[0]);
    reactor.close(owner, 5, pair[1]);
  });
  assert.equal(closeDescriptor(pair[0]), -Errno.EBADF);
});

Deno.test("delay() completes with -ETIME after its time", () => {
  const memory = mapAnonymous(4096);
  new Uint32Array(memory.buffer)[2] = 20e6;
  withReactor(8, (reactor, done, owner) => {
    const startMs = reactor.clockMs();
    reactor.delay(owner, 1, memory.address);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.ETIME);
    assert.ok(reactor.nowMs - startMs >= 19.9);
  });
});

Deno.test("errors of an operation come as its result", () => {
  const memory = mapAnonymous(4096);
  withReactor(8, (reactor, done, owner) => {
    reactor.read(owner, 1, 9999, memory.address, 512, 0);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EBADF);
    reactor.write(owner, 1, 9999, memory.address, 512, 0, true);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EBADF);
    reactor.flush(owner, 1, 9999);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EBADF);
    reactor.close(owner, 1, 9999);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EBADF);
    assert.throws(() => reactor.close(owner, 1, -1), /only a raw descriptor is closed/);
  });
});

Deno.test("owners are used again after unregister()", () => {
  withReactor(8, (reactor, _done, owner) => {
    const other = reactor.register(new Completions());
    assert.notEqual(other, owner);
    reactor.unregister(other);
    assert.throws(() => reactor.unregister(other), /only a registered handler/);
    const again = new Completions();
    assert.equal(reactor.register(again), other);
    reactor.nop(other, 3);
    drain(reactor);
    assert.equal(again.list[0].token, 3);
  });
});

Deno.test("an assertion in a handler leaves the reactor usable", () => {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  let fails = true;
  let count = 0;
  const owner = reactor.register({
    onCompletion() {
      count++;
      if (fails) throw new Error("broken handler");
    },
  });
  for (let i = 0; i < 3; i++) reactor.nop(owner, i);
  assert.throws(() => reactor.turn(Infinity), /broken handler/);
  fails = false;
  drain(reactor);
  assert.equal(count, 3);
  reactor.dispose();
});

Deno.test("dispose() gives descriptors back and refuses while operations are in flight", () => {
  const descriptorsBefore = openDescriptors();
  for (let i = 0; i < 5; i++) {
    const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
    const owner = reactor.register(new Completions());
    reactor.nop(owner, 1);
    assert.throws(() => reactor.dispose(), /nothing is in flight/);
    drain(reactor);
    reactor.dispose();
    reactor.dispose();
  }
  assert.deepEqual(openDescriptors(), descriptorsBefore);
});

Deno.test("with every descriptor taken, creating fails with what to do, step by step, and leaks none", () => {
  const before = getLimit(Limit.OPEN_FILES);
  assert.ok(typeof before !== "number");
  const openBefore = openDescriptors();
  // Room for the n-th descriptor and none further: io_uring, then the eventfd.
  let failures = 0;
  for (let room = 0; room < 4; room++) {
    assert.equal(setLimit(Limit.OPEN_FILES, limitWithRoom(openBefore, room), before.hard), 0);
    try {
      UringReactor.create({ entries: 8, completionEntries: 256 }).dispose();
    } catch (error) {
      failures++;
      assert.match((error as Error).message, /Cannot make an (io_uring|eventfd): EMFILE/);
    } finally {
      assert.equal(setLimit(Limit.OPEN_FILES, before.soft, before.hard), 0);
    }
    assert.deepEqual(openDescriptors(), openBefore);
  }
  assert.equal(failures, 2);
});

/** Descriptors open now, in order. */
function openDescriptors(): number[] {
  // Asked one by one: listing /proc would need every permission Deno has.
  return Array.from({ length: 1024 }, (_, descriptor) => descriptor)
    .filter((descriptor) => typeof statusOf(descriptor) !== "number");
}

/** The limit that leaves room for exactly `room` further descriptors. */
function limitWithRoom(taken: number[], room: number): number {
  let descriptor = 0;
  for (let free = 0; free < room || taken.includes(descriptor); descriptor++) {
    if (!taken.includes(descriptor)) free++;
  }
  return descriptor;
}
