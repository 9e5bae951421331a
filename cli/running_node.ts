/**
 * Sees a node that runs in this process through to its end.
 *
 * @module
 */

import { ExitCode } from "./exit_code.ts";
import { notifyService } from "./service_notify.ts";
import type { StopSignals } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

/** A node that runs in this process. */
export interface RunningNode {
  /** Asks it to end in an orderly way; resolves when it has. */
  stop(): Promise<void>;
  /** Resolves when it has ended in an orderly way, rejects when it died. */
  readonly finished: Promise<void>;
}

/**
 * Starts a node and waits until it has ended: by itself (detached by an operator, or dead: then this throws), or by a signal.
 * A signal while it still starts is told to `start` as `stopping`. What that has begun and may not leave behind, a block device say, it
 * takes back first; then it rejects with the reason of `stopping`, or it has become a node all the same, which is stopped.
 */
export async function runUntilStopped(
  start: (stopping: AbortSignal) => Promise<RunningNode>,
  signals: StopSignals,
  terminal: Terminal,
): Promise<ExitCode> {
  const stopping = new AbortController();
  const starting = start(stopping.signal);
  const node = await Promise.race([starting, signals.first.then(() => null)]);
  if (node === null) {
    stopping.abort();
    try {
      await (await starting).stop();
    } catch (error) {
      if (error !== stopping.signal.reason) throw error;
    }
    return ExitCode.INTERRUPTED;
  }
  const signal = await Promise.race([node.finished.then(() => null), signals.first]);
  if (signal !== null) {
    terminal.err(`${signal}: stopping; once more to end at once\n`);
    notifyService("STOPPING=1");
    await node.stop();
  }
  return ExitCode.OK;
}
