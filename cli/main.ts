/**
 * The program. In a worker it is the data plane; otherwise the command line. Each half is loaded only where it is needed:
 * "brmr status" does not wait for the data plane to be read and evaluated.
 *
 * @module
 */

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  // Its first message comes only after it has said that it listens; see lib/node/worker_port.ts.
  const { runWorker } = await import("../lib/node/worker.ts");
  runWorker();
} else {
  const { runCommandLine } = await import("./command_line.ts");
  // `exit` and not the end of the module: a data-plane thread that still waits in the kernel would keep the process.
  Deno.exit(await runCommandLine(Deno.args, { workerUrl: import.meta.url }));
}
