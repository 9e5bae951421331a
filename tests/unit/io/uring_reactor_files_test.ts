import assert from "node:assert/strict";
import fc from "fast-check";
import { Completions, drain } from "./turn_until.ts";
import { Errno } from "../../../ffi/libc/errno.ts";
import {
  AllocateMode,
  closeDescriptor,
  openFile,
  OpenFlag,
  readAt,
  statusOf,
  truncateFile,
  writeAt,
} from "../../../ffi/libc/file.ts";
import { mapAnonymous } from "../../../ffi/libc/memory.ts";
import { SlabBufferPool } from "../../../lib/io/slab_buffer_pool.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";

const FILE_BYTES = 1 << 20;
const BLOCK = 4096;

interface Bench {
  reactor: UringReactor;
  pool: SlabBufferPool;
  done: Completions;
  owner: number;
  directory: string;
  open(name: string): number;
}

function withBench(registered: boolean, body: (bench: Bench) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "brmr-reactor-" });
  const pool = new SlabBufferPool({ totalBytes: 4 << 20 });
  const reactor = UringReactor.create({ entries: 32, completionEntries: 256, pool: registered ? pool : undefined });
  assert.equal(reactor.hasFixedBuffers, registered, reactor.fixedBuffersRefusal);
  const done = new Completions();
  const opened: number[] = [];
  try {
    body({
      reactor,
      pool,
      done,
      owner: reactor.register(done),
      directory,
      open(name) {
        const flags = OpenFlag.READ_WRITE | OpenFlag.CREATE | OpenFlag.DIRECT;
        const file = openFile(`${directory}/${name}`, flags);
        assert.ok(file >= 0, `open with O_DIRECT: ${file}`);
        opened.push(file);
        assert.equal(truncateFile(file, FILE_BYTES), 0);
        return file;
      },
    });
    drain(reactor);
  } finally {
    reactor.dispose();
    opened.forEach(closeDescriptor);
    Deno.removeSync(directory, { recursive: true });
  }
}

type Step =
  | { kind: "write"; block: number; blocks: number; fill: number; durable: boolean }
  | { kind: "read"; block: number; blocks: number }
  | { kind: "punch" | "zero"; block: number; blocks: number }
  | { kind: "flush" };

const place = {
  block: fc.integer({ min: 0, max: FILE_BYTES / BLOCK - 1 }),
  blocks: fc.integer({ min: 1, max: 32 }),
};
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant("write" as const),
    ...place,
    fill: fc.integer({ min: 0, max: 255 }),
    durable: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("read" as const), ...place }),
  fc.record({ kind: fc.constantFrom("punch" as const, "zero" as const), ...place }),
  fc.record({ kind: fc.constant("flush" as const) }),
);

for (const registered of [true, false]) {
  Deno.test(`reads and writes do what pread and pwrite do (${registered ? "fixed" : "ordinary"} buffers)`, () => {
    withBench(registered, ({ reactor, pool, done, owner, open }) => {
      const raw = open("reactor");
      const file = registered ? reactor.registerFile(raw) : raw;
      const oracle = open("oracle");
      const oracleMemory = mapAnonymous(FILE_BYTES);
      const oracleBytes = new Uint8Array(oracleMemory.buffer);
      fc.assert(
        fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
          for (const one of steps) {
            if (one.kind === "flush") {
              reactor.flush(owner, 7, file);
              drain(reactor);
              assert.equal(done.takeOne(), 0);
              continue;
            }
            const offset = one.block * BLOCK;
            const lengthBytes = one.blocks * BLOCK;
            if (one.kind === "punch" || one.kind === "zero") {
              const clipped = Math.min(lengthBytes, FILE_BYTES - offset);
              const mode = one.kind === "punch" ? AllocateMode.PUNCH_HOLE : AllocateMode.ZERO_RANGE;
              reactor.allocate(owner, 7, file, mode, offset, clipped);
              drain(reactor);
              assert.equal(done.takeOne(), 0);
              oracleBytes.fill(0, 0, clipped);
              assert.equal(writeAt(oracle, oracleMemory.address, clipped, offset), clipped);
              continue;
            }
            const slot = pool.allocate(lengthBytes);
            const bytes = pool.bytes(slot);
            if (one.kind === "write") {
              const clipped = Math.min(lengthBytes, FILE_BYTES - offset);
              bytes.fill(one.fill, 0, clipped);
              bytes[clipped - 1] = one.block & 255;
              oracleBytes.set(bytes.subarray(0, clipped));
              reactor.write(owner, 7, file, pool.address(slot), clipped, offset, one.durable);
              drain(reactor);
              assert.equal(done.takeOne(), writeAt(oracle, oracleMemory.address, clipped, offset));
            } else {
              bytes.fill(0xee);
              oracleBytes.fill(0xee, 0, lengthBytes);
              reactor.read(owner, 7, file, pool.address(slot), lengthBytes, offset);
              drain(reactor);
              // A read across the end is short, for both.
              assert.equal(done.takeOne(), readAt(oracle, oracleMemory.address, lengthBytes, offset));
              assert.deepEqual(bytes.subarray(0, lengthBytes), oracleBytes.subarray(0, lengthBytes));
            }
            pool.free(slot);
          }
        }),
        { numRuns: 40 },
      );
    });
  });
}

