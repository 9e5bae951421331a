/**
 * What happens when something is short, or somebody goes away: pauses, fairness, orphans, stop.
 */

import { deepStrictEqual, strictEqual, throws } from "node:assert/strict";
import { Cmd, NbdHarness, Opt, pattern } from "./nbd_harness.ts";
import { be32, infoData, option } from "./nbd_wire.ts";

const MIB = 1 << 20;

Deno.test("a full host pauses the connection and lets it go on", () => {
  const harness = new NbdHarness();
  harness.host.limit = 3;
  harness.hostCompletes = false;
  const client = harness.open();
  for (let i = 0; i < 20; i++) client.request(Cmd.READ, { offset: i * 4096, length: 4096 });
  for (let i = 0; i < 20; i++) client.request(Cmd.WRITE, { offset: i * 4096, payload: pattern(4096, i) });
  harness.settle();
  strictEqual(harness.host.pending.length, 3);
  strictEqual(client.stream.isPaused, true);
  strictEqual(harness.server.waitingCount, 1);
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(client.answers().length, 40);
  deepStrictEqual(client.readData(19 * 4096, 4096), pattern(4096, 19));
  harness.assertIdle();
});

Deno.test("a pool without memory pauses the connection; onReady lets it go on", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  const held: number[] = [];
  for (let slot = harness.pool.allocate(MIB); slot >= 0; slot = harness.pool.allocate(MIB)) held.push(slot);
  client.request(Cmd.WRITE, { payload: pattern(8192, 1) });
  client.request(Cmd.READ, { length: 8192 });
  harness.settle();
  strictEqual(harness.host.log.length, 0);
  strictEqual(client.stream.isPaused, true);
  for (const slot of held) harness.pool.free(slot);
  harness.server.onReady();
  harness.settle();
  strictEqual(client.answers().length, 2);
  harness.assertIdle();
});

Deno.test("memory stays within its limits, and every request is served", () => {
  const limits = { memoryBytes: 4 * MIB, memoryBytesPerConnection: 2 * MIB };
  for (const structured of [true, false]) {
    const harness = new NbdHarness({ limits });
    const clients = [1, 2, 3, 4].map(() => harness.open({ structured }));
    harness.host.disk.set(pattern(32 * MIB, 5));
    for (const client of clients) {
      for (let i = 0; i < 6; i++) client.request(Cmd.READ, { offset: i * MIB, length: 5 * MIB });
      client.request(Cmd.WRITE, { offset: 40 * MIB, payload: pattern(5 * MIB, 1) });
    }
    harness.settle();
    strictEqual(harness.pool.highestUsedBytes <= 4 * MIB, true, `${harness.pool.highestUsedBytes}`);
    strictEqual(harness.pool.highestUsedBytes >= 3 * MIB, true, `${harness.pool.highestUsedBytes}`);
    for (const client of clients) {
      const done = client.answers().filter((answer) => answer.done);
      strictEqual(done.length, 7);
      strictEqual(done.every((answer) => answer.error === 0), true);
    }
    harness.assertIdle();
  }
});

Deno.test("a large simple read with little memory is begun early and right; a late failure drops the connection", () => {
  for (const fails of [false, true]) {
    const harness = new NbdHarness({ limits: { memoryBytes: 2 * MIB, memoryBytesPerConnection: 2 * MIB } });
    const client = harness.open({ structured: false });
    const data = pattern(12 * MIB, 5);
    harness.host.disk.set(data);
    if (fails) harness.host.failure = ({ offset }) => offset === 9 * MIB ? -5 : 0;
    client.request(Cmd.READ, { length: 12 * MIB });
    harness.settle();
    strictEqual(client.stream.isClosed, fails);
    if (!fails) {
      const [answer] = client.answers();
      strictEqual(answer.error, 0);
      deepStrictEqual(answer.data, data);
    }
    harness.assertIdle();
  }
});

Deno.test("a large simple read that fails before it was begun is answered and asks for no more", () => {
  const harness = new NbdHarness({ limits: { memoryBytes: 2 * MIB, memoryBytesPerConnection: 2 * MIB } });
  const client = harness.open({ structured: false });
  harness.host.failure = ({ offset }) => offset === 0 ? -5 : 0;
  strictEqual(client.ask(Cmd.READ, { length: 12 * MIB }).error, 5);
  strictEqual(harness.host.log.length, 2);
  strictEqual(client.ask(Cmd.READ, { offset: MIB, length: MIB }).error, 0);
  harness.assertIdle();
});

