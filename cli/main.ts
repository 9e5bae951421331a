/**
 * The program. In a worker it is the data plane; otherwise the command line.
 *
 * The worker's half is imported statically: the first message to a worker is lost if no listener is there by the time the
 * module has been evaluated up to its first `await`.
 *
 * @module
 */

import { runWorker } from "../lib/node/worker.ts";

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  runWorker();
} else {
  const { runCommandLine } = await import("./command_line.ts");
  // `exit` and not the end of the module: a data-plane thread that still waits in the kernel would keep the process.
  Deno.exit(await runCommandLine(Deno.args, { workerUrl: import.meta.url }));
}
