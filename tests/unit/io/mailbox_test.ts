import assert from "node:assert/strict";
import fc from "fast-check";
import { turnUntil } from "./turn_until.ts";
import { MailboxFull, MailboxReceiver, MailboxSender } from "../../../lib/io/mailbox.ts";
import { UringReactor } from "../../../lib/io/uring_reactor.ts";

function withReceiver(
  sender: MailboxSender,
  body: (reactor: UringReactor, received: unknown[], receiver: MailboxReceiver) => Promise<void>,
): Promise<void> {
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  const received: unknown[] = [];
  const receiver = new MailboxReceiver(sender.port, reactor, (value) => received.push(value));
  return body(reactor, received, receiver).finally(() => {
    receiver.close();
    turnUntil(reactor, () => reactor.inFlightCount === 0, "the mailbox is closed");
    reactor.dispose();
  });
}

Deno.test("a worker that never returns to its event loop gets every message, in order, and answers", async () => {
  const sender = new MailboxSender(8192);
  const worker = new Worker(new URL("./mailbox_worker.ts", import.meta.url).href, { type: "module" });
  const answers: unknown[] = [];
  const stopped = new Promise<void>((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message));
    worker.onmessage = (event) => event.data.op === "stopped" ? resolve() : answers.push(event.data.value);
  });
  worker.postMessage(sender.port);
  // More than the ring holds at once, and more than may wait: each is awaited in batches.
  const count = 3000;
  for (let i = 0; i < count;) {
    const batch: Promise<void>[] = [];
    for (let j = 0; j < 200 && i < count; j++, i++) batch.push(sender.send({ op: "echo", value: i }));
    await Promise.all(batch);
  }
  await sender.send({ op: "echo", value: { text: "größer ☃ 𝄞", nested: [null, 1.5, "x".repeat(5000)] } });
  await sender.send({ op: "stop" });
  await stopped;
  assert.deepEqual(answers.slice(0, count), Array.from({ length: count }, (_, i) => i));
  assert.deepEqual(answers[count], { text: "größer ☃ 𝄞", nested: [null, 1.5, "x".repeat(5000)] });
  worker.terminate();
});

Deno.test("a message waits for room, in its order, until the worker has taken what is before it", async () => {
  const sender = new MailboxSender(4096);
  await withReceiver(sender, async (reactor, received) => {
    const text = "y".repeat(1500);
    const states = Array.from({ length: 6 }, () => "waiting");
    const sends = states.map((_, i) => sender.send({ i, text }).then(() => states[i] = "sent"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(states, ["sent", "sent", "waiting", "waiting", "waiting", "waiting"]);
    for (let round = 0; round < 1000 && received.length < 6; round++) {
      reactor.turn(reactor.clockMs() + 5);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(sends);
    assert.deepEqual(received.map((value) => (value as { i: number }).i), [0, 1, 2, 3, 4, 5]);
  });
});

Deno.test("what can never be sent is refused, and so is one message too many", async () => {
  const sender = new MailboxSender(4096);
  await assert.rejects(sender.send("z".repeat(4096)), (error) => {
    assert.ok(error instanceof MailboxFull);
    assert.match(error.message, /4098 bytes is too large for a mailbox of 4096/);
    return true;
  });
  await assert.rejects(sender.send(undefined), /undefined is no JSON value/);
  assert.throws(() => new MailboxSender(5000), /power of two/);
  // Nobody receives: the ring fills, then 256 wait, then it is enough.
  const large = "w".repeat(2000);
  const settled: Promise<void>[] = [];
  for (let i = 0; i < 2 + 256; i++) settled.push(sender.send(large));
  await assert.rejects(sender.send(1), /256 messages already wait/);
  // All of them arrive once somebody does.
  await withReceiver(sender, async (reactor, received) => {
    for (let round = 0; round < 5000 && received.length < 258; round++) {
      reactor.turn(reactor.clockMs() + 1);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await Promise.all(settled);
    assert.equal(received.length, 258);
  });
});

Deno.test("messages sent before the receiver exists are delivered", async () => {
  const sender = new MailboxSender();
  await sender.send(1);
  await sender.send(2);
  await withReceiver(sender, (reactor, received) => {
    turnUntil(reactor, () => received.length === 2, "both messages");
    assert.deepEqual(received, [1, 2]);
    return Promise.resolve();
  });
});

Deno.test("after close() nothing is delivered", async () => {
  const sender = new MailboxSender();
  await withReceiver(sender, async (reactor, received, receiver) => {
    receiver.close();
    receiver.close();
    await sender.send(1);
    turnUntil(reactor, () => reactor.inFlightCount === 0, "closed");
    assert.deepEqual(received, []);
  });
});

Deno.test("an onMessage that throws loses no later message", async () => {
  const sender = new MailboxSender();
  const reactor = UringReactor.create({ entries: 8, completionEntries: 256 });
  const received: unknown[] = [];
  const receiver = new MailboxReceiver(sender.port, reactor, (value) => {
    if (value === "bad") throw new Error("broken");
    received.push(value);
  });
  await sender.send("bad");
  await sender.send("good");
  assert.throws(() => reactor.turn(Infinity), /broken/);
  await sender.send("later");
  turnUntil(reactor, () => received.length === 2, "the others");
  assert.deepEqual(received, ["good", "later"]);
  receiver.close();
  turnUntil(reactor, () => reactor.inFlightCount === 0, "closed");
  reactor.dispose();
});

Deno.test("any JSON values arrive as they were sent, wherever the ring wraps", async () => {
  const sender = new MailboxSender(4096);
  await withReceiver(sender, async (reactor, received) => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue(), { maxLength: 8 }), async (values) => {
        const fitting = values.filter((value) => JSON.stringify(value).length < 400);
        received.length = 0;
        for (const value of fitting) await sender.send(value);
        turnUntil(reactor, () => received.length === fitting.length, "all values");
        assert.deepEqual(received, JSON.parse(JSON.stringify(fitting)));
      }),
      { numRuns: 150 },
    );
  });
});
