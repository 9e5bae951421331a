/**
 * The program, whose data planes tell once whether their turns may look before they sleep.
 *
 * @module
 */

import { isDataPlaneWorker, runWorker } from "../../lib/node/worker.ts";
import { Turns } from "../../lib/io/turns.ts";
import { runCommandLine } from "../../cli/command_line.ts";

if (isDataPlaneWorker()) {
  const { turn } = Turns.prototype;
  Turns.prototype.turn = function (deadlineMs) {
    Turns.prototype.turn = turn;
    const event = { level: "info", name: "turns", message: `Turns that may look: ${this.mayLook}` };
    (self as unknown as { postMessage(message: unknown): void }).postMessage({ kind: "event", pool: "", event });
    turn.call(this, deadlineMs);
  };
  runWorker();
} else {
  Deno.exit(await runCommandLine(Deno.args, { workerUrl: import.meta.url }));
}
