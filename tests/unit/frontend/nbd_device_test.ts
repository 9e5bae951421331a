/** /dev/nbdN: what the driver is told, how its sockets are served, replaced and taken over, how the device ends. */

import "../../ffi/libc_opened.ts";
import assert from "node:assert/strict";
import { closeDescriptor } from "../../../ffi/libc/file.ts";
import { DeviceUnavailable } from "../../../lib/frontend/device_unavailable.ts";
import { parseDeviceChoice } from "../../../lib/frontend/device_choice.ts";
import { NbdControl } from "../../../lib/frontend/nbd_control.ts";
import { NbdDevice, type NbdDeviceOptions } from "../../../lib/frontend/nbd_device.ts";
import { FakeNbdDriver } from "./fake_nbd_driver.ts";
import { MemoryPool } from "./memory_pool.ts";
import { MemoryStream } from "./memory_stream.ts";
import { Cmd, pattern } from "./nbd_harness.ts";
import { concat, readAnswer, request, WireReader } from "./nbd_wire.ts";
import { RamHost } from "./ram_host.ts";

const POOL = "0d3f5c52-6d0a-4c53-9f0a-2b6f5f8a1c11";
const SIZE = 64 << 20;

class Fixture {
  readonly driver = new FakeNbdDriver();
  readonly pool = new MemoryPool(16 << 20);
  readonly host: RamHost;
  readonly clock = { nowMs: 1000 };
  readonly streams: MemoryStream[] = [];
  readonly warnings: string[] = [];
  device!: NbdDevice;

  constructor(readOnly = false) {
    this.host = new RamHost(this.pool, { sizeBytes: SIZE, logicalBlockBytes: 4096, readOnly });
  }

  open(options: Partial<NbdDeviceOptions> = {}): NbdDevice {
    const device = NbdDevice.open({
      control: NbdControl.open(this.driver, this.driver),
      clock: this.clock,
      pool: this.pool,
      host: this.host,
      poolUuid: POOL,
      memoryBytes: 4 << 20,
      index: -1,
      socketCount: 1,
      ioTimeoutMs: 30_000,
      openStream: (descriptor, protocol) => {
        closeDescriptor(descriptor);
        const stream = new MemoryStream(protocol);
        this.streams.push(stream);
        return stream;
      },
      warn: (message) => this.warnings.push(message),
      ...options,
    });
    this.device = device;
    this.host.frontend = device;
    return device;
  }

  /** Lets time pass, and everything that can move. */
  pass(ms = 0): void {
    this.clock.nowMs += ms;
    for (let i = 0; i < 20; i++) {
      for (const stream of this.streams) {
        if (!stream.isClosed) stream.pump();
      }
      this.host.completeAll();
      this.device.flushSends();
      for (const stream of this.streams) stream.completeSend();
    }
  }

  /** Asks over socket `index` as the kernel does; returns the answer's data. */
  ask(index: number, command: number, offset: number, payload: Uint8Array | number): Uint8Array {
    const length = typeof payload === "number" ? payload : payload.length;
    const head = request({ command, cookie: 77, offset, length });
    this.streams[index].feed(typeof payload === "number" ? head : concat(head, payload));
    this.pass();
    const reader = new WireReader(this.streams[index].takeDelivered());
    const answer = readAnswer(reader, () => command === Cmd.READ ? length : 0);
    assert.equal(answer.kind, "simple");
    assert.equal(answer.error, 0);
    return answer.data;
  }
}

const RECONFIGURE = 3, DISCONNECT = 2;

Deno.test("the driver is told what the pool is like, and its requests are served without a handshake", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  assert.equal(device.uri, "/dev/nbd0");
  assert.equal(device.isReady, true);
  const { told, identity } = fixture.driver.devices.get(0)!;
  assert.equal(identity, POOL);
  assert.equal(told.get(2), SIZE);
  assert.equal(told.get(3), 4096);
  assert.equal(told.has(4), false, "one socket has no time limit");
  assert.equal(told.get(5), 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x100 | 0x400);
  assert.equal(told.get(6), 0);
  assert.equal(told.get(8), 86400);
  assert.equal(fixture.driver.written.get("/sys/block/nbd0/queue/io_timeout"), "5000");
  const data = pattern(8192, 1);
  fixture.ask(0, Cmd.WRITE, 4096, data);
  assert.deepEqual(fixture.ask(0, Cmd.READ, 4096, 8192), data);
  assert.deepEqual(fixture.warnings, []);
});

