/**
 * What a subcommand's definition gets from the program around it: the terminal, a place for its exit code, and options that
 * several subcommands share.
 *
 * Each subcommand is one file with two parts: `define*(host)` describes it to the command-line parser, `run*(options, terminal)`
 * does it and knows nothing of the parser.
 *
 * @module
 */

import { parseDuration, parseRate, parseSize, UnitError } from "../lib/base/units.ts";
import { InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { ControlError } from "../lib/control/control_api.ts";
import type { ExitCode } from "./exit_code.ts";
import type { BusyPollPolicy, PayloadCrcPolicy } from "../lib/node/client_node.ts";
import type { ColorChoice, Terminal } from "./terminal.ts";

/** The program around a subcommand. */
export interface CommandHost {
  /** The terminal, once the options are known. */
  readonly terminal: Terminal;
  /** The module to start data-plane workers from: the program's own entry. */
  readonly workerUrl: string;
  /** Runs the work of the chosen subcommand and keeps its exit code. */
  run(work: (terminal: Terminal) => Promise<ExitCode>): Promise<void>;
}

/** When to colour; every subcommand has it. */
export function colorOption() {
  return new Option("--color <when>", "colour: auto, always or never (auto heeds NO_COLOR)")
    .choices(["auto", "always", "never"] as const satisfies readonly ColorChoice[]);
}

/** A storage node to talk to; may be given several times. */
export function nodeOption() {
  return new Option("--node <host:port>", "storage node to ask; one that is up is enough; repeatable (or $BRMR_NODES)")
    .argParser(collect);
}

/** The file that names the nodes otherwise. */
export function configOption() {
  return new Option(
    "--config <file>",
    "config file with nodes = [...] (or $BRMR_CONFIG; else ~/.config/brmr/config.toml, /etc/brmr/config.toml)",
  );
}

/** Where this process sums what it sends. */
export function payloadCrcOption() {
  return new Option(
    "--payload-crc <where>",
    "sum the payloads sent over TCP (auto), always: over RDMA too, whose devices sum every packet themselves, or never: " +
      "for a network that authenticates what it carries (default: auto)",
  ).choices(["auto", "always", "never"] as const satisfies readonly PayloadCrcPolicy[]);
}

/** Whether the data plane looks before it sleeps. */
export function busyPollOption() {
  return new Option(
    "--busy-poll <when>",
    "with few requests under way, look for the next event for up to 100 us before going to sleep: auto, where that pays, " +
      "or never, which leaves the processor to others (default: auto)",
  ).choices(["auto", "never"] as const satisfies readonly BusyPollPolicy[]);
}

/** Output for programs. */
export function jsonOption() {
  return new Option("--json", "print JSON; keys carry their unit");
}

/** Gathers the values of an option that may be given several times. */
export function collect(value: string, all: string[] | undefined): string[] {
  return [...all ?? [], value];
}

/** Argument parsers for commander: bad text becomes its usage error. */
export const asSize: (text: string) => number = argument(parseSize);
export const asRate: (text: string) => number = argument(parseRate);
export const asDurationMs: (text: string) => number = argument(parseDuration);

/** A whole number from `least` to `most`. */
export function asInteger(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`Write a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** `value`, or a usage error that names `option`. */
export function required<T>(value: T | undefined, option: string): T {
  if (value === undefined) throw new ControlError("bad-request", `required option '${option}' is missing`);
  return value;
}

/** Writes `value` as JSON, indented, with a newline. */
export function writeJson(terminal: Terminal, value: unknown): void {
  terminal.out(JSON.stringify(value, null, 2) + "\n");
}

function argument<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof UnitError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}
