/**
 * `brmr serve`: runs a storage node in the foreground.
 *
 * @module
 */

import { Command, Option } from "@commander-js/extra-typings";
import { unlessAborted } from "../lib/base/unless_aborted.ts";
import { DEFAULT_NODE_PORT } from "../lib/control/node_address.ts";
import type { BusyPollPolicy, PayloadCrcPolicy } from "../lib/node/client_node.ts";
import { asSize, busyPollOption, collect, type CommandHost, payloadCrcOption, required } from "./command_host.ts";
import { eventLog, LOG_FORMATS, type LogFormat } from "./event_log.ts";
import type { ExitCode } from "./exit_code.ts";
import { runUntilStopped } from "./running_node.ts";
import { notifyService } from "./service_notify.ts";
import { listenForStop } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

/** What `serve` is told. */
export interface ServeOptions {
  readonly state: string;
  readonly listen?: readonly string[];
  readonly advertise?: readonly string[];
  readonly insecure?: boolean;
  readonly memory?: number;
  readonly payloadCrc?: PayloadCrcPolicy;
  readonly busyPoll?: BusyPollPolicy;
  readonly name?: string;
  readonly logFormat?: LogFormat;
  readonly workerUrl: string;
}

const DEFAULT_LISTEN = `tcp://127.0.0.1:${DEFAULT_NODE_PORT}`;

/** Describes the subcommand. */
export function defineServe(host: CommandHost) {
  return new Command("serve")
    .summary("run a storage node")
    .description(
      "Runs a storage node: keeps legs of pools on files and block devices of this machine, in the foreground. " +
        'Prints "ready ADDRESS" on standard output once it listens, and tells systemd (sd_notify). SIGTERM or Ctrl-C ' +
        "stops it: what its clients wrote is flushed first, for up to 20 s; a second signal ends it at once.",
    )
    .option("--state <dir>", "directory for the node's identity and the list of its legs (required)")
    .option(
      "--listen <uri>",
      `address to listen on: tcp://HOST:PORT or rdma://HOST:PORT with a numeric host; repeatable (default: ${DEFAULT_LISTEN})`,
      collect,
    )
    .option(
      "--advertise <uri>",
      "address at which others reach this node, best first, where that is not what it listens on; repeatable " +
        "(default: the addresses of --listen that stand for one address)",
      collect,
    )
    .option(
      "--insecure",
      "allow --listen beyond this machine. brmr does not authenticate yet: whoever reaches the address can read and " +
        "write every leg, so the network must be yours alone",
    )
    .option("--memory <size>", "memory for payloads (default: 64M)", asSize)
    .addOption(payloadCrcOption())
    .addOption(busyPollOption())
    .option("--name <name>", "name of the node, for people (default: the host's name)")
    .addOption(new Option("--log-format <format>", "log lines on standard error (default: text)").choices(LOG_FORMATS))
    .addHelpText("after", "\nExample:\n  brmr serve --state /var/lib/brmr --listen tcp://127.0.0.1:7701")
    .action((options) =>
      host.run((terminal) =>
        runServe(
          { ...options, state: required(options.state, "--state <dir>"), workerUrl: host.workerUrl },
          terminal,
        )
      )
    );
}

/** Runs the node until it is told to stop. */
export async function runServe(options: ServeOptions, terminal: Terminal): Promise<ExitCode> {
  // Whoever reads the log may die or see enough; legs are served on.
  terminal.outliveReaders();
  const { runStorageNode } = await import("../lib/node/storage_node.ts");
  const log = eventLog(options.logFormat ?? "text", (text) => terminal.err(text));
  const signals = listenForStop();
  const running = () =>
    runStorageNode({
      stateDir: options.state,
      listen: options.listen ?? [DEFAULT_LISTEN],
      advertise: options.advertise,
      insecure: options.insecure ?? false,
      memoryBytes: options.memory,
      payloadCrc: options.payloadCrc,
      busyPoll: options.busyPoll,
      nodeName: options.name,
      workerUrl: options.workerUrl,
      onEvent: log,
      onReady: (node) => {
        const legs = `${node.legs} ${node.legs === 1 ? "leg" : "legs"}`;
        const broken = node.broken === 0 ? "" : `, ${node.broken} that cannot be served`;
        log("", {
          level: node.broken === 0 ? "info" : "warning",
          name: "node-ready",
          message: `Storage node "${node.nodeName}" listens on ${node.addresses.join(", ")} with ${legs}${broken}`,
        });
        for (const address of node.addresses) {
          terminal.out(`ready ${address.startsWith("rdma://") ? "" : "tcp://"}${address}\n`);
        }
        notifyService(`READY=1\nSTATUS=Serving ${legs} on ${node.addresses.join(", ")}`);
      },
    });
  // A node that serves nothing yet leaves nothing behind.
  const start = (stopping: AbortSignal) => unlessAborted(running(), stopping);
  try {
    return await runUntilStopped(start, signals, terminal);
  } finally {
    signals.close();
  }
}
