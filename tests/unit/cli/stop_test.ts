import assert from "node:assert/strict";
import { runUntilStopped } from "../../../cli/running_node.ts";
import { unlessAborted } from "../../../lib/base/unless_aborted.ts";
import { listenForStop } from "../../../cli/stop_signals.ts";
import { ExitCode } from "../../../cli/exit_code.ts";
import { FakeTerminal } from "./fake_terminal.ts";

/** A node that ends when told to, and says how often it was told. */
function fakeNode() {
  const { promise: finished, resolve, reject } = Promise.withResolvers<void>();
  let stopCount = 0;
  return {
    get stopCount() {
      return stopCount;
    },
    die: reject,
    end: resolve,
    finished,
    stop() {
      stopCount++;
      resolve();
      return finished;
    },
  };
}

const NO_SIGNAL = { first: new Promise<string>(() => undefined), close: () => undefined };

Deno.test("the first signal is told once, the second is told at once", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const signals = listenForStop(resolve);
  const awake = setInterval(() => undefined, 1000); // signal listeners alone keep no process waiting
  Deno.kill(Deno.pid, "SIGTERM");
  assert.equal(await signals.first, "SIGTERM");
  Deno.kill(Deno.pid, "SIGHUP"); // not SIGINT: the test runner itself listens to that
  await promise;
  clearInterval(awake);
  signals.close();
});

Deno.test("a signal stops a running node in an orderly way", async () => {
  const node = fakeNode();
  const terminal = new FakeTerminal();
  const { promise: first, resolve } = Promise.withResolvers<string>();
  const running = runUntilStopped(() => Promise.resolve(node), { first, close: () => undefined }, terminal);
  resolve("SIGTERM");
  assert.equal(await running, ExitCode.OK);
  assert.equal(node.stopCount, 1);
  assert.match(terminal.stderr, /SIGTERM: stopping/);
});

Deno.test("a node that ends by itself ends the command; one that dies is its error", async () => {
  const node = fakeNode();
  const running = runUntilStopped(() => Promise.resolve(node), NO_SIGNAL, new FakeTerminal());
  node.end();
  assert.equal(await running, ExitCode.OK);
  assert.equal(node.stopCount, 0);
  const dying = fakeNode();
  const failing = runUntilStopped(() => Promise.resolve(dying), NO_SIGNAL, new FakeTerminal());
  dying.die(new Error("The data plane failed"));
  await assert.rejects(failing, /data plane failed/);
});

Deno.test("a signal while the node still starts is told to the start, which takes back what it has begun", async () => {
  const { promise: first, resolve } = Promise.withResolvers<string>();
  const { promise: undone, resolve: undo } = Promise.withResolvers<void>();
  const told: string[] = [];
  const start = async (stopping: AbortSignal): Promise<never> => {
    await new Promise((resolve) => stopping.addEventListener("abort", resolve));
    told.push("stopping");
    await undone;
    told.push("undone");
    throw stopping.reason;
  };
  const running = runUntilStopped(start, { first, close: () => undefined }, new FakeTerminal());
  const ended = running.then(() => told.push("ended"));
  resolve("SIGINT");
  await first;
  setTimeout(undo); // the command has every chance to end before
  assert.equal(await running, ExitCode.INTERRUPTED);
  await ended;
  assert.deepEqual(told, ["stopping", "undone", "ended"]);
});

Deno.test("a start that has become a node in spite of a signal is stopped; one that cannot take back what it began is an error", async () => {
  const signals = { first: Promise.resolve("SIGTERM"), close: () => undefined };
  const node = fakeNode();
  const late = async (stopping: AbortSignal) => {
    if (!stopping.aborted) await new Promise((resolve) => stopping.addEventListener("abort", resolve));
    return node;
  };
  assert.equal(await runUntilStopped(late, signals, new FakeTerminal()), ExitCode.INTERRUPTED);
  assert.equal(node.stopCount, 1);
  const stuck = (stopping: AbortSignal) =>
    new Promise<never>((_, reject) => {
      stopping.addEventListener("abort", () => reject(new Error("The device stays")));
    });
  await assert.rejects(runUntilStopped(stuck, signals, new FakeTerminal()), /The device stays/);
});

Deno.test("work that is not wanted any more is not waited for, and is as it was otherwise", async () => {
  const stopping = new AbortController();
  assert.equal(await unlessAborted(Promise.resolve(3), stopping.signal), 3);
  await assert.rejects(unlessAborted(Promise.reject(new Error("in vain")), stopping.signal), /in vain/);
  const never = new Promise<never>(() => undefined);
  const waiting = unlessAborted(never, stopping.signal);
  stopping.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  await assert.rejects(unlessAborted(never, stopping.signal), /enough/);
});
