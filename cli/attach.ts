/**
 * `brmr attach`: attaches a pool to this machine and offers it over NBD, in the foreground.
 *
 * @module
 */

import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import { isLoopbackHost, parseNodeAddress } from "../lib/control/node_address.ts";
import { noNodes } from "../lib/control/pool_lookup.ts";
import { runtimeDir } from "../lib/control/runtime_dir.ts";
import type { BusyPollPolicy, PayloadCrcPolicy, TransportPolicy } from "../lib/node/client_node.ts";
import {
  asDurationMs,
  asInteger,
  asSize,
  busyPollOption,
  collect,
  type CommandHost,
  configOption,
  nodeOption,
  payloadCrcOption,
} from "./command_host.ts";
import { DEVICE_KINDS, type DeviceChoice, parseDeviceChoice } from "../lib/frontend/device_choice.ts";
import { MAX_LEGS } from "../lib/disk_format/records.ts";
import { eventLog, LOG_FORMATS, type LogFormat } from "./event_log.ts";
import type { ExitCode } from "./exit_code.ts";
import { chooseNodes, type NodeChoice } from "./node_list.ts";
import { runUntilStopped } from "./running_node.ts";
import { notifyService } from "./service_notify.ts";
import { listenForStop } from "./stop_signals.ts";
import type { Terminal } from "./terminal.ts";

/** What `attach` is told. */
export interface AttachOptions extends NodeChoice {
  readonly pool: string;
  readonly nbd?: readonly string[];
  readonly device?: DeviceChoice;
  readonly nbdSockets?: number;
  readonly heartbeat?: number;
  readonly ioTimeout?: number;
  readonly startTimeout?: number;
  readonly memory?: number;
  readonly clientName?: string;
  readonly takeover?: boolean;
  readonly readOnly?: boolean;
  readonly transport?: TransportPolicy;
  readonly payloadCrc?: PayloadCrcPolicy;
  readonly busyPoll?: BusyPollPolicy;
  readonly force?: boolean;
  readonly without?: readonly number[];
  readonly logFormat?: LogFormat;
  readonly workerUrl: string;
}

/** The driver makes a queue for each. */
const MAX_NBD_SOCKETS = 16;
/** What a client notices at all: it looks every 100 ms, and silence while it stands still itself does not count. */
const LEAST_HEARTBEAT_MS = 300;
/** Legs themselves take a client for lost that has been silent for so long. */
const MOST_HEARTBEAT_MS = 10_000;

/** Describes the subcommand. */
export function defineAttach(host: CommandHost) {
  return new Command("attach")
    .summary("attach a pool and offer it over NBD")
    .description(
      'Attaches a pool to this machine and offers it as an NBD export, in the foreground. Prints "ready URI" on ' +
        "standard output once it is served, and tells systemd (sd_notify). Any one reachable node is enough to find " +
        "the other legs. SIGTERM, Ctrl-C or brmr detach ends it in an orderly way.",
    )
    .argument("<pool>", "name or UUID of the pool")
    .addOption(nodeOption())
    .addOption(configOption())
    .option(
      "--nbd <place>",
      "path of a unix socket, or tcp://127.0.0.1:10809; repeatable (default: nbd-POOL.sock in the runtime directory)",
      collect,
    )
    .addOption(
      new Option(
        "--device <kind>",
        "make the pool a block device, which a later attach takes over should this one die: ublk (/dev/ublkbN), nbd " +
          "(/dev/nbdN), a path of such a device, or auto: ublk, else nbd, else an NBD socket and why",
      ).choices(DEVICE_KINDS).argParser(asDevice),
    )
    .option(
      "--nbd-sockets <n>",
      "sockets between the kernel and a new /dev/nbdN; with several, requests of an attach that died wait longer for " +
        "the next one (default: 1)",
      asInteger(1, MAX_NBD_SOCKETS),
    )
    .option("--heartbeat <duration>", "a leg silent for this long is lost, 300ms to 10s (default: 3s)", asDurationMs)
    .option(
      "--io-timeout <duration>",
      "how long I/O waits for legs before it fails (default: the pool's)",
      asDurationMs,
    )
    .option(
      "--start-timeout <duration>",
      "how long to wait for a node that answers, and for a leg that the pool may not start without (default: nodes are " +
        "asked once, legs are waited for 5s)",
      asDurationMs,
    )
    .addOption(
      new Option(
        "--transport <transport>",
        "how to reach legs: RDMA, shared memory within a machine, TCP, whichever is there first; or only one (default: auto)",
      )
        .choices(["auto", "tcp", "rdma"] as const),
    )
    .addOption(payloadCrcOption())
    .addOption(busyPollOption())
    .option("--memory <size>", "memory for payloads (default: 64M)", asSize)
    .option("--read-only", "only read: beside a client that writes, or without one; any number of machines may")
    .option("--takeover", "take the pool from another client that holds it; its writes are refused from then on")
    .option("--force", "start from the legs that are reachable though others may hold newer writes, which are given up")
    .option("--without <leg>", "with --force: give up what is on this leg, a number; repeatable", collectLegs)
    .option("--client-name <name>", "name of this client, for people (default: host and process)")
    .addOption(new Option("--log-format <format>", "log lines on standard error (default: text)").choices(LOG_FORMATS))
    .addHelpText(
      "after",
      "\nExample:\n" +
        "  brmr attach vol1 --node 127.0.0.1:7701 --node 127.0.0.1:7702 --nbd /run/vol1.sock\n" +
        "  nbdinfo 'nbd+unix:///vol1?socket=/run/vol1.sock'",
    )
    .action((pool, options) =>
      host.run((terminal) => runAttach({ ...options, pool, workerUrl: host.workerUrl }, terminal))
    );
}

