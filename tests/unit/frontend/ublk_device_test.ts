/** /dev/ublkbN: what the driver is told, how its queue is served, how the device is taken over and how it ends. */

import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import { DeviceUnavailable, LeftDeviceUnavailable } from "../../../lib/frontend/device_unavailable.ts";
import { RequestFlag, RequestKind } from "../../../lib/frontend/frontend.ts";
import { identityOf, UblkControl } from "../../../lib/frontend/ublk_control.ts";
import { UblkDevice, type UblkDeviceOptions } from "../../../lib/frontend/ublk_device.ts";
import { Ask, Control, FakeUblkDriver } from "./fake_ublk_driver.ts";
import { MemoryPool } from "./memory_pool.ts";
import { pattern } from "./nbd_harness.ts";
import { RamHost } from "./ram_host.ts";

const POOL = "0d3f5c52-6d0a-4c53-9f0a-2b6f5f8a1c11";
const SIZE = 64 << 20;
const SLOT = 128 << 10;

class Fixture {
  readonly pool = new MemoryPool(16 << 20);
  readonly driver = new FakeUblkDriver(this.pool);
  readonly host: RamHost;
  device!: UblkDevice;

  constructor(readOnly = false, maxRangeBytes = 32 << 20) {
    this.host = new RamHost(this.pool, { sizeBytes: SIZE, logicalBlockBytes: 4096, readOnly, maxRangeBytes });
  }

  open(options: Partial<UblkDeviceOptions> = {}): UblkDevice {
    const { driver, pool, host } = this;
    const control = new UblkControl(-1, driver);
    const { reactor, openQueue } = driver;
    this.device = UblkDevice.open({
      ...{ control, reactor, pool, host, poolUuid: POOL, memoryBytes: 4 * SLOT, index: -1, openQueue },
      ...options,
    });
    host.frontend = this.device;
    return this.device;
  }

  /** A device that is live. */
  live(options: Partial<UblkDeviceOptions> = {}): UblkDevice {
    const device = this.open(options);
    device.flushSends();
    assert.equal(device.isReady, true);
    return device;
  }

  async ask(operation: number, offset: number, lengthBytes: number, data?: Uint8Array): Promise<[number, Uint8Array]> {
    const answer = this.driver.ask(operation, offset, lengthBytes, data);
    this.host.completeAll();
    return await answer;
  }

  /** What the driver was told of the device, as a view. */
  told(index: number, which: "info" | "parameters"): DataView {
    return new DataView(this.driver.devices.get(index)![which].buffer);
  }
}

Deno.test("the driver is told what the pool is like, gets all tags, and then starts the device", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  assert.equal(device.uri, "/dev/ublkb0");
  assert.equal(device.isReady, false);
  const info = fixture.told(0, "info");
  assert.equal(info.getUint16(0, true), 1, "one queue");
  assert.equal(info.getUint16(2, true), 4, "as deep as memory allows");
  assert.equal(info.getUint32(8, true), SLOT);
  assert.equal(info.getUint32(24, true), 8 | 16 | 64, "taken over by the next, asked again, ioctl encoding");
  const parameters = fixture.told(0, "parameters");
  assert.equal(parameters.getUint32(4, true), 1 | 2, "basic and discard");
  assert.equal(parameters.getUint32(8, true), 4 | 8, "volatile cache, FUA");
  assert.deepEqual([12, 13, 14, 15].map((at) => parameters.getUint8(at)), [12, 12, 17, 12]);
  assert.equal(parameters.getUint32(16, true), SLOT / 512);
  assert.equal(parameters.getUint32(24, true), SIZE / 512);
  assert.equal(parameters.getUint32(44, true), 4096);
  assert.equal(parameters.getUint32(48, true), (32 << 20) / 512);
  assert.equal(parameters.getUint32(52, true), (32 << 20) / 512);
  assert.deepEqual([...fixture.driver.fetched.keys()], [0, 1, 2, 3]);
  assert.deepEqual(fixture.driver.commands.slice(-3), [Control.ADD, Control.SET_PARAMETERS, Control.START]);
  device.flushSends();
  assert.equal(device.isReady, true);
  assert.equal(fixture.pool.usedBytes, 4 * SLOT);
});

