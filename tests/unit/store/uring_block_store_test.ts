import assert from "node:assert/strict";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import { DeviceFile, StoreError } from "../../../lib/store/leg_device.ts";
import { UringBlockStore } from "../../../lib/store/uring_block_store.ts";
import { ScriptedReactor } from "./scripted_reactor.ts";
import { Machine, setAside, withDirectory } from "./store_fixture.ts";
import { behavesLikeMemory, makeFile, openOn } from "./store_model.ts";

const MIB = 1024 * 1024;
const EIO = -5;

Deno.test("a store on a file reads what was written and zeroed", () => {
  withDirectory((directory) => {
    behavesLikeMemory(makeFile(`${directory}/a.img`, 4 * MIB), 4 * MIB, 1, 150);
  });
});

Deno.test("punching frees space, zeroing with keepSpace does not", () => {
  withDirectory((directory) => {
    const path = makeFile(`${directory}/a.img`, 4 * MIB);
    setAside(path, 4 * MIB);
    const usedMib = () => Math.round(Deno.statSync(path).blocks! * 512 / MIB);
    const machine = new Machine();
    const store = openOn(machine, path);
    store.zero(1, MIB, 0, true);
    assert.equal(machine.wait(1), 0);
    assert.equal(usedMib(), 4);
    store.zero(2, MIB, 0, false);
    assert.equal(machine.wait(2), 0);
    assert.equal(usedMib(), 3);
    store.close();
    machine.reactor.dispose();
  });
});

Deno.test("many requests at once complete each once", () => {
  withDirectory((directory) => {
    const machine = new Machine();
    const store = openOn(machine, makeFile(`${directory}/a.img`, 4 * MIB));
    const slots = Array.from({ length: 256 }, () => machine.pool.allocate(4096));
    slots.forEach((slot, i) => {
      machine.pool.bytes(slot).fill(i);
      store.write(i, slot, 4096, i * 8192, false);
    });
    slots.forEach((_, i) => assert.equal(machine.wait(i), 0));
    slots.forEach((slot, i) => store.read(1000 + i, slot, 4096, (255 - i) * 8192));
    slots.forEach((slot, i) => {
      assert.equal(machine.wait(1000 + i), 0);
      assert.ok(machine.pool.bytes(slot).every((byte) => byte === 255 - i));
    });
    store.close();
    machine.reactor.dispose();
  });
});

/** A store whose operations the test ends as it likes, on a file system that keeps durable writes or does not. */
function scripted(directory: string, keepsDurableWrites = true) {
  const machine = new Machine();
  const reactor = new ScriptedReactor();
  const device = DeviceFile.open(makeFile(`${directory}/a.img`, 4 * MIB), { access: "exclusive" });
  Object.defineProperty(device, "keepsDurableWrites", { value: keepsDurableWrites });
  const store = new UringBlockStore({ device, reactor, pool: machine.pool, handler: machine, maxInFlight: 4 });
  const slot = machine.pool.allocate(64 * 1024);
  return { machine, reactor, store, slot, address: machine.pool.address(slot), done: machine.done };
}

Deno.test("short reads and writes go on where they stopped", () => {
  withDirectory((directory) => {
    const { reactor, store, slot, address, done } = scripted(directory);
    store.read(1, slot, 16384, 65536);
    reactor.end(4096);
    reactor.end(8192);
    assert.equal(done.size, 0);
    assert.deepEqual(reactor.prepared.map((p) => [p.kind, p.address, p.lengthBytes, p.offset]), [
      ["read", address + 12288, 4096, 77824],
    ]);
    reactor.end(4096);
    assert.equal(done.get(1), 0);
    store.write(2, slot, 8192, 0, true);
    reactor.end(4096);
    // What is left is as durable as the whole.
    assert.deepEqual(reactor.prepared.map((p) => [p.kind, p.lengthBytes, p.offset, p.mode]), [[
      "write",
      4096,
      4096,
      1,
    ]]);
    reactor.end(4096);
    assert.equal(done.get(2), 0);
    store.close();
  });
});

