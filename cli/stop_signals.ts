/**
 * How a long-running command ends: the first SIGINT, SIGTERM or SIGHUP asks it to stop in an orderly way, the second ends the
 * process at once. (SIGUSR1 is never touched: Deno opens its inspector on it.)
 *
 * @module
 */

import { ExitCode } from "./exit_code.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Whoever waits for the end. */
export interface StopSignals {
  /** Resolves with the name of the first signal. */
  readonly first: Promise<string>;
  /** Stops listening. */
  close(): void;
}

/** Begins to listen. `onSecond` is for tests; by default the process ends. */
export function listenForStop(onSecond: () => void = () => Deno.exit(ExitCode.INTERRUPTED)): StopSignals {
  const { promise, resolve } = Promise.withResolvers<string>();
  let count = 0;
  const listeners = SIGNALS.map((signal) => {
    const listener = () => {
      count++;
      if (count === 1) resolve(signal);
      else onSecond();
    };
    Deno.addSignalListener(signal, listener);
    return { signal, listener };
  });
  return {
    first: promise,
    close() {
      for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
    },
  };
}
