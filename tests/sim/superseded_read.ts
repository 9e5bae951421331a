/**
 * A story that chance tells too seldom: two of three legs must be in sync, and a client takes the pool over with the two that it reaches. The client
 * that had it reaches the third alone, has not noticed, and reads there.
 *
 * @module
 */

import { RequestKind } from "../../lib/frontend/frontend.ts";
import { drawPlan, type Plan } from "./plan.ts";
import type { ClientProcess } from "./client_process.ts";
import { Lab } from "./lab.ts";
import { World } from "./world.ts";

const CUT_MS = 60_000;
const LIMIT_MS = 20_000;

function storyPlan(): Plan {
  const base = drawPlan(1);
  return {
    ...base,
    legCount: 3,
    spareCount: 0,
    readerCount: 0,
    shape: {
      ...base.shape,
      legUuids: [0, 1, 2].map((index) => `00000000-0000-4000-8000-00000000000${index}`),
      minInSync: 2,
    },
    network: { ...base.network, spikeChance: 0, heldPayloadChance: 0, earlyPlacementChance: 0, silentBreakChance: 0 },
    diskSpikeChance: 0,
    eioChance: [0, 0, 0, 0, 0],
    faults: [],
    bootsAreKnown: true,
    caretakers: false,
    clientless: false,
    requestCount: 0,
    clientOptions: { ...base.clientOptions, heartbeatLimitMs: 30_000 },
  };
}

/** Tells it; throws what a checker complains about. */
export function tellSupersededRead(): void {
  const world = new World(new Lab(), storyPlan(), null);
  world.stage = "scenario";
  world.start();
  const former = world.client;
  const isReady = () => world.client.core?.state === "ready";
  world.runUntil(isReady, LIMIT_MS);
  ask(world, former, RequestKind.WRITE, 0, 8);
  world.runUntil(() => former.inFlight.size === 0, LIMIT_MS);
  const next = world.clients[1];
  for (const leg of world.legs) {
    const cutOff = leg.legIndex === 2 ? next : former;
    world.network.cut(cutOff.id, leg.id, world.nowMs + CUT_MS);
    world.network.cut(leg.id, cutOff.id, world.nowMs + CUT_MS);
  }
  world.takeOver();
  world.runUntil(isReady, LIMIT_MS);
  ask(world, next, RequestKind.WRITE, 0, 8);
  world.runUntil(() => next.inFlight.size === 0, LIMIT_MS);
  // One of them goes to the leg that it reaches.
  for (const sector of [0, 2, 4]) ask(world, former, RequestKind.READ, sector, 2);
  world.runUntil(() => false, 1000);
}

function ask(world: World, client: ClientProcess, kind: number, firstSector: number, sectorCount: number): void {
  client.submit(world.application.begin(client, kind, 0, firstSector, sectorCount));
}