Deno.test("a request that moves nothing, or part of a block, is an I/O error", () => {
  withDirectory((directory) => {
    const { reactor, store, slot, done } = scripted(directory);
    store.read(1, slot, 8192, 0);
    reactor.end(0);
    store.write(2, slot, 8192, 0, false);
    reactor.end(100);
    store.write(3, slot, 8192, 0, false);
    reactor.end(4096);
    reactor.end(-28);
    assert.deepEqual([...done], [[1, EIO], [2, EIO], [3, -28]]);
    store.close();
  });
});

Deno.test("an interrupted request is asked again, but not for ever", () => {
  withDirectory((directory) => {
    const { reactor, store, slot, done } = scripted(directory);
    store.read(1, slot, 4096, 0);
    for (const errno of [-4, -11, -4]) reactor.end(errno);
    reactor.end(4096);
    assert.equal(done.get(1), 0);
    store.flush(2);
    let asked = 0;
    while (!done.has(2)) {
      reactor.end(-11);
      assert.ok(++asked < 1000);
    }
    assert.equal(done.get(2), -11);
    store.flush(3);
    reactor.end(EIO);
    assert.equal(done.get(3), EIO);
    store.close();
  });
});

Deno.test("zeroing falls back step by step, once, and remembers", () => {
  withDirectory((directory) => {
    const { reactor, store, done } = scripted(directory);
    store.zero(1, 100 * 1024, 4096, false);
    assert.equal(reactor.end(-95).mode, 3);
    assert.equal(reactor.end(-95).mode, 17);
    const first = reactor.end(64 * 1024);
    const second = reactor.end(36 * 1024);
    assert.deepEqual([first.kind, first.offset, first.lengthBytes], ["write", 4096, 64 * 1024]);
    assert.deepEqual([second.kind, second.offset, second.lengthBytes], ["write", 4096 + 64 * 1024, 36 * 1024]);
    assert.equal(first.address, second.address);
    assert.equal(done.get(1), 0);
    store.zero(2, 4096, 0, false);
    assert.equal(reactor.end(4096).kind, "write");
    store.zero(3, 4096, 0, true);
    assert.equal(reactor.end(EIO).kind, "write");
    assert.deepEqual([done.get(2), done.get(3)], [0, EIO]);
    store.close();
  });
});

Deno.test("an error of zeroing that is no lack of support is passed on", () => {
  withDirectory((directory) => {
    const { reactor, store, done } = scripted(directory);
    store.zero(1, 4096, 0, false);
    reactor.end(-28);
    assert.equal(done.get(1), -28);
    assert.equal(reactor.prepared.length, 0);
    store.close();
  });
});

Deno.test("more requests than agreed, and closing with requests in flight, are bugs", () => {
  withDirectory((directory) => {
    const { machine, reactor, store, slot } = scripted(directory);
    for (let i = 0; i < 4; i++) store.read(i, slot, 4096, 0);
    assert.throws(() => store.flush(9), AssertionFailure);
    assert.throws(() => store.close(), AssertionFailure);
    for (let i = 0; i < 4; i++) reactor.end(4096);
    store.close();
    assert.deepEqual(reactor.registered, []);
    machine.pool.free(slot);
    assert.equal(machine.pool.usedBytes, 0);
    assert.throws(() => store.flush(10), AssertionFailure);
  });
});

Deno.test("a durable write is followed by a flush where the file system is not known to keep it", () => {
  withDirectory((directory) => {
    const { reactor, store, slot, done } = scripted(directory, false);
    store.write(1, slot, 8192, 0, true);
    reactor.end(4096);
    assert.equal(reactor.end(4096).kind, "write");
    assert.equal(done.has(1), false);
    assert.equal(reactor.end(0).kind, "flush");
    assert.equal(done.get(1), 0);
    store.write(2, slot, 4096, 0, true);
    reactor.end(4096);
    reactor.end(EIO);
    assert.equal(done.get(2), EIO);
    store.write(3, slot, 4096, 0, false);
    reactor.end(4096);
    assert.equal(done.get(3), 0);
    store.close();
  });
});

Deno.test("closing lets the device go", () => {
  withDirectory((directory) => {
    const machine = new Machine();
    const path = makeFile(`${directory}/a.img`, MIB);
    const store = openOn(machine, path);
    assert.throws(() => DeviceFile.open(path, { access: "exclusive" }), StoreError);
    store.close();
    DeviceFile.open(path, { access: "exclusive" }).close();
    machine.reactor.dispose();
  });
});
