/**
 * Which storage nodes a command talks to: `--node`, else $BRMR_NODES, else the config file.
 *
 * The config file is TOML: `nodes = ["127.0.0.1:7701", "127.0.0.1:7702"]`. It is --config, else $BRMR_CONFIG, else
 * ~/.config/brmr/config.toml, else /etc/brmr/config.toml; the first that exists counts.
 *
 * @module
 */

import { parse as parseToml, TomlError } from "smol-toml";
import * as v from "valibot";
import { ControlError } from "../lib/control/control_api.ts";
import { canonicalNodeAddress } from "../lib/control/node_address.ts";

/** What the command line says about nodes. */
export interface NodeChoice {
  readonly node?: readonly string[];
  readonly config?: string;
}

/** What else decides; given by tests. */
export interface ConfigSources {
  env(name: string): string | undefined;
  /** The text of a file, or null when there is none. */
  readText(path: string): string | null;
}

const configSchema = v.strictObject({ nodes: v.optional(v.array(v.string())) });

/** The sources of this process. */
export const processSources: ConfigSources = { env: (name) => Deno.env.get(name), readText: readTextIfThere };

/**
 * Canonical addresses of the nodes to talk to; empty when none is named anywhere.
 * @throws {ControlError} "bad-request" for a bad address or config file, "not-found" for a named file that is not there.
 */
export function chooseNodes(choice: NodeChoice, sources: ConfigSources = processSources): string[] {
  if (choice.node !== undefined && choice.node.length > 0) return canonical(choice.node);
  const fromEnvironment = (sources.env("BRMR_NODES") ?? "").split(/[\s,]+/).filter((text) => text !== "");
  // What is said on the command line comes before what the environment says.
  if (fromEnvironment.length > 0 && !choice.config) return canonical(fromEnvironment);
  const named = choice.config ?? sources.env("BRMR_CONFIG");
  if (named !== undefined && named !== "") {
    const text = sources.readText(named);
    if (text === null) {
      throw new ControlError("not-found", `There is no config file ${named}. Check --config and BRMR_CONFIG.`);
    }
    return nodesInConfig(text, named);
  }
  const home = sources.env("XDG_CONFIG_HOME") ?? `${sources.env("HOME") ?? ""}/.config`;
  for (const path of [`${home}/brmr/config.toml`, "/etc/brmr/config.toml"]) {
    const text = sources.readText(path);
    if (text !== null) return nodesInConfig(text, path);
  }
  return [];
}

function nodesInConfig(text: string, path: string): string[] {
  let parsed: unknown;
  try {
    parsed = parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new ControlError("bad-request", `The config file ${path} is not TOML: ${error.message.trim()}`);
  }
  const config = v.safeParse(configSchema, parsed);
  if (!config.success) {
    const issue = config.issues[0];
    const at = v.getDotPath(issue) ?? "";
    const what = issue.type === "strict_object" ? `has a key "${at}"` : `is wrong at "${at}": ${issue.message}`;
    throw new ControlError(
      "bad-request",
      `The config file ${path} ${what}. It holds nothing but e.g. nodes = ["127.0.0.1:7701"].`,
    );
  }
  return canonical(config.output.nodes ?? []);
}

function canonical(addresses: readonly string[]): string[] {
  return [...new Set(addresses.map(canonicalNodeAddress))];
}

function readTextIfThere(path: string): string | null {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    const reason = error instanceof Error ? error.message : String(error);
    throw new ControlError("refused", `The config file ${path} cannot be read: ${reason}`);
  }
}
