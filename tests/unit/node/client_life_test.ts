/** When the life of a client's data plane wants to go on, and how it ends. */

import assert from "node:assert/strict";
import type { Reactor } from "../../../lib/io/reactor.ts";
import type { Frontend } from "../../../lib/frontend/frontend.ts";
import { ClientLife } from "../../../lib/node/client_life.ts";
import type { ClientWorker } from "../../../lib/node/client_worker.ts";
import type { WorkerReport } from "../../../lib/node/worker_messages.ts";

const IO_TIMEOUT_MS = 30_000;

function setUp(readOnly = false) {
  const core = {
    state: "assembling",
    refusal: "",
    watermark: 1,
    generation: 4,
    snapshot: () => ({ watermark: core.watermark }),
  };
  const clock = { nowMs: 1 };
  const reports: WorkerReport[] = [];
  const worker = {
    core,
    frontends: [],
    geometry: { name: "vol1", readOnly },
    detach: () => detachCount++,
  } as unknown as ClientWorker;
  let detachCount = 0;
  const opened: Frontend[] = [];
  const life = new ClientLife(worker, clock as Reactor, () => opened, (report) => reports.push(report), IO_TIMEOUT_MS);
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

for (const [readOnly, names] of [[false, ["unclean-detach"]], [true, []]] as const) {
  const who = readOnly ? "a reader's detach" : "a detach";
  Deno.test(`${who} that the legs do not answer ends when I/O may wait no longer, and tells ${names.length} events`, () => {
    const { clock, core, life, reports } = setUp(readOnly);
    core.state = "ready";
    life.afterTurn();
    reports.length = 0;
    life.stop();
    life.afterTurn();
    clock.nowMs += IO_TIMEOUT_MS - 1;
    life.afterTurn();
    assert.ok(!life.isOver, "requests under way may still be answered");
    clock.nowMs++;
    life.afterTurn();
    assert.ok(life.isOver);
    assert.deepEqual(reports.map((report) => report.kind === "event" && report.event.name), names);
  });
}

Deno.test("a detach from legs that were there is clean; one from a pool that waited for legs is not, but for who never served it", () => {
  for (
    const [state, watermark, isClean] of [["ready", 7, true], ["ready", 0, false], ["assembling", 0, true]] as const
  ) {
    const { core, life, reports } = setUp();
    core.state = state;
    life.afterTurn();
    life.stop();
    life.afterTurn();
    Object.assign(core, { state: "detached", watermark });
    life.afterTurn();
    assert.ok(life.isOver);
    const told = reports.filter((report) => report.kind === "event").map(({ event }) => event.name);
    assert.deepEqual(told, isClean ? [] : ["unclean-detach"]);
  }
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

Deno.test("who is served under another claim tells of it, once", () => {
  const { core, life, reports } = setUp();
  core.state = "ready";
  life.afterTurn();
  assert.deepEqual(reports, [{ kind: "ready", uris: [], generation: 4 }]);
  core.state = "waiting";
  core.generation = 6;
  life.afterTurn();
  assert.equal(reports.length, 1, "It is not served yet");
  core.state = "ready";
  life.afterTurn();
  life.afterTurn();
  assert.deepEqual(reports.slice(1), [{ kind: "claimed-anew", generation: 6 }]);
});

Deno.test("a device that the kernel is taking away is waited for, with what it waits for failed, for a while", () => {
  for (const isTakenAway of [true, false]) {
    const { clock, core, life, opened } = setUp();
    let failCount = 0;
    const device = { uri: "/dev/ublkb0", connectionCount: 1, isEnding: true, stop() {}, failAll: () => failCount++ };
    opened.push(device as unknown as Frontend);
    core.state = "ready";
    life.afterTurn();
    life.stop();
    clock.nowMs += 5_000;
    life.afterTurn();
    core.state = "detached";
    assert.equal(life.deadlineMs, 0, "What waits fails at once");
    life.afterTurn();
    assert.equal(failCount, 1);
    assert.ok(!life.isOver && life.deadlineMs > clock.nowMs);
    if (isTakenAway) device.isEnding = false;
    else clock.nowMs += 5_000;
    life.afterTurn();
    assert.ok(life.isOver && failCount === 1);
  }
});
