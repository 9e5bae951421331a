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
    { look: () => Promise.resolve() } as unknown as DeviceWork,
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

/** A registry of one broken leg, whose device is looked at as `look` says; what the data plane is asked is noted. */
async function broken(look: () => Promise<void>, answer: (operation: string) => Promise<unknown>) {
  const asked: string[] = [];
  const port = {
    request(operation: string): Promise<unknown> {
      asked.push(operation);
      return answer(operation);
    },
  };
  let isFirst = true;
  const devices = {
    look() {
      if (!isFirst) return look();
      isFirst = false;
      return Promise.reject(new ControlError("device", "not there yet"));
    },
  };
  const legs = [LEG];
  const state = { legs, erasing: [], removeLeg: () => Promise.resolve(legs.splice(0)) };
  const registry = new LegRegistry(
    state as unknown as NodeState,
    port as unknown as WorkerPort,
    devices as unknown as DeviceWork,
  );
  await registry.openAll(() => undefined);
  assert.deepEqual(asked, []);
  return { registry, asked };
}

Deno.test("a disk that hangs is looked at by somebody who can wait, and keeps nobody from other work", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { registry, asked } = await broken(
    () => promise,
    () => Promise.resolve({ legs: [], bufferBytes: 0, operated: [] }),
  );
  const opening = registry.openBroken();
  await registry.setResync({ pool: "p", paused: true });
  assert.deepEqual(asked, ["resync.set"]);
  resolve();
  assert.deepEqual(await opening, [LEG.path]);
  assert.deepEqual(asked, ["resync.set", "leg.open"]);
  assert.deepEqual(registry.broken, []);
});

Deno.test("a leg that was deleted while its disk was looked at is not opened", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { registry, asked } = await broken(() => promise, () => Promise.resolve({}));
  const opening = registry.openBroken();
  await registry.delete({ poolUuid: LEG.poolUuid, legUuid: LEG.legUuid, force: true });
  resolve();
  assert.deepEqual(await opening, []);
  assert.deepEqual(asked, []);
});

Deno.test("a leg whose disk hangs when it is deleted is broken, and forgotten when that is repeated", async () => {
  const timeout = () => Promise.reject(new ControlError("timeout", "no answer"));
  const { registry } = await broken(
    () => Promise.resolve(),
    (operation) => operation === "leg.close" ? timeout() : Promise.resolve({}),
  );
  await registry.openBroken();
  const request = { poolUuid: LEG.poolUuid, legUuid: LEG.legUuid, force: true };
  await assert.rejects(registry.delete(request), /a\.img" does not answer: its disk hangs/);
  assert.equal(registry.broken.length, 1);
  await registry.delete(request);
  assert.deepEqual(registry.broken, []);
});