Deno.test("a read-only pool offers neither discard nor writing; a huge range is what 32 bits of sectors hold", () => {
  const readOnly = new Fixture(true);
  readOnly.live();
  assert.equal(readOnly.told(0, "parameters").getUint32(4, true), 1);
  assert.equal(readOnly.told(0, "parameters").getUint32(8, true), 4 | 8 | 1);
  assert.equal(readOnly.told(0, "parameters").getUint32(48, true), 0);
  const huge = new Fixture(false, 2 ** 50);
  huge.live();
  assert.equal(huge.told(0, "parameters").getUint32(48, true), 2 ** 31);
});

Deno.test("reads, writes, flushes, discards and zeroes reach the host with their flags, and are answered", async () => {
  const fixture = new Fixture();
  fixture.live();
  const data = pattern(8192, 3);
  assert.equal((await fixture.ask(Ask.WRITE | Ask.FUA, 4096, 8192, data))[0], 8192);
  assert.deepEqual(await fixture.ask(Ask.READ, 4096, 8192), [8192, data]);
  assert.equal((await fixture.ask(Ask.FLUSH, 0, 0))[0], 0);
  assert.equal((await fixture.ask(Ask.DISCARD, 4096, 4096))[0], 0);
  assert.equal((await fixture.ask(Ask.WRITE_ZEROES | Ask.NO_UNMAP | Ask.FUA, 8192, 4096))[0], 0);
  assert.equal((await fixture.ask(Ask.WRITE_ZEROES, 8192, 4096))[0], 0);
  assert.deepEqual((await fixture.ask(Ask.READ, 4096, 8192))[1], new Uint8Array(8192));
  assert.equal((await fixture.ask(77, 0, 4096))[0], -95, "what nobody knows is not supported");
  const { FUA, NO_HOLE } = RequestFlag;
  assert.deepEqual(fixture.host.log.map(({ kind, flags }) => [kind, flags]), [
    [RequestKind.WRITE, FUA],
    [RequestKind.READ, 0],
    [RequestKind.FLUSH, 0],
    [RequestKind.DISCARD, 0],
    [RequestKind.WRITE_ZEROES, FUA | NO_HOLE],
    [RequestKind.WRITE_ZEROES, 0],
    [RequestKind.READ, 0],
  ]);
  fixture.host.failure = () => -5;
  assert.equal((await fixture.ask(Ask.READ, 0, 4096))[0], -5);
  assert.deepEqual([...fixture.driver.fetched.keys()].sort(), [0, 1, 2, 3], "every tag is with the driver again");
});

Deno.test("an offset beyond 2 TiB is whole", () => {
  const pool = new MemoryPool(16 << 20);
  const driver = new FakeUblkDriver(pool);
  const host = new RamHost(pool, { sizeBytes: 2 ** 43, logicalBlockBytes: 4096 });
  const { reactor, openQueue } = driver;
  const control = new UblkControl(-1, driver);
  UblkDevice.open({ control, reactor, pool, host, poolUuid: POOL, memoryBytes: SLOT, index: -1, openQueue })
    .flushSends();
  assert.equal(new DataView(driver.devices.get(0)!.parameters.buffer).getUint32(28, true), 4);
  void driver.ask(Ask.READ, 2 ** 42 + 4096, 4096);
  assert.equal(host.pending[0].offset, 2 ** 42 + 4096);
});

Deno.test("while the host takes no more, requests wait in their order", async () => {
  const fixture = new Fixture();
  const device = fixture.live();
  fixture.host.limit = 1;
  const order: number[] = [];
  const answers = [0, 1, 2, 3].map((i) => fixture.driver.ask(Ask.READ, i * 4096, 4096).then(() => order.push(i)));
  assert.equal(fixture.host.pending.length, 1);
  for (let i = 0; i < 4; i++) {
    assert.equal(fixture.host.pending.length, 1);
    assert.equal(fixture.host.pending[0].offset, i * 4096);
    fixture.host.complete();
    device.onReady();
  }
  await Promise.all(answers);
  assert.deepEqual(order, [0, 1, 2, 3]);
});

