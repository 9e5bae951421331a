/**
 * Small worlds of the real core in which faults strike at exactly chosen events rather than by chance: every fault at every event, and pairs
 * of faults. All the simulator's checkers watch.
 *
 * @module
 */

import { drawPlan, type Plan } from "../sim/plan.ts";
import { runPlan, type SeedOutcome } from "../sim/run_seed.ts";
import type { World } from "../sim/world.ts";

/** How long what was killed stays away. */
const DOWN_MS = 25;
const CUT_MS = 1500;

/** One fault at one event. */
export interface PlacedFault {
  readonly event: number;
  readonly fault: string;
}

function killLeg(world: World, index: number, power: boolean): void {
  const leg = world.legs[index];
  const wasAlive = leg.alive;
  leg.kill(power);
  if (wasAlive) world.scheduleStart(leg, DOWN_MS);
}

function killClient(world: World, power: boolean): void {
  if (!world.client.alive) return;
  world.client.kill(power);
  world.scheduleStart(world.client, DOWN_MS, true);
}

/** What may strike a pool of so many legs, by name. */
export function faultsFor(legCount: number): Map<string, (world: World) => void> {
  const faults = new Map<string, (world: World) => void>([
    ["kill client", (world) => killClient(world, false)],
    ["take over", (world) => world.takeOver()],
    ["power of everything", (world) => {
      killClient(world, true);
      for (let index = 0; index < legCount; index++) killLeg(world, index, true);
    }],
  ]);
  // The first leg and the last one stand for all: those between are as the last.
  for (const index of [0, legCount - 1]) {
    faults.set(`kill leg ${index}`, (world) => killLeg(world, index, false));
    faults.set(`power of leg ${index}`, (world) => killLeg(world, index, true));
    faults.set(`power of client and leg ${index}`, (world) => {
      killClient(world, true);
      killLeg(world, index, true);
    });
    faults.set(`cut client to leg ${index}`, (world) => {
      world.network.cut(world.client.id, world.legs[index].id, world.nowMs + CUT_MS);
    });
    faults.set(`cut leg ${index} to client`, (world) => {
      world.network.cut(world.legs[index].id, world.client.id, world.nowMs + CUT_MS);
    });
    faults.set(`disk of leg ${index} fails a write`, (world) => {
      if (world.legs[index].alive) world.legs[index].disk.failNext.push(1);
    });
  }
  return faults;
}

/** A world of a few overlapping writes. `order` decides the order of messages between connections, and nothing else matters. */
export function smallPlan(legCount: number, minInSync: number, order: number): Plan {
  const base = drawPlan(order);
  return {
    ...base,
    legCount,
    spareCount: 0,
    shape: {
      ...base.shape,
      legUuids: Array.from({ length: legCount }, (_, i) => `00000000-0000-4000-8000-00000000000${i}`),
      sizeBytes: 64 * 4096,
      chunkBytes: 4096,
      extentBytes: 16 * 4096,
      hotExtentCount: 2,
      minInSync,
      ioTimeoutMs: 30_000,
    },
    network: {
      baseDelayMs: 0.1,
      meanDelayMs: 0.2,
      spikeChance: 0,
      spikeMs: 0,
      heldPayloadChance: 0.1,
      earlyPlacementChance: 0.1,
      silentBreakChance: 0,
    },
    diskMeanMs: 0.2,
    diskSpikeChance: 0,
    eioChance: [0, 0, 0, 0, 0],
    faults: [],
    bootsAreKnown: true,
    readerCount: 0,
    caretakers: false,
    clientless: false,
    turnMs: 0,
    requestCount: 7,
    queueDepth: 3,
    thinkMeanMs: 0.3,
    mostSectors: 8,
    spanSectors: 24,
    writeShare: 70,
    zeroShare: 5,
    discardShare: 5,
    flushShare: 10,
    fuaChance: 0,
    legOptions: { ...base.legOptions, creditRequests: 32, sessionSilenceMs: 3000, pullBytes: 32 * 1024 },
    clientOptions: { ...base.clientOptions, heartbeatLimitMs: 1000, legTimeoutMs: 4000, flushIntervalMs: 50 },
  };
}

/** Runs a small world with these faults. */
export function runPlaced(plan: Plan, placed: readonly PlacedFault[], traceLines = 0): SeedOutcome {
  const faults = faultsFor(plan.legCount);
  return runPlan(plan, traceLines, -1, (world) => {
    let next = 0;
    world.onStep = (event) => {
      while (next < placed.length && placed[next].event === event) {
        const { fault } = placed[next++];
        if (world.stage !== "load") continue; // the first fault has shortened it
        if (world.tracing) world.note(`fault ${fault}`);
        faults.get(fault)!(world);
      }
    };
  });
}

/** Events of the world until its load ends: where faults can strike. */
export function loadEvents(plan: Plan): number {
  let last = 0;
  runPlan(plan, 0, -1, (world) => {
    world.onStep = (event) => {
      if (world.stage === "load") last = event;
    };
  });
  return last;
}
