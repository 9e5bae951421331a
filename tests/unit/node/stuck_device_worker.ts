/**
 * A worker like that of lib/node/device_work.ts, for tests: at a disk that does not answer before the work is to end. Work on "/ready" is done
 * at once.
 *
 * @module
 */

import type { DeviceStart, WorkerReport } from "../../../lib/node/worker_messages.ts";

const report = (message: WorkerReport) =>
  (self as unknown as { postMessage(message: WorkerReport): void }).postMessage(message);

self.onmessage = ({ data }: MessageEvent<DeviceStart>) => {
  if (data.request.path === "/ready") return report({ kind: "response", id: 0, result: data.op });
  // As long as a foreign function would block: this isolate does nothing else.
  const stopWord = new Int32Array(data.stopWord);
  while (Atomics.load(stopWord, 0) === 0) Atomics.wait(stopWord, 0, 0, 5);
  // It does not notice for a while that the work is to end, and then the disk holds it for good.
  if (data.request.path === "/never") return;
  report({ kind: "response", id: 0, error: { code: "refused", message: "The node is stopping" } });
};
report({ kind: "loaded" });
