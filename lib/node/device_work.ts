/**
 * One piece of work on a device that is not served, done in an isolate of its own: looking at it, formatting, erasing. The calls are synchronous
 * and a disk may take long over each, so the main isolate must not make them, and the data plane no less.
 *
 * @module
 */

import { DeviceFile, type FormatLegOptions, isPathFree, StoreError, type WorkWatch } from "../store/leg_device.ts";
import { formatLeg, loadLeg, probeDevice, wipeLeg } from "../store/leg_device.ts";
import { plainError } from "./storage_operations.ts";
import type { DeviceStart, WorkerResponse } from "./worker_messages.ts";

/** Does what the start message says. What goes wrong is told, never thrown. */
export function doDeviceWork(start: DeviceStart): WorkerResponse {
  const stopWord = new Int32Array(start.stopWord);
  const watch: WorkWatch = {
    nowMs: () => performance.now(),
    check() {
      if (Atomics.load(stopWord, 0) !== 0) throw new StoreError("refused", "The node is stopping");
    },
  };
  try {
    return { kind: "response", id: 0, result: perform(start, watch) };
  } catch (error) {
    return { kind: "response", id: 0, error: plainError(error) };
  }
}

function perform({ op, request }: DeviceStart, watch: WorkWatch): unknown {
  watch.check();
  switch (op) {
    case "probe":
      return probeDevice(request.path, { signaturesOnly: request.signaturesOnly, watch });
    case "look":
      return look(request.path);
    case "format":
      return format(request, watch);
    case "erase":
      wipeLeg(request.path, request.poolUuid, { legUuid: request.legUuid, removesFile: request.createdFile, watch });
      return {};
  }
}

/** Opens a leg as the data plane would, which mends what can be mended, and lets it go again. */
function look(path: string): Record<string, never> {
  const device = DeviceFile.open(path, { access: "exclusive" });
  try {
    loadLeg(device);
  } finally {
    device.close();
  }
  return {};
}

function format(options: FormatLegOptions, watch: WorkWatch): { createdFile: boolean } {
  const createdFile = isPathFree(options.path);
  formatLeg(options, watch);
  return { createdFile };
}