Deno.test("a connection has a bounded number of requests in flight", () => {
  const harness = new NbdHarness({ limits: { requestsPerConnection: 4 } });
  harness.hostCompletes = false;
  const greedy = harness.open();
  const other = harness.open();
  for (let i = 0; i < 10; i++) greedy.request(Cmd.READ, { offset: i * 4096, length: 4096 });
  other.request(Cmd.READ, { length: 512 });
  harness.settle();
  strictEqual(harness.host.pending.length, 5);
  strictEqual(harness.server.waitingCount, 0, "its own limit holds up nobody else");
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(greedy.answers().length, 10);
  strictEqual(other.answers().length, 1);
  harness.assertIdle();
});

Deno.test("a full request table makes connections wait in line", () => {
  const harness = new NbdHarness({ limits: { requests: 4, connections: 3 } });
  harness.hostCompletes = false;
  const clients = [harness.open(), harness.open(), harness.open()];
  for (const client of clients) {
    for (let i = 0; i < 5; i++) client.request(Cmd.WRITE, { offset: i * 4096, payload: pattern(4096, i) });
  }
  harness.settle();
  strictEqual(harness.server.waitingCount, 3);
  harness.hostCompletes = true;
  harness.settle();
  for (const client of clients) strictEqual(client.answers().length, 5);
  harness.assertIdle();
});

Deno.test("the line is served first come, first served: large requests are not starved by small ones", () => {
  const harness = new NbdHarness({ limits: { memoryBytes: MIB, memoryBytesPerConnection: MIB } });
  harness.hostCompletes = false;
  const small = harness.open();
  const large = harness.open();
  for (let i = 0; i < 400; i++) small.request(Cmd.READ, { offset: i * 4096, length: 4096 });
  harness.settle();
  const largeCookie = large.request(Cmd.READ, { length: MIB });
  let completed = 0;
  while (large.answers().every(({ cookie }) => cookie !== largeCookie)) {
    harness.host.complete();
    harness.settle();
    completed++;
  }
  // 256 small ones fill the memory; nothing that came later goes before the large one.
  strictEqual(completed <= 257, true, `${completed}`);
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(small.answers().length, 400);
  harness.assertIdle();
});

Deno.test("a client that does not read its answers holds bounded memory and delays nobody", () => {
  const harness = new NbdHarness({
    limits: { memoryBytes: 8 * MIB, memoryBytesPerConnection: 2 * MIB },
    stream: { sendQueueCount: 8 },
  });
  const deaf = harness.open();
  const other = harness.open();
  for (let i = 0; i < 60; i++) deaf.request(Cmd.READ, { offset: i * 131072, length: 131072 });
  harness.sendsComplete = false;
  harness.settle();
  strictEqual(harness.pool.usedBytes <= 2 * MIB, true);
  other.request(Cmd.READ, { length: MIB });
  harness.settle();
  while (other.stream.completeSend());
  strictEqual(other.answers().length, 1);
  harness.sendsComplete = true;
  harness.settle();
  strictEqual(deaf.answers().length, 60);
  harness.assertIdle();
});

Deno.test("tiny send areas and staging change nothing but the pace", () => {
  const harness = new NbdHarness({
    stream: { stagingBytes: 64, sendAreaBytes: 600, copyBytes: 64, sendQueueCount: 4, arrivalBytes: 7 },
  });
  const client = harness.open();
  for (let i = 0; i < 30; i++) client.request(Cmd.WRITE, { offset: i * 4096, payload: pattern(4096, i) });
  client.request(Cmd.READ, { offset: 100 * MIB, length: 512 });
  for (let i = 0; i < 30; i++) client.request(Cmd.TRIM, { offset: MIB, length: 4096 });
  harness.settle();
  strictEqual(client.answers().length, 61);
  for (let i = 0; i < 30; i++) deepStrictEqual(client.readData(i * 4096, 4096), pattern(4096, i));
  harness.assertIdle();
});

Deno.test("a connection that dies with requests in flight leaves orphans, freed exactly once", () => {
  for (const structured of [true, false]) {
    const harness = new NbdHarness({ limits: { connections: 1 } });
    const dying = harness.open({ structured });
    harness.hostCompletes = false;
    dying.request(Cmd.READ, { length: 3 * MIB });
    dying.request(Cmd.WRITE, { payload: pattern(2 * MIB, 1) });
    dying.request(Cmd.FLUSH);
    dying.request(Cmd.READ, { length: 512 });
    harness.settle();
    // Some are done and their answers queued, some are at the host.
    harness.sendsComplete = false;
    harness.host.complete(0);
    harness.host.complete(5);
    harness.turn();
    dying.stream.end();
    harness.settle();
    strictEqual(dying.stream.isClosed, true);
    strictEqual(harness.server.connectionCount, 0);
    harness.sendsComplete = true;
    // Its number is taken by another connection while the orphans are still out.
    const next = harness.open({ structured });
    const waiting = next.request(Cmd.READ, { offset: MIB, length: 4096 });
    harness.settle();
    harness.hostCompletes = true;
    harness.settle();
    deepStrictEqual(next.answers().map(({ cookie }) => cookie), [waiting]);
    strictEqual(dying.answers().length, 0);
    harness.assertIdle();
  }
});

