/** When the life of a client's data plane wants to go on, and how it ends. */

import assert from "node:assert/strict";
import type { Reactor } from "../../../lib/io/reactor.ts";
import type { Frontend } from "../../../lib/frontend/frontend.ts";
import { ClientLife } from "../../../lib/node/client_life.ts";
import type { ClientWorker } from "../../../lib/node/client_worker.ts";
import type { WorkerReport } from "../../../lib/node/worker_messages.ts";

function setUp() {
  const core = { state: "assembling", refusal: "", snapshot: () => ({ poolName: "vol1" }) };
  const clock = { nowMs: 1 };
  const reports: WorkerReport[] = [];
  const worker = { core, frontends: [], detach: () => detachCount++ } as unknown as ClientWorker;
  let detachCount = 0;
  const opened: Frontend[] = [];
  const life = new ClientLife(worker, clock as Reactor, () => opened, (report) => reports.push(report));
  return { clock, core, life, opened, reports, detaches: () => detachCount };
}

Deno.test("a refusal is told although nothing is under way that could end a turn", () => {
  const { core, life, reports } = setUp();
  life.afterTurn();
  assert.equal(life.deadlineMs, Infinity);
  core.state = "refused";
  core.refusal = "No leg of the pool is reachable";
  assert.equal(life.deadlineMs, 0, "The next turn does not wait");
  life.afterTurn();
  assert.ok(life.isOver);
  assert.deepEqual(reports, [{ kind: "refused", error: { code: "refused", message: core.refusal } }]);
});

Deno.test("the end of a detach is noticed although nothing is under way that could end a turn", () => {
  const { core, life } = setUp();
  life.stop();
  life.afterTurn();
  assert.ok(!life.isOver && life.deadlineMs > 0);
  core.state = "detached";
  assert.equal(life.deadlineMs, 0);
  life.afterTurn();
  assert.ok(life.isOver);
});

Deno.test("a detach that the legs do not answer ends all the same, and says that it was not in order", () => {
  const { clock, life, reports } = setUp();
  life.stop();
  life.afterTurn();
  while (!life.isOver && clock.nowMs < 60_000) {
    clock.nowMs += 1000;
    life.afterTurn();
  }
  assert.ok(life.isOver);
  assert.deepEqual(reports.map((report) => report.kind === "event" && report.event.name), ["unclean-detach"]);
});

Deno.test("a device that does not start ends the attach when it is removed and what else was opened is closed", () => {
  const { core, life, opened, reports, detaches } = setUp();
  const stopped: string[] = [];
  const frontend = (name: string, connectionCount: number) => {
    return { uri: name, connectionCount, isReady: false, failure: null, stop: () => stopped.push(name) };
  };
  const device = { ...frontend("device", 1), failure: null as string | null };
  opened.push(device as unknown as Frontend, frontend("socket", 0) as unknown as Frontend);
  core.state = "ready";
  life.afterTurn();
  device.failure = "/dev/ublkb0 does not start: ENOMEM";
  life.afterTurn();
  assert.deepEqual(reports.map((report) => report.kind === "refused" && report.error.message), [device.failure]);
  assert.deepEqual(stopped, ["device", "socket"]);
  life.afterTurn();
  assert.equal(detaches(), 0, "the kernel still has the device");
  device.connectionCount = 0;
  life.afterTurn();
  assert.equal(detaches(), 1);
});
