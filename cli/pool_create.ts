/**
 * `brmr pool create`: makes a pool, all of its legs or nothing.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import { parseLegPlace } from "../lib/control/node_address.ts";
import { createPool } from "../lib/control/pool_creation.ts";
import {
  asDurationMs,
  asInteger,
  asSize,
  collect,
  colorOption,
  type CommandHost,
  jsonOption,
  required,
  writeJson,
} from "./command_host.ts";
import { ExitCode } from "./exit_code.ts";
import { withNodesAt } from "./node_session.ts";
import { painter } from "./paint.ts";
import { renderCreatedPool } from "./render_pool.ts";
import type { Terminal } from "./terminal.ts";

/** What `pool create` is told. */
export interface PoolCreateOptions {
  readonly pool: string;
  readonly size: number;
  /** "HOST:PORT:/PATH" each. */
  readonly leg: readonly string[];
  readonly chunk?: number;
  readonly minInSync?: number;
  readonly extent?: number;
  readonly hotExtents?: number;
  readonly ioTimeout?: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** Describes the subcommand. */
export function definePoolCreate(host: CommandHost) {
  return new Command("create")
    .summary("make a pool")
    .description(
      "Makes a pool of 2 to 8 legs. Each leg is a file, made sparse, or a block device on a storage node. " +
        "New files start in sync. If any leg is something else, the first leg's content becomes the pool's and the " +
        "others copy it. If one leg cannot be made, none is.",
    )
    .argument("<pool>", "name of the pool: letters, digits, dots, dashes, underscores")
    .option("--size <size>", "size of the pool, with K, M, G or T (required)", asSize)
    .option("--leg <host:port:path>", "a leg: storage node and absolute path there; give one per leg", collect)
    .option("--chunk <size>", "what one dirty bit stands for, 4K to 1M (default: 4K)", asSize)
    .option(
      "--min-in-sync <count>",
      "fewest legs in sync for I/O to go on (default: 1 of two, 2 of more)",
      asInteger(1, 8),
    )
    .option("--io-timeout <duration>", "how long I/O waits for legs before it fails (default: 30s)", asDurationMs)
    .option("--extent <size>", "what one entry of the intent log stands for (default: 1M)", asSize)
    .option("--hot-extents <count>", "entries of the intent log (default: 2048)", asInteger(16, 8192))
    .option("--force", "take devices that carry data, and overwrite it")
    .addOption(jsonOption())
    .addOption(colorOption())
    .addHelpText(
      "after",
      "\nExample:\n" +
        "  brmr pool create vol1 --size 1G --leg 127.0.0.1:7701:/data/a.img --leg 127.0.0.1:7702:/data/b.img",
    )
    .action((pool, options) =>
      host.run((terminal) =>
        runPoolCreate(
          { ...options, pool, size: required(options.size, "--size <size>"), leg: options.leg ?? [] },
          terminal,
        )
      )
    );
}

/** Makes the pool. */
export async function runPoolCreate(options: PoolCreateOptions, terminal: Terminal): Promise<ExitCode> {
  const plan = {
    poolName: options.pool,
    sizeBytes: options.size,
    legs: options.leg.map(parseLegPlace),
    chunkBytes: options.chunk,
    minInSync: options.minInSync,
    extentBytes: options.extent,
    hotExtentCount: options.hotExtents,
    ioTimeoutMs: options.ioTimeout,
    force: options.force,
  };
  const created = await withNodesAt([], (nodes) => createPool(plan, nodes));
  if (options.json) writeJson(terminal, created);
  else terminal.out(renderCreatedPool(created, painter(terminal.hasColor)));
  return ExitCode.OK;
}
