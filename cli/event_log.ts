/**
 * The log of a long-running command, on standard error: what happened to legs, pools and the node. One line an event, as
 * text or as JSON. Nothing per I/O comes here.
 *
 * @module
 */

import type { CoreEvent } from "../lib/core/output.ts";

/** How lines look. */
export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = typeof LOG_FORMATS[number];

/** Writes one event. `pool` is a pool's name or UUID, or "" for the node itself. */
export type EventLog = (pool: string, event: CoreEvent) => void;

/** A connection to a leg that cannot be taken is closed about once a second, for one and the same reason: told this often. */
const REPEAT_MS = 60_000;

/** A log that gives its lines to `write`. */
export function eventLog(format: LogFormat, write: (text: string) => void, nowMs: () => number = Date.now): EventLog {
  /** The last event of each leg, and when it was told. */
  const last = new Map<string, { readonly event: CoreEvent; readonly toldMs: number }>();
  return (pool, event) => {
    const atMs = nowMs();
    if (event.legIndex !== undefined) {
      const leg = `${pool} ${event.legIndex}`;
      const before = last.get(leg);
      const isRepeated = event.name === "link-closed" && before?.event.name === event.name &&
        before.event.message === event.message;
      if (isRepeated && atMs - before.toldMs < REPEAT_MS) return;
      last.set(leg, { event, toldMs: atMs });
    }
    write(formatEvent(format, pool, event, atMs) + "\n");
  };
}

/** One event as a line without its newline. */
export function formatEvent(format: LogFormat, pool: string, event: CoreEvent, nowMs: number): string {
  const time = new Date(nowMs).toISOString();
  const { level, name, message, legIndex } = event;
  if (format === "json") {
    return JSON.stringify({ time, level, name, pool: pool === "" ? undefined : pool, legIndex, message });
  }
  const subject = [pool, legIndex === undefined ? "" : `leg ${legIndex}`].filter((text) => text !== "").join(" ");
  // A peer's words may be part of a message: no control characters on the operator's screen.
  const text = (subject === "" ? message : `${subject}: ${message}`).replace(/[\p{Cc}]+/gu, " ");
  return `${time} ${level.padEnd(7)} ${name}: ${text}`;
}
