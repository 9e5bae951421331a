/**
 * `brmr pool`: makes, lists, shows and deletes pools.
 *
 * @module
 */

import { Command } from "@commander-js/extra-typings";
import type { CommandHost } from "./command_host.ts";
import { definePoolCreate } from "./pool_create.ts";
import { definePoolDelete } from "./pool_delete.ts";
import { definePoolList } from "./pool_list.ts";
import { definePoolShow } from "./pool_show.ts";

/** Describes the subcommand and those under it. */
export function definePool(host: CommandHost) {
  return new Command("pool")
    .summary("create, list, show or delete pools")
    .description("Creates, lists, shows and deletes pools.")
    .addCommand(definePoolCreate(host))
    .addCommand(definePoolList(host))
    .addCommand(definePoolShow(host))
    .addCommand(definePoolDelete(host))
    .addHelpText("after", "\nExample:\n  brmr pool list --node 127.0.0.1:7701");
}