Deno.test("what a leg may still read is not written over: the tag gets another slot, a read's answer with it", async () => {
  const fixture = new Fixture();
  const { driver, pool, host } = fixture;
  fixture.live();
  const data = pattern(8192, 3);
  host.disk.set(data, 4096);
  const operations = [[Ask.WRITE, 0, 0], [Ask.READ, 0, 0], [Ask.WRITE, -5, -5]] as const;
  const lent: { slot: number; bytes: Uint8Array }[] = [];
  for (const [operation, status] of operations) {
    const tag = [...driver.fetched.keys()][0];
    const answer = driver.ask(operation, 4096, 8192, operation === Ask.WRITE ? data : undefined);
    const { slot } = host.pending[0];
    lent.push({ slot, bytes: pool.bytes(slot) });
    pool.hold(slot);
    host.failure = () => status;
    host.completeAll();
    const [result, read] = await answer;
    assert.equal(result, status < 0 ? status : 8192);
    if (operation === Ask.READ) assert.deepEqual(read, data, "what was read is there");
    assert.notEqual(driver.fetched.get(tag), pool.address(slot), "the kernel may not write there");
  }
  host.failure = () => 0;
  const other = pattern(8192, 9);
  await Promise.all([0, 1, 2, 3].map((i) => fixture.ask(Ask.WRITE, 65536 + i * 8192, 8192, other)));
  for (const { bytes } of lent) assert.deepEqual(bytes.subarray(0, 8192), data, "the leg writes what it was asked to");
  assert.equal(pool.usedBytes, (4 + 3) * SLOT);
  for (const { slot } of lent) pool.release(slot);
  assert.equal(pool.usedBytes, 4 * SLOT, "what was released is the pool's again");
});

Deno.test("without another slot an answer waits until the leg has let go of its own, or memory is there", async () => {
  for (const frees of [false, true]) {
    const fixture = new Fixture();
    const { driver, pool, host } = fixture;
    const device = fixture.live();
    const filler: number[] = [];
    for (let slot = pool.allocate(SLOT); slot >= 0; slot = pool.allocate(SLOT)) filler.push(slot);
    const data = pattern(4096, 3);
    const answered: number[] = [];
    const answers = [0, 1].map((i) => driver.ask(Ask.WRITE, i * 4096, 4096, data).then(() => answered.push(i)));
    const slots = host.pending.map(({ slot }) => slot);
    for (const slot of slots) pool.hold(slot);
    host.completeAll();
    device.flushSends();
    assert.equal(driver.fetched.size, 2, "neither tag is with the driver");
    assert.equal((await fixture.ask(Ask.WRITE, 8192, 4096, data))[0], 4096, "others are served");
    if (frees) pool.free(filler.pop()!);
    else pool.release(slots[1]);
    device.flushSends();
    assert.equal(driver.fetched.size, 3, "one of them is answered");
    await Promise.race(answers);
    assert.deepEqual(answered, frees ? [0] : [1]);
    pool.release(slots[0]);
    if (frees) pool.release(slots[1]);
    device.flushSends();
    await Promise.all(answers);
    assert.equal(driver.fetched.size, 4);
    const others = [...filler].length * SLOT;
    assert.equal(pool.usedBytes, 4 * SLOT + others, "nothing is lost");
  }
});

Deno.test("an end stops the device, which is deleted when the driver is through", () => {
  const fixture = new Fixture();
  const device = fixture.live();
  device.stop();
  assert.equal(fixture.driver.commands.at(-1), Control.STOP);
  assert.equal(device.connectionCount, 1);
  device.flushSends();
  assert.equal(fixture.driver.commands.at(-1), Control.DELETE_LATER);
  assert.equal(device.connectionCount, 0);
  assert.equal(device.failure, null);
});

