/**
 * What a resync tells of itself: to the client that ordered it, and to who asks for the leg's status.
 *
 * @module
 */

import type { ResyncReport } from "../wire/bodies.ts";
import type { ResyncJob } from "./resync_job.ts";
import type { ResyncSnapshot } from "./snapshot.ts";

/** For status; null when no resync is under way. */
export function snapshotOf(job: ResyncJob): ResyncSnapshot | null {
  if (job.phase === "off") return null;
  const missingBytes = job.missingBytes;
  const rate = job.progress.rateBytesPerSecond;
  return {
    resyncSession: job.session,
    mode: job.mode,
    state: job.phase === "done" ? "done" : job.isPaused ? "paused" : "running",
    missingBytes,
    totalBytes: Math.max(job.progress.total, missingBytes),
    copiedBytes: job.progress.copied,
    skippedBytes: job.progress.skipped,
    rateBytesPerSecond: rate,
    etaMs: rate > 0 ? Math.round(missingBytes * 1000 / rate) : null,
    sourceLegIndex: job.source,
    limitBytesPerSecond: job.throttle.limitBytesPerSecond,
    message: messageOf(job),
  };
}

/** The report to the client. */
export function reportOf(job: ResyncJob, state: ResyncReport["state"]): ResyncReport {
  const message = state === "failed" ? job.message : messageOf(job);
  return {
    resyncSession: job.session,
    epoch: job.leg.record.epoch,
    state,
    missingBytes: job.missingBytes,
    copiedBytes: job.progress.copied,
    rateBytesPerSecond: job.progress.rateBytesPerSecond,
    message: message === "" ? undefined : message,
    unreadableLeg: state === "failed" && job.unreadableLeg >= 0 ? job.unreadableLeg : undefined,
  };
}

/** The last thing that went wrong, or what a resync waits for that has copied everything. */
function messageOf(job: ResyncJob): string {
  if (job.phase !== "save" || job.hasWhatWasPulled) return job.message;
  return "All is copied; writes that were in what was copied are still awaited from the client";
}
