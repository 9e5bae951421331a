/**
 * One of several that share out the seeds of a long run.
 *
 * @module
 */

/// <reference lib="deno.worker" />

import { runSeed } from "./run_seed.ts";

/** What a worker is told. */
export interface SwarmOrder {
  readonly from: number;
  /** Every `step`-th seed is its own. */
  readonly step: number;
}

/** Seeds between two reports. */
const BATCH = 50;

self.onmessage = ({ data }: MessageEvent<SwarmOrder | "go on">) => {
  if (data !== "go on") next = data;
  const report = {
    seeds: 0,
    operations: 0,
    faults: 0,
    virtualMs: 0,
    failures: [] as { seed: number; message: string }[],
  };
  for (let i = 0; i < BATCH; i++) {
    const outcome = runSeed(next.from);
    report.seeds++;
    report.operations += outcome.operations;
    report.faults += outcome.faults;
    report.virtualMs += outcome.virtualMs;
    if (outcome.violation !== null) report.failures.push({ seed: next.from, message: outcome.violation.message });
    next = { from: next.from + next.step, step: next.step };
  }
  self.postMessage(report satisfies SwarmReport);
};

let next: SwarmOrder = { from: 1, step: 1 };

/** What a worker says after each batch. */
export interface SwarmReport {
  readonly seeds: number;
  readonly operations: number;
  readonly faults: number;
  readonly virtualMs: number;
  readonly failures: readonly { readonly seed: number; readonly message: string }[];
}
