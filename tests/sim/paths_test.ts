/**
 * Paths to a leg that fail one at a time: the leg never leaves the in-sync set, no record is made, and no request waits longer than it takes
 * to notice a silence and to change the path.
 */

import assert from "node:assert/strict";
import { Prng } from "../../lib/base/prng.ts";
import type { AppRequest } from "./application.ts";
import { happens, part, under } from "./chance.ts";
import { breakPath } from "./faults.ts";
import { drawPlan, type Plan } from "./plan.ts";
import { runPlan } from "./run_seed.ts";
import type { World } from "./world.ts";

const WORLDS = 60;
/** Long enough for a change of path, with what is left of its requests, to be over before the other path of the same leg may fail. */
const REST_MS = 1500;
/** Beside the heartbeat limit and the change: ticks of the client, frames, disks. */
const SLACK_MS = 400;

/** A world in which nothing goes wrong but paths. */
export function planOf(seed: number): Plan {
  const plan = drawPlan(seed);
  const heartbeatLimitMs = 3000;
  return {
    ...plan,
    pathCounts: new Array(plan.legCount).fill(2),
    faults: [],
    // Where the intent log is full, what waits for room waits for several flushes.
    shape: { ...plan.shape, hotExtentCount: seed % 2 === 0 ? 256 : plan.shape.hotExtentCount },
    readerCount: 0,
    caretakers: false,
    clientless: false,
    eioChance: [0, 0, 0, 0, 0],
    diskMeanMs: 0.2,
    diskSpikeChance: 0,
    network: { ...plan.network, spikeChance: 0, silentBreakChance: 0 },
    requestCount: 400,
    thinkMeanMs: 40,
    clientOptions: { ...plan.clientOptions, heartbeatLimitMs, connectLimitMs: heartbeatLimitMs, legTimeoutMs: 20_000 },
  };
}

/**
 * Cuts and breaks paths while the application works; never both of a leg, and, with `oneByOne`, of one leg at a time. Tells how often, the
 * longest time that a request took, and the epochs that there were.
 */
export function harass(
  world: World,
  prng: Prng,
  oneByOne: boolean,
): { cuts: number; oldestMs: number; epochs: Set<number> } {
  const told = { cuts: 0, oldestMs: 0, epochs: new Set<number>() };
  const since = new Map<AppRequest, number>();
  const nextMs = world.legs.map(() => 500 + 3000 * part(prng));
  const lastPath = world.legs.map(() => 0);
  world.onStep = () => {
    const { client, nowMs } = world;
    const seen = new Set(client.inFlight.values());
    for (const request of since.keys()) if (!seen.has(request)) since.delete(request);
    for (const request of seen) since.set(request, Math.min(since.get(request) ?? nowMs, nowMs));
    for (const sinceMs of since.values()) told.oldestMs = Math.max(told.oldestMs, nowMs - sinceMs);
    if (client.alive && client.core!.state === "ready") told.epochs.add(client.core!.snapshot().epoch);
    if (world.stage !== "load") return;
    for (const leg of world.legs) {
      if (!leg.hasLeg || nowMs < nextMs[leg.legIndex]) continue;
      const path = happens(prng, 0.7) ? 1 - lastPath[leg.legIndex] : lastPath[leg.legIndex];
      lastPath[leg.legIndex] = path;
      const untilMs = nowMs + 6000 * part(prng);
      const direction = under(prng, 4); // to it, from it, both; not at all, but it breaks
      if (direction !== 1 && direction < 3) world.network.cutPath(leg.id, path, true, untilMs);
      if (direction !== 0 && direction < 3) world.network.cutPath(leg.id, path, false, untilMs);
      if (direction === 3 || happens(prng, 0.3)) breakPath(world, leg, path);
      const restedMs = untilMs + REST_MS + 3500 + 2000 * part(prng);
      nextMs[leg.legIndex] = restedMs;
      if (oneByOne) { for (const each of world.legs) nextMs[each.legIndex] = restedMs + 10 * part(prng); }
      told.cuts++;
    }
  };
  return told;
}

Deno.test("a path that fails while another one is fine costs neither the leg nor more than the time to notice", () => {
  let cuts = 0;
  for (let seed = 1; seed <= WORLDS; seed++) {
    // Where several legs change paths one after the other, what waits for one may have waited for another before.
    const oneByOne = seed % 2 === 0;
    const plan = planOf(seed);
    let told = { cuts: 0, oldestMs: 0, epochs: new Set<number>() };
    const outcome = runPlan(plan, 0, -1, (world) => told = harass(world, new Prng(seed * 31), oneByOne));
    assert.equal(outcome.violation, null, `seed ${seed}: ${outcome.violation?.stack}`);
    assert.ok(told.epochs.size <= 1, `seed ${seed}: epochs ${[...told.epochs].join(", ")}`);
    const { heartbeatLimitMs } = plan.clientOptions;
    const boundMs = heartbeatLimitMs * 1.2 + SLACK_MS;
    assert.ok(boundMs <= 4000);
    if (oneByOne) assert.ok(told.oldestMs <= boundMs, `seed ${seed}: a request took ${told.oldestMs} ms`);
    cuts += told.cuts;
  }
  assert.ok(cuts > 2 * WORLDS, `paths do fail: ${cuts}`);
});