Deno.test("an end while the kernel starts the device stops it as soon as it has started", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  device.stop();
  assert.equal(fixture.driver.commands.at(-1), Control.START);
  device.flushSends();
  assert.equal(fixture.driver.commands.at(-1), Control.STOP);
  device.flushSends();
  assert.equal(fixture.driver.commands.at(-1), Control.DELETE_LATER);
  assert.equal(device.connectionCount, 0);
});

Deno.test("a device that was left is taken over once the driver has noticed the death", async () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, "1111222233334444");
  fixture.driver.leave(3, identityOf(POOL), { depth: 2, maxIo: 65536 });
  new DataView(fixture.driver.devices.get(3)!.parameters.buffer).setUint32(24, SIZE / 512, true);
  fixture.driver.refusals.set(Control.START_RECOVERY, [-16, -16]);
  const device = fixture.open();
  assert.equal(device.uri, "/dev/ublkb3");
  assert.equal(device.deadlineMs, 1050);
  device.flushSends();
  assert.equal(fixture.driver.commands.filter((command) => command === Control.START_RECOVERY).length, 1, "not yet");
  fixture.driver.reactor.nowMs = 1050;
  device.flushSends();
  assert.equal(device.isReady, false);
  fixture.driver.reactor.nowMs = 1100;
  device.flushSends();
  assert.equal(fixture.driver.commands.at(-1), Control.END_RECOVERY);
  device.flushSends();
  assert.equal(device.isReady, true);
  assert.equal(fixture.pool.usedBytes, 2 * 65536, "the device's own depth and size");
  assert.equal((await fixture.ask(Ask.READ, 0, 4096))[0], 4096);
});

Deno.test("a take-over that fails for good, a start that fails, and a queue that cannot be opened are told", () => {
  const stuck = new Fixture();
  stuck.driver.leave(0, identityOf(POOL));
  new DataView(stuck.driver.devices.get(0)!.parameters.buffer).setUint32(24, SIZE / 512, true);
  stuck.driver.refusals.set(Control.START_RECOVERY, Array(1000).fill(-16));
  const waiting = stuck.open();
  stuck.driver.reactor.nowMs += 91_000;
  waiting.flushSends();
  assert.match(waiting.failure!, /belongs to this pool and cannot be taken over: EBUSY/);
  assert.ok(stuck.driver.devices.has(0), "it stays");

  const unstarted = new Fixture();
  unstarted.driver.refusals.set(Control.START, [-12]);
  const failing = unstarted.open();
  failing.flushSends();
  assert.match(failing.failure!, /does not start: ENOMEM/);
  failing.flushSends();
  assert.equal(unstarted.driver.commands.at(-1), Control.DELETE_LATER);

  const closed = new Fixture();
  const device = closed.open({ openQueue: () => -13 });
  assert.match(device.failure!, /\/dev\/ublkc0 cannot be opened: EACCES/);
  assert.equal(closed.driver.devices.size, 0, "what was made is unmade");
});

Deno.test("a device that somebody else removes has failed", () => {
  const fixture = new Fixture();
  const device = fixture.live();
  fixture.driver.abort();
  assert.match(device.failure!, /\/dev\/ublkb0 was removed by somebody else/);
  assert.equal(device.connectionCount, 0);
});

Deno.test("a number that was asked for is taken, and refused when it is another's", () => {
  const fixture = new Fixture();
  assert.equal(fixture.live({ index: 7 }).uri, "/dev/ublkb7");
  const other = new Fixture();
  other.driver.leave(7, "1111222233334444");
  assert.throws(() => other.open({ index: 7 }), /\/dev\/ublkb7 is in use/);
  assert.equal(other.driver.isClosed, true);
});

