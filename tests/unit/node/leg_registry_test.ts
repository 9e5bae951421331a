import assert from "node:assert/strict";
import { ControlError } from "../../../lib/control/control_api.ts";
import type { DeviceWork } from "../../../lib/node/device_workers.ts";
import { LegRegistry } from "../../../lib/node/leg_registry.ts";
import type { NodeState } from "../../../lib/node/node_state.ts";
import type { WorkerPort } from "../../../lib/node/worker_port.ts";

const LEG = { path: "/data/a.img", poolUuid: "p", legUuid: "l", createdFile: true };

/** A registry of one leg; every attempt to open it ends as `attempt` says. Returns how many attempts there were, too. */
async function opened(attempt: (count: number) => void, releaseLimitMs?: number) {
  let attempts = 0;
  const port = {
    request(operation: string): Promise<void> {
      assert.equal(operation, "leg.open");
      attempts++;
      try {
        attempt(attempts);
        return Promise.resolve();
      } catch (error) {
        return Promise.reject(error);
      }
    },
  };
  const state = { legs: [LEG] };
  const registry = new LegRegistry(
    state as unknown as NodeState,
    port as unknown as WorkerPort,
    null as unknown as DeviceWork,
    releaseLimitMs,
  );
  const told: string[] = [];
  const count = await registry.openAll((message) => told.push(message));
  return { count, attempts, told, broken: registry.broken };
}

const held = () => {
  throw new ControlError("in-use", "held by another process");
};

Deno.test("a leg that the process before still holds is opened once it is let go of", async () => {
  const { count, attempts, told, broken } = await opened((attempt) => attempt < 3 && held());
  assert.deepEqual([count, attempts, broken], [1, 3, []]);
  assert.deepEqual(told, ["held by another process"]); // once
});

Deno.test("a leg that stays held is broken after a while, and told why", async () => {
  const { count, broken } = await opened(held, 0);
  assert.equal(count, 0);
  assert.deepEqual(broken.map(({ path, message }) => [path, message]), [[LEG.path, "held by another process"]]);
});

Deno.test("a leg whose device is gone is broken at once", async () => {
  const { attempts, broken } = await opened(() => {
    throw new ControlError("device", "no such device");
  });
  assert.deepEqual([attempts, broken.length], [1, 1]);
});
