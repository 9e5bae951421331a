/** The checker of bounds notices what grows beyond them. */

import assert from "node:assert/strict";
import type { ClientLoad, LegLoad } from "../../lib/core/snapshot.ts";
import { expectClientBounds, expectLegBounds } from "./bounds.ts";
import type { ClientProcess } from "./client_process.ts";
import type { LegProcess } from "./leg_process.ts";
import { drawPlan } from "./plan.ts";
import { SlotTable } from "./slots.ts";

const WORLD = {
  plan: drawPlan(1),
  slots: new SlotTable(),
  layout: { intentBlockCount: 1 },
};
const LEG_LOAD: LegLoad = {
  operations: 4,
  clientOperations: 3,
  waiting: 2,
  waitingPeerReads: 0,
  connections: 2,
  pendingEpochs: 1,
  pendingMetadata: 1,
  mostMapBytes: 0,
};
const CLIENT_LOAD: ClientLoad = { requests: 3, waiting: 1, writeBytes: 8192 };

function checkLeg(change: Partial<LegLoad>): void {
  const core = { load: () => ({ ...LEG_LOAD, ...change }) };
  expectLegBounds({ world: WORLD, id: 0, name: "leg-0", core } as unknown as LegProcess, 2);
}

function checkClient(change: Partial<ClientLoad>): void {
  const core = { load: () => ({ ...CLIENT_LOAD, ...change }) };
  expectClientBounds({ world: WORLD, id: 1, name: "client", core } as unknown as ClientProcess);
}

Deno.test("what keeps to its bounds passes", () => {
  checkLeg({});
  checkClient({});
});

Deno.test("every number that grows beyond its bound is named", () => {
  const changes: [Partial<LegLoad>, RegExp][] = [
    [{ operations: 5000 }, /5000 operations;/],
    [{ clientOperations: 5 }, /operations of the client/],
    [{ waiting: 4 }, /waiting operations/],
    [{ waitingPeerReads: 1000 }, /waiting reads of peers/],
    [{ connections: 3 }, /connections/],
    [{ pendingEpochs: 65 }, /records on their way/],
    [{ pendingMetadata: 1000 }, /metadata writes/],
    [{ mostMapBytes: 1 << 20 }, /bytes of a dirty map/],
  ];
  for (const [change, message] of changes) assert.throws(() => checkLeg(change), message);
  assert.throws(() => checkClient({ requests: 33, waiting: 0 }), /requests/);
  assert.throws(() => checkClient({ waiting: 4 }), /waiting requests/);
  assert.throws(() => checkClient({ writeBytes: 64 << 20 }), /bytes of writes in flight/);
});
