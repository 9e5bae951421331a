/** When a leg that is reached over TCP moves to RDMA. */

import assert from "node:assert/strict";
import { BetterPaths } from "../../../lib/node/better_paths.ts";
import type { LegPath } from "../../../lib/control/control_api.ts";
import type { ClientSnapshot } from "../../../lib/core/snapshot.ts";

const HEARTBEAT_MS = 3000;
const RDMA = "rdma://10.0.0.1:7702";

type Leg = ClientSnapshot["legs"][number];

function setUp() {
  const legs = [0, 1].map((legIndex) => ({
    legIndex,
    state: "in-sync",
    isDrained: false,
    paths: [`rdma://10.0.0.1:770${1 + legIndex}`, `tcp://10.0.0.1:770${1 + legIndex}`],
  }));
  const clock = { nowMs: 0, clockMs: () => clock.nowMs };
  const paths: { legIndex: number; transport: LegPath["transport"] }[] = [0, 1].map((legIndex) => ({
    legIndex,
    transport: "rdma",
  }));
  const probes: { address: string; atMs: number; tell: (isThere: boolean) => void }[] = [];
  const left: number[] = [];
  const client = {
    state: "ready",
    core: { snapshot: () => ({ state: client.state, legs: legs as unknown as Leg[] }) },
    paths: () => paths,
    probe: (address: string, tell: (isThere: boolean) => void) => probes.push({ address, atMs: clock.nowMs, tell }),
    leave: (legIndex: number) => left.push(legIndex),
  };
  const events: string[] = [];
  const better = new BetterPaths(client, clock, HEARTBEAT_MS, ({ name }) => events.push(name));
  /** Lets time pass, a turn each time one is asked for. */
  const pass = (ms: number) => {
    const untilMs = clock.nowMs + ms;
    while (better.deadlineMs <= untilMs) {
      assert(better.deadlineMs > clock.nowMs, "a deadline lies ahead");
      clock.nowMs = better.deadlineMs;
      better.afterTurn();
    }
    clock.nowMs = untilMs;
  };
  return { better, client, clock, legs, paths, probes, left, events, pass };
}

Deno.test("a leg that is reached by RDMA is left alone", () => {
  const { pass, probes } = setUp();
  pass(3_600_000);
  assert.equal(probes.length, 0);
});

Deno.test("a leg over TCP is tried by RDMA, and moves when that answers at once", () => {
  const { clock, paths, probes, left, events, pass } = setUp();
  paths[1].transport = "tcp";
  pass(60_000);
  assert.equal(probes.length, 1, "one try at a time");
  assert.equal(probes[0].address, RDMA);
  assert(probes[0].atMs >= 10_000, "not before it had time to settle");
  assert.equal(left.length, 0);
  clock.nowMs = probes[0].atMs + 20;
  probes[0].tell(true);
  assert.deepEqual(left, [1]);
  assert.deepEqual(events, ["better-path"]);
});

Deno.test("a leg whose node knows of no RDMA address is never tried", () => {
  const { legs, paths, probes, pass } = setUp();
  paths[1].transport = "tcp";
  legs[1].paths = ["10.0.0.1:7702"];
  pass(3_600_000);
  assert.equal(probes.length, 0);
});

Deno.test("memory that is shared within a machine is not given up for RDMA", () => {
  const { paths, probes, pass } = setUp();
  paths[1].transport = "shared-memory";
  pass(3_600_000);
  assert.equal(probes.length, 0);
});

Deno.test("nothing moves while a leg is not in sync or the pool is not being served", () => {
  const { client, legs, paths, probes, left, pass } = setUp();
  paths[1].transport = "tcp";
  legs[0].state = "resyncing";
  pass(100_000);
  assert.equal(probes.length, 0);
  legs[0].state = "in-sync";
  client.state = "detaching";
  pass(100_000);
  assert.equal(probes.length, 0);
  client.state = "ready";
  pass(10_000);
  assert.equal(probes.length, 1);
  legs[0].state = "away"; // meanwhile
  probes[0].tell(true);
  assert.equal(left.length, 0);
});

Deno.test("a drained leg is nothing to wait for", () => {
  const { legs, paths, probes, pass } = setUp();
  legs[0].isDrained = true;
  legs[0].state = "stale";
  paths[1].transport = "tcp";
  pass(20_000);
  assert.equal(probes.length, 1);
});

Deno.test("what is slow to connect to would not be reached in time, and is left", () => {
  const { clock, paths, probes, left, pass } = setUp();
  paths[1].transport = "tcp";
  pass(20_000);
  clock.nowMs = probes[0].atMs + HEARTBEAT_MS / 20 + 1;
  probes[0].tell(true);
  assert.equal(left.length, 0);
});

Deno.test("tries become rare while RDMA cannot be had, and frequent again once it has lasted", () => {
  const { paths, probes, pass } = setUp();
  paths[1].transport = "tcp";
  for (let told = 0, hours = 0; hours < 4; hours++) {
    for (let i = 0; i < 360; i++) {
      pass(10_000);
      while (told < probes.length) probes[told++].tell(false);
    }
  }
  const gaps = probes.slice(1).map(({ atMs }, k) => atMs - probes[k].atMs);
  assert.equal(gaps[0], 20_000);
  assert(gaps.every((gap, k) => k === 0 || gap >= gaps[k - 1]), `${gaps}`);
  assert.equal(gaps.at(-1), 600_000);
  const before = probes.length;
  paths[1].transport = "rdma";
  pass(10_000);
  paths[1].transport = "tcp"; // did not last
  pass(60_000);
  assert.equal(probes.length, before);
  paths[1].transport = "rdma";
  pass(200_000);
  paths[1].transport = "tcp";
  pass(20_000);
  assert.equal(probes.length, before + 1);
});
