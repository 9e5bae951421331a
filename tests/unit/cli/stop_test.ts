import assert from "node:assert/strict";
import { runUntilStopped } from "../../../cli/running_node.ts";
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

Deno.test("a signal while the node still starts does not wait for it", async () => {
  const { promise: first, resolve } = Promise.withResolvers<string>();
  const never = new Promise<never>(() => undefined);
  const running = runUntilStopped(() => never, { first, close: () => undefined }, new FakeTerminal());
  resolve("SIGINT");
  assert.equal(await running, ExitCode.INTERRUPTED);
});