Deno.test("several sockets have a time limit above that of I/O, and a number that was asked for is taken", () => {
  const fixture = new Fixture(true);
  const device = fixture.open({ socketCount: 3, index: 5, ioTimeoutMs: 12_001 });
  assert.equal(device.uri, "/dev/nbd5");
  const { told, socketCount } = fixture.driver.devices.get(5)!;
  assert.equal(socketCount, 3);
  assert.equal(told.get(4), 28);
  assert.equal(told.get(5)! & 2, 2, "read-only");
  assert.equal(told.get(5)! & 0x60, 0, "neither trim nor zeroes");
  assert.equal(fixture.driver.written.size, 0);
});

Deno.test("without a number the first that is free is taken, or another when somebody is quicker", () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, "another", SIZE);
  fixture.driver.snatched.add(1);
  assert.equal(fixture.open().uri, "/dev/nbd2");
  assert.deepEqual(fixture.warnings, []);
  const full = new Fixture();
  full.driver.premadeCount = 1;
  full.driver.leave(0, "another", SIZE);
  assert.equal(full.open().uri, "/dev/nbd1");
  assert.match(full.warnings[0], /half a minute/);
});

Deno.test("an end answers what is under way, and tells the driver when no socket is left", () => {
  const fixture = new Fixture();
  const device = fixture.open({ socketCount: 2 });
  fixture.streams[0].feed(request({ command: Cmd.READ, cookie: 9, offset: 0, length: 4096 }));
  fixture.streams[0].pump();
  assert.equal(fixture.host.pending.length, 1);
  device.stop();
  device.flushSends();
  assert.ok(!fixture.driver.commands.includes(DISCONNECT));
  assert.equal(device.connectionCount, 1);
  fixture.pass();
  assert.equal(readAnswer(new WireReader(fixture.streams[0].takeDelivered()), () => 4096).error, 0);
  assert.equal(fixture.driver.commands.at(-1), DISCONNECT);
  assert.equal(fixture.driver.written.get("/sys/block/nbd0/queue/io_timeout"), "30000");
  assert.equal(device.connectionCount, 0);
  assert.equal(fixture.driver.isClosed, true);
  assert.equal(fixture.pool.usedBytes, 0);
});

Deno.test("an end does not wait for ever for what is under way", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  fixture.streams[0].feed(request({ command: Cmd.READ, cookie: 9, offset: 0, length: 4096 }));
  fixture.streams[0].pump();
  device.stop();
  device.flushSends();
  assert.equal(device.deadlineMs, 4000);
  fixture.clock.nowMs = 4000;
  device.flushSends();
  fixture.streams[0].pump();
  device.flushSends();
  assert.equal(fixture.driver.commands.at(-1), DISCONNECT);
  assert.equal(device.connectionCount, 0);
  fixture.host.completeAll();
  assert.equal(fixture.pool.usedBytes, 0, "what comes late is taken in");
});

Deno.test("a device that was left is taken over once the kernel has noticed the death", () => {
  const fixture = new Fixture();
  fixture.driver.leave(3, POOL, SIZE, { socketCount: 2, deadCount: 0 });
  fixture.driver.leave(4, "another", SIZE);
  const device = fixture.open({ socketCount: 1 });
  assert.equal(device.uri, "/dev/nbd3");
  assert.equal(device.isReady, false);
  fixture.pass();
  assert.equal(fixture.streams.length, 2, "as many sockets as the device has");
  // Nothing is dead yet: the driver has no place for them.
  for (const stream of fixture.streams) stream.end();
  fixture.pass();
  fixture.pass(60);
  assert.equal(device.isReady, false);
  // One is.
  fixture.driver.devices.get(3)!.deadCount = 1;
  fixture.pass(100);
  assert.equal(fixture.streams.length, 4);
  fixture.streams[3].end();
  fixture.pass(150);
  fixture.driver.devices.get(3)!.deadCount = 1;
  fixture.pass(300);
  fixture.pass(1000);
  assert.equal(device.isReady, true);
  assert.equal(device.deadlineMs, Infinity);
  assert.equal(fixture.streams.filter((stream) => !stream.isClosed).length, 2);
});

Deno.test("a device that a process still serves is not taken over, and stays", () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, POOL, SIZE, { deadCount: 0 });
  const device = fixture.open();
  for (let i = 0; i < 60 && device.failure === null; i++) {
    fixture.pass();
    for (const stream of fixture.streams) stream.end();
    fixture.pass(1000);
  }
  assert.match(device.failure!, /\/dev\/nbd0 belongs to this pool and is still served/);
  assert.equal(device.connectionCount, 0);
  assert.ok(fixture.driver.devices.has(0));
});