Deno.test("many writes in flight each land in their place", () => {
  withBench(true, ({ reactor, pool, done, owner, open }) => {
    const file = reactor.registerFile(open("f"));
    const blocks = FILE_BYTES / BLOCK;
    const slots = Array.from({ length: blocks }, () => pool.allocate(BLOCK));
    slots.forEach((slot, i) => pool.bytes(slot).fill(i & 255));
    slots.forEach((slot, i) =>
      reactor.write(owner, i, file, pool.address(slot), BLOCK, ((i * 97) % blocks) * BLOCK, false)
    );
    drain(reactor);
    assert.equal(done.list.length, blocks);
    assert.ok(done.list.every((one) => one.result === BLOCK));
    assert.equal(new Set(done.list.map((one) => one.token)).size, blocks);
    done.list.length = 0;
    slots.forEach((slot, i) => reactor.read(owner, i, file, pool.address(slot), BLOCK, i * BLOCK));
    drain(reactor);
    for (let i = 0; i < blocks; i++) {
      const bytes = pool.bytes(slots[(i * 97) % blocks]);
      assert.ok(bytes.every((byte) => byte === (i & 255)));
    }
  });
});

Deno.test("offsets beyond 4 GiB and the upper half of a word arrive whole", () => {
  withBench(true, ({ reactor, pool, done, owner, open }) => {
    const raw = open("f");
    const offset = 7 * 2 ** 32 + 0x9000_0000;
    assert.equal(truncateFile(raw, offset + BLOCK), 0);
    const slot = pool.allocate(BLOCK);
    pool.bytes(slot).fill(5);
    reactor.write(owner, 1, raw, pool.address(slot), BLOCK, offset, true);
    drain(reactor);
    assert.equal(done.takeOne(), BLOCK);
    const memory = mapAnonymous(BLOCK);
    assert.equal(readAt(raw, memory.address, BLOCK, offset), BLOCK);
    assert.ok(new Uint8Array(memory.buffer).every((byte) => byte === 5));
    reactor.allocate(owner, 1, raw, AllocateMode.PUNCH_HOLE, BLOCK, offset);
    drain(reactor);
    assert.equal(done.takeOne(), 0);
    const status = statusOf(raw);
    assert.ok(typeof status !== "number");
    assert.equal(status.sizeBytes, offset + BLOCK);
    assert.equal(status.allocatedBytes, 0);
  });
});

Deno.test("a misaligned O_DIRECT write is -EINVAL, a read of a write-only file -EBADF", () => {
  withBench(true, ({ reactor, pool, done, owner, open, directory }) => {
    const file = open("f");
    const slot = pool.allocate(BLOCK);
    reactor.write(owner, 1, file, pool.address(slot), 100, 0, false);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EINVAL);
    const writeOnly = openFile(`${directory}/f`, OpenFlag.WRITE_ONLY);
    reactor.read(owner, 1, writeOnly, pool.address(slot), BLOCK, 0);
    drain(reactor);
    assert.equal(done.takeOne(), -Errno.EBADF);
    closeDescriptor(writeOnly);
  });
});

Deno.test("memory inside the pool, across its end and outside of it can be written from", () => {
  const pool = new SlabBufferPool({ totalBytes: 4 << 20 });
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256, pool });
  const directory = Deno.makeTempDirSync({ prefix: "brmr-reactor-" });
  const file = openFile(`${directory}/f`, OpenFlag.READ_WRITE | OpenFlag.CREATE | OpenFlag.DIRECT);
  const done = new Completions();
  const owner = reactor.register(done);
  // Inside the pool, across its end, and outside of it: the latter two are ordinary buffers.
  const outside = mapAnonymous(8192);
  const first = pool.baseAddress;
  const last = pool.baseAddress + pool.totalBytes - BLOCK;
  for (const address of [first, last, outside.address]) {
    reactor.write(owner, 1, file, address, BLOCK, 0, false);
    drain(reactor);
    assert.equal(done.takeOne(), BLOCK);
  }
  reactor.write(owner, 1, file, last, 2 * BLOCK, 0, false);
  drain(reactor);
  // What lies behind the pool may be mapped or not; a registered buffer would have refused the length outright.
  assert.ok([2 * BLOCK, BLOCK, -Errno.EFAULT].includes(done.takeOne()));
  reactor.dispose();
  closeDescriptor(file);
  Deno.removeSync(directory, { recursive: true });
});