/** Attaches the pool until it is detached or told to stop. */
export async function runAttach(options: AttachOptions, terminal: Terminal): Promise<ExitCode> {
  // Whoever reads the log may die or see enough; the pool is served on.
  terminal.outliveReaders();
  const dir = runtimeDir();
  // A device needs no socket, but for what "auto" falls back on.
  const places = options.nbd ?? (isDeviceAlone(options.device) ? [] : [`${dir}/nbd-${options.pool}.sock`]);
  const nbd = places.map(nbdPlace);
  const nodes = chooseNodes(options);
  if (nodes.length === 0) throw noNodes();
  if (options.heartbeat !== undefined && options.heartbeat < LEAST_HEARTBEAT_MS) {
    throw new ControlError(
      "bad-request",
      "A heartbeat below 300ms takes every hiccup for a loss. Choose 300ms or more.",
    );
  }
  if (options.heartbeat !== undefined && options.heartbeat > MOST_HEARTBEAT_MS) {
    throw new ControlError(
      "bad-request",
      "A leg takes a client for lost after 10s itself, so a heartbeat above that tells it nothing. Choose 10s or less.",
    );
  }
  if (options.without !== undefined && !options.force) {
    throw new ControlError("bad-request", "--without says what --force gives up. Add --force, or leave it away.");
  }
  const { runClientNode } = await import("../lib/node/client_node.ts");
  const log = eventLog(options.logFormat ?? "text", (text) => terminal.err(text));
  const signals = listenForStop();
  const start = (stopping: AbortSignal) =>
    runClientNode({
      stopping,
      pool: options.pool,
      nodes,
      nbd,
      device: options.device,
      nbdSocketCount: options.nbdSockets,
      clientName: options.clientName,
      workerUrl: options.workerUrl,
      heartbeatMs: options.heartbeat,
      ioTimeoutMs: options.ioTimeout,
      startTimeoutMs: options.startTimeout,
      memoryBytes: options.memory,
      takeover: options.takeover,
      readOnly: options.readOnly,
      transport: options.transport,
      payloadCrc: options.payloadCrc,
      busyPoll: options.busyPoll,
      force: options.force ? { without: options.without ?? [] } : undefined,
      runtimeDir: dir,
      onEvent: log,
      onReady: (uris) => {
        for (const uri of uris) terminal.out(`ready ${uri}\n`);
        notifyService(`READY=1\nSTATUS=Serving pool ${options.pool} at ${uris.join(", ")}`);
      },
    });
  try {
    return await runUntilStopped(start, signals, terminal);
  } finally {
    signals.close();
  }
}

/** A kind of device, or the path of one. */
function asDevice(text: string): DeviceChoice {
  const choice = parseDeviceChoice(text);
  if (choice !== null) return choice;
  throw new InvalidArgumentError(`Write ${DEVICE_KINDS.join(", ")}, or a path like /dev/ublkb0 or /dev/nbd0.`);
}

/** Whether a device is asked for that no socket may stand in for. */
function isDeviceAlone(device: DeviceChoice | undefined): boolean {
  return device !== undefined && device.kind !== "auto";
}

/** Leg numbers of an option that may be given several times. */
function collectLegs(value: string, all: number[] | undefined): number[] {
  return [...all ?? [], asInteger(0, MAX_LEGS - 1)(value)];
}

/** A place for NBD in its one spelling: an absolute path, or "tcp://host:port" on this machine. */
export function nbdPlace(text: string): string {
  if (!text.startsWith("tcp://")) return resolve(text.replace(/^unix:/, ""));
  const { host } = parseNodeAddress(text);
  if (!isLoopbackHost(host)) {
    throw new ControlError(
      "refused",
      `${text} can be reached from other machines, and NBD here does not authenticate. ` +
        `Use a unix socket or tcp://127.0.0.1:PORT; tunnel it if another machine must reach it.`,
    );
  }
  return text;
}