Deno.test("a device that was disconnected and is still open somewhere is not taken for one that was left", () => {
  const fixture = new Fixture();
  fixture.driver.leave(0, POOL, SIZE, { isGoing: true });
  assert.equal(fixture.open().uri, "/dev/nbd1");
  assert.equal(fixture.device.isReady, true);
});

Deno.test("a socket that dies is replaced; what it had under way is given up", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  fixture.streams[0].feed(request({ command: Cmd.READ, cookie: 9, offset: 0, length: 4096 }));
  fixture.streams[0].pump();
  fixture.streams[0].end();
  fixture.streams[0].pump();
  fixture.driver.devices.get(0)!.deadCount = 1;
  fixture.pass();
  fixture.pass(60);
  assert.equal(fixture.driver.commands.at(-1), RECONFIGURE);
  assert.equal(fixture.streams.length, 2);
  assert.equal(fixture.ask(1, Cmd.READ, 0, 4096).length, 4096);
  fixture.pass(1000);
  assert.equal(device.isReady, true);
  assert.equal(fixture.pool.usedBytes, 0);
});

Deno.test("a device that somebody else disconnects has failed", () => {
  const fixture = new Fixture();
  const device = fixture.open();
  fixture.driver.devices.clear();
  fixture.streams[0].feed(request({ command: Cmd.DISC }));
  fixture.pass();
  fixture.pass(60);
  assert.match(device.failure!, /\/dev\/nbd0 was disconnected by somebody else/);
  assert.equal(device.connectionCount, 0);
});

Deno.test("what cannot be made says why and what to do", () => {
  const refused = (pattern: RegExp, prepare: (fixture: Fixture) => Partial<NbdDeviceOptions>) => {
    const fixture = new Fixture();
    assert.throws(() => fixture.open(prepare(fixture)), (error: unknown) => {
      assert.ok(error instanceof DeviceUnavailable);
      assert.match(error.message, pattern);
      return true;
    });
    assert.equal(fixture.driver.isClosed, true);
    assert.equal(fixture.streams.length, 0);
  };
  refused(/modprobe nbd/, (fixture) => {
    fixture.driver.isLoaded = false;
    return {};
  });
  refused(/\/dev\/nbd2 is in use/, (fixture) => {
    fixture.driver.leave(2, "another", SIZE);
    return { index: 2 };
  });
  refused(/take that, or remove it \(nbd-client -d \/dev\/nbd2\)/, (fixture) => {
    fixture.driver.leave(2, POOL, SIZE);
    return { index: 1 };
  });
  refused(/nbd2 was left by this pool, and another has written/, (fixture) => {
    fixture.driver.leave(2, POOL, SIZE);
    return { leftProblem: "another has written" };
  });
  refused(/left by this pool with 4096 bytes/, (fixture) => {
    fixture.driver.leave(2, POOL, 4096);
    return {};
  });
  refused(/left by this pool read-only; attach it so again/, (fixture) => {
    fixture.driver.leave(2, POOL, SIZE, { isReadOnly: true });
    return {};
  });
  assert.throws(() => NbdControl.open(-93), /no generic netlink: EPROTONOSUPPORT/);
  const driver = new FakeNbdDriver();
  const control = NbdControl.open(driver, driver);
  driver.refusal = -1;
  const shape = { index: -1, sizeBytes: SIZE, blockBytes: 512, serverFlags: 1, identity: POOL };
  assert.throws(() => control.connect({ ...shape, timeoutSeconds: 0, deadSeconds: 1 }, []), /takes root/);
  driver.refusal = -12;
  assert.throws(() => control.find(POOL), /tells nothing: ENOMEM/);
});

Deno.test("devices are named by kind or by path", () => {
  assert.deepEqual(parseDeviceChoice("auto"), { kind: "auto", index: -1 });
  assert.deepEqual(parseDeviceChoice("nbd"), { kind: "nbd", index: -1 });
  assert.deepEqual(parseDeviceChoice("/dev/nbd12"), { kind: "nbd", index: 12 });
  assert.deepEqual(parseDeviceChoice("/dev/ublkb0"), { kind: "ublk", index: 0 });
  for (const text of ["", "nbd0", "/dev/nbd", "/dev/nbd0p1", "/dev/ublkc0", "/dev/nbd1024", "/dev/nbd-1", "/dev/sda"]) {
    assert.equal(parseDeviceChoice(text), null, text);
  }
});
