/**
 * Many seeds on several cores: each worker takes every n-th seed.
 *
 * @module
 */

import type { SwarmOrder, SwarmReport } from "./swarm_worker.ts";

/** The sum over all workers. */
export interface SwarmSum {
  seeds: number;
  operations: number;
  faults: number;
  virtualMs: number;
  failures: number;
}

/**
 * Runs seeds from `from` on with `jobs` workers, until `wanted.seeds` are done or `wanted.seconds` are over. `onFailure` hears of every
 * seed that fails; when it returns false the run ends.
 */
export async function runSwarm(
  wanted: { readonly jobs: number; readonly from: number; readonly seeds: number; readonly seconds: number },
  onFailure: (seed: number, message: string) => boolean,
): Promise<SwarmSum> {
  const sum: SwarmSum = { seeds: 0, operations: 0, faults: 0, virtualMs: 0, failures: 0 };
  const endMs = performance.now() + wanted.seconds * 1000;
  let isOver = false;
  await Promise.all(
    Array.from({ length: wanted.jobs }, (_, index) =>
      new Promise<void>((resolve, reject) => {
        const worker = new Worker(new URL("./swarm_worker.ts", import.meta.url), { type: "module" });
        worker.onerror = (event) => reject(new Error(event.message));
        worker.onmessage = ({ data }: MessageEvent<SwarmReport>) => {
          sum.seeds += data.seeds;
          sum.operations += data.operations;
          sum.faults += data.faults;
          sum.virtualMs += data.virtualMs;
          for (const { seed, message } of data.failures) {
            sum.failures++;
            if (!onFailure(seed, message)) isOver = true;
          }
          if (isOver || sum.seeds >= wanted.seeds || performance.now() >= endMs) {
            worker.terminate();
            resolve();
          } else worker.postMessage("go on");
        };
        worker.postMessage({ from: wanted.from + index, step: wanted.jobs } satisfies SwarmOrder);
      })),
  );
  return sum;
}