Deno.test("a connection that dies in the middle of a payload, or while it waits, gives everything back", () => {
  const scenes: ((harness: NbdHarness) => void)[] = [
    (harness) => void harness,
    (harness) => harness.host.limit = 0,
    (harness) => harness.pool.allocate(MIB),
  ];
  for (const scene of scenes) {
    for (let cut = 0; cut < 3 * MIB; cut += 300007) {
      const harness = new NbdHarness({ poolBytes: 2 * MIB, limits: { memoryBytes: 2 * MIB } });
      const client = harness.open();
      const other = harness.open();
      scene(harness);
      const held = harness.pool.usedBytes;
      client.request(Cmd.READ, { length: 4096 });
      client.request(Cmd.WRITE, { length: 3 * MIB });
      client.send(pattern(cut, 1));
      other.request(Cmd.READ, { length: 4096 });
      harness.settle();
      client.stream.close();
      harness.settle();
      strictEqual(harness.server.connectionCount, 1);
      harness.host.limit = 100;
      harness.server.onReady();
      harness.settle();
      strictEqual(other.answers().length, 1);
      strictEqual(harness.pool.usedBytes, held);
      strictEqual(harness.server.requestCount, 0);
      strictEqual(harness.server.waitingCount, 0);
    }
  }
});

Deno.test("stop answers what was begun, takes nothing new, and closes", () => {
  const harness = new NbdHarness();
  let sourceCloses = 0;
  harness.server.addSource({ close: () => sourceCloses++ });
  const idle = harness.open();
  const haggling = harness.connect();
  haggling.send(be32(3), option(Opt.LIST));
  const busy = harness.open();
  harness.hostCompletes = false;
  busy.request(Cmd.WRITE, { payload: pattern(4096, 1) });
  busy.request(Cmd.READ, { length: 2 * MIB });
  harness.settle();
  const halfway = harness.open();
  halfway.request(Cmd.WRITE, { length: 2 * MIB });
  halfway.send(pattern(MIB + 5000, 1));
  harness.settle();
  harness.server.stop();
  harness.server.stop();
  strictEqual(sourceCloses, 1);
  strictEqual(harness.server.addConnection(() => idle.stream), false);
  harness.settle();
  deepStrictEqual([idle, haggling, busy, halfway].map(({ stream }) => stream.isClosed), [true, true, false, true]);
  busy.request(Cmd.WRITE, { payload: pattern(4096, 2) });
  harness.settle();
  strictEqual(harness.server.isStopped, false);
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(busy.answers().filter(({ done }) => done).length, 2);
  strictEqual(busy.stream.isClosed, true);
  strictEqual(harness.server.isStopped, true);
  harness.assertIdle();
});

Deno.test("stop finishes a request that waits for the host", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.host.limit = 1;
  harness.hostCompletes = false;
  client.request(Cmd.READ, { length: 4 * MIB });
  client.request(Cmd.READ, { length: 512 });
  harness.settle();
  harness.server.stop();
  harness.hostCompletes = true;
  harness.settle();
  strictEqual(client.answers().filter(({ done }) => done).length, 1);
  strictEqual(harness.server.isStopped, true);
  harness.assertIdle();
});

Deno.test("stop does not wait for ever for a client that does not read", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  harness.sendsComplete = false;
  client.request(Cmd.READ, { length: MIB });
  harness.settle();
  harness.server.stop();
  harness.settle();
  strictEqual(client.stream.isClosed, false);
  harness.clock.nowMs += 5000;
  harness.settle();
  strictEqual(client.stream.isClosed, true);
  strictEqual(harness.server.isStopped, true);
  harness.assertIdle();
});

Deno.test("no more connections than the limit", () => {
  const harness = new NbdHarness({ limits: { connections: 2 } });
  harness.open();
  const second = harness.connect();
  strictEqual(harness.server.connectionCount, 2);
  throws(() => harness.connect(), /Expected values to be strictly equal/);
  second.stream.end();
  harness.settle();
  harness.connect().send(be32(3), option(Opt.GO, infoData("vol1")));
  harness.settle();
  strictEqual(harness.server.connectionCount, 2);
});

Deno.test("a host that completes a request twice, or one it was never given, is a bug and says so", () => {
  const harness = new NbdHarness();
  const client = harness.open();
  client.ask(Cmd.FLUSH);
  throws(() => harness.server.complete(harness.host.log[0].tag, 0), /once/);
  throws(() => harness.server.complete(1e6, 0), /once/);
});
