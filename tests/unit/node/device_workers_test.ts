/** Work on devices that are not served: in isolates of their own, in order by path, over when the node stops. */

import assert from "node:assert/strict";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";
import { ControlService } from "../../../lib/node/control_service.ts";
import { DeviceWorkers } from "../../../lib/node/device_workers.ts";
import type { DeviceWork } from "../../../lib/node/device_workers.ts";
import { LegRegistry } from "../../../lib/node/leg_registry.ts";
import { NodeState } from "../../../lib/node/node_state.ts";
import type { WorkerPort } from "../../../lib/node/worker_port.ts";
import { formatLeg } from "../../../lib/store/leg_device.ts";
import { legOptions } from "../store/store_fixture.ts";

const STUCK = new URL("./stuck_device_worker.ts", import.meta.url);
const PROGRAM = new URL("../../../cli/main.ts", import.meta.url);

async function expectCode(work: Promise<unknown>, code: ControlErrorCode): Promise<void> {
  await assert.rejects(work, (error) => error instanceof ControlError && error.code === code);
}

Deno.test("a node answers while it probes a disk that does not, and stops all the same", async () => {
  const devices = new DeviceWorkers(STUCK);
  const port = { request: () => Promise.resolve({ legs: [], bufferBytes: 0, operated: [] }) };
  const registry = new LegRegistry({ legs: [] } as unknown as NodeState, port as unknown as WorkerPort, devices);
  const service = new ControlService({ nodeName: "n", version: "1", address: "127.0.0.1:1" }, registry);
  let isProbing = true;
  const probe = service.answer(JSON.stringify({ op: "leg.probe", path: "/dev/slow" })).finally(() => isProbing = false);
  const create = registry.create(legOptions("/dev/other"));
  create.catch(() => undefined); // judged below
  const info = await service.answer(JSON.stringify({ op: "node.info" }));
  assert.equal(info.ok, true);
  // Neither does another disk wait for the slow ones.
  const ready = await service.answer(JSON.stringify({ op: "leg.probe", path: "/ready" }));
  assert.deepEqual(ready, { ok: true, result: "probe" });
  assert.equal(isProbing, true);
  await registry.stop();
  assert.deepEqual(await probe, { ok: false, error: { code: "refused", message: "The node is stopping" } });
  await expectCode(create, "refused");
  await expectCode(devices.probe("/ready", false), "refused");
});

/** Workers that have a turn are made by then. */
const aTurnLater = () => new Promise((resolve) => setTimeout(resolve));

Deno.test("work on one path waits for its turn, and so does what is too much at a time", async () => {
  const devices = new DeviceWorkers(STUCK);
  const stuck = ["/a", "/a", "/b", "/c", "/d"].map((path) => devices.probe(path, true));
  let isReady = false;
  const fifth = devices.probe("/ready", true).then(() => isReady = true);
  for (const work of [...stuck, fifth]) work.catch(() => undefined); // judged below
  await aTurnLater();
  await devices.stop();
  for (const work of [...stuck, fifth]) await expectCode(work, "refused");
  assert.equal(isReady, false);
});

Deno.test("the program's own worker probes, formats and erases, and says what is wrong", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr_devices_" });
  const devices = new DeviceWorkers(PROGRAM);
  try {
    const options = legOptions(`${directory}/a.img`);
    assert.equal((await devices.probe(options.path, false)).kind, "absent");
    assert.deepEqual(await devices.format(options), { createdFile: true });
    assert.equal((await devices.probe(options.path, true)).found, 'leg 0 of pool "vol1"');
    await expectCode(devices.format(options), "foreign-data");
    assert.deepEqual(await devices.format({ ...options, force: true }), { createdFile: false });
    await expectCode(devices.erase({ ...options, poolUuid: crypto.randomUUID(), createdFile: true }), "foreign-data");
    await devices.erase({ ...options, createdFile: true });
    assert.equal((await devices.probe(options.path, false)).kind, "absent");
    await expectCode(devices.probe(`${directory}/none/a.img`, false), "not-found");
  } finally {
    await devices.stop();
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a disk that never answers does not keep a node from stopping", async () => {
  const devices = new DeviceWorkers(STUCK, 1);
  const probe = devices.probe("/never", false);
  probe.catch(() => undefined); // judged below
  await aTurnLater();
  await devices.stop();
  await expectCode(probe, "refused");
});

Deno.test("a worker that cannot be had is an error, not a wait", async () => {
  const devices = new DeviceWorkers(new URL("./no_such_worker.ts", import.meta.url));
  await expectCode(devices.probe("/a", false), "internal"); // Deno says on standard error why
  await devices.stop();
});

Deno.test("a node that dies between forgetting a leg and erasing it erases it at its next start", async () => {
  const directory = await Deno.makeTempDir({ prefix: "brmr_erasing_" });
  const port = { request: () => Promise.resolve({}) } as unknown as WorkerPort;
  const devices = new DeviceWorkers(PROGRAM);
  try {
    const options = legOptions(`${directory}/a.img`);
    const { path, poolUuid, legUuid } = options;
    formatLeg(options);
    const before = await NodeState.open(`${directory}/state`, "n");
    await before.addLeg({ path, poolUuid, legUuid, createdFile: true });
    const { promise: died, resolve: die } = Promise.withResolvers<void>();
    const dying = { erase: () => (die(), new Promise(() => undefined)) } as unknown as DeviceWork;
    new LegRegistry(before, port, dying).delete({ poolUuid, legUuid, force: true });
    await died;
    before.close();
    const state = await NodeState.open(`${directory}/state`, "n");
    assert.deepEqual([state.legs.length, state.erasing.map((leg) => leg.path)], [0, [path]]);
    const registry = new LegRegistry(state, port, devices);
    assert.deepEqual(await registry.finishErasing(() => undefined), []);
    await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);
    assert.deepEqual(state.erasing, []);
    // A leg that has come there since is left alone, and told.
    formatLeg(legOptions(path));
    await state.addLeg({ path, poolUuid, legUuid, createdFile: true });
    await state.removeLeg(path, state.legs[0]);
    assert.match((await registry.finishErasing(() => undefined)).join(), /left alone/);
    assert.deepEqual([(await Deno.lstat(path)).isFile, state.erasing], [true, []]);
    state.close();
  } finally {
    await devices.stop();
    await Deno.remove(directory, { recursive: true });
  }
});