Deno.test("a device that was left and does not fit any more is refused, with what to do", () => {
  const refused = (pattern: RegExp, sizeBytes: number, change = {}, options = {}, attributes = 0) => {
    const fixture = new Fixture();
    fixture.driver.leave(2, identityOf(POOL), change);
    const parameters = new DataView(fixture.driver.devices.get(2)!.parameters.buffer);
    parameters.setUint32(24, sizeBytes / 512, true);
    parameters.setUint32(8, attributes, true);
    assert.throws(() => fixture.open(options), (error: unknown) => {
      assert.ok(
        error instanceof DeviceUnavailable && error instanceof LeftDeviceUnavailable,
        "no other is made in its place",
      );
      assert.match(error.message, pattern);
      return true;
    });
    assert.equal(fixture.driver.isClosed, true);
    assert.equal(fixture.pool.usedBytes, 0);
  };
  refused(/with 4096 bytes, and it has 67108864 now/, 4096);
  refused(/made or removed by process 4711; try again/, SIZE, { state: 0, pid: 4711 }, { isAlive: () => true });
  refused(/left by this pool, and another has written/, SIZE, {}, { leftProblem: "another has written" });
  refused(/no memory for 4 requests/, SIZE, {}, { pool: new MemoryPool(3 * SLOT) });
  refused(/by another version of brmr/, SIZE, { queues: 2 });
  refused(/raise --memory/, SIZE, { depth: 5 });
  refused(/left by this pool read-only/, SIZE, {}, {}, 1);
  refused(/take that, or remove it/, SIZE, {}, { index: 1 });
});

Deno.test("what a process leaves that dies while it makes or removes a device is no device, and makes room for one", () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, identityOf(POOL), { state: 0, pid: 4711 });
  const device = fixture.live({ isAlive: (pid) => pid !== 4711 });
  assert.equal(device.isTakenOver, false);
  const { DELETE_LATER, ADD } = Control;
  const told = fixture.driver.commands.filter((command) => command === DELETE_LATER || command === ADD);
  assert.deepEqual(told, [DELETE_LATER, ADD]);

  const stuck = new Fixture();
  stuck.driver.leave(0, identityOf(POOL), { state: 0, pid: 4711 });
  stuck.driver.refusals.set(DELETE_LATER, [-1]);
  assert.throws(() => stuck.open({ isAlive: () => false }), /is dead, and cannot be removed: EPERM/);
});

Deno.test("a device that was taken over and does not start stays for the next attach", () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, identityOf(POOL));
  new DataView(fixture.driver.devices.get(0)!.parameters.buffer).setUint32(24, SIZE / 512, true);
  fixture.driver.refusals.set(Control.END_RECOVERY, [-4]);
  const device = fixture.open();
  device.flushSends();
  assert.match(device.failure!, /does not start: EINTR/);
  assert.equal(device.connectionCount, 0);
  assert.ok(!fixture.driver.commands.includes(Control.STOP) && fixture.driver.devices.has(0));
});

Deno.test("once the pool is let go of, what waits and what still comes fails, so that the kernel can end the device", async () => {
  const fixture = new Fixture();
  const device = fixture.live();
  fixture.host.limit = 0;
  const waiting = fixture.driver.ask(Ask.WRITE, 0, 4096, pattern(4096, 1));
  device.stop();
  assert.equal(device.isEnding, true);
  device.failAll();
  assert.equal((await waiting)[0], -5);
  assert.equal((await fixture.driver.ask(Ask.READ, 0, 4096))[0], -5);
  device.flushSends();
  assert.deepEqual([device.isEnding, device.connectionCount], [false, 0]);
  assert.equal(fixture.host.log.length, 0);
});

Deno.test("without memory for a single request there is no device", () => {
  const fixture = new Fixture();
  assert.throws(() => fixture.open({ memoryBytes: SLOT - 1 }), /raise --memory/);
  const small = new Fixture();
  assert.throws(() => small.open({ memoryBytes: 1000 * SLOT }), /there is no memory for 512 requests/);
  assert.equal(small.pool.usedBytes, 0);
  assert.equal(small.driver.devices.size, 0);
});
