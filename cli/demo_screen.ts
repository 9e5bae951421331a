/**
 * What `brmr demo` shows: one line a step, and below it, while the step lasts, how things stand. On a terminal the lower
 * part is redrawn in place; elsewhere only the lines of finished steps are printed. Pure but for the terminal it is given.
 *
 * @module
 */

import type { DemoEvent, DemoPulse, DemoResult, DemoStep } from "../mod.ts";
import { formatTable, type Paint, painter } from "./paint.ts";
import { formatBytes, formatRate } from "../lib/base/units.ts";
import { renderBar } from "./render_sync.ts";
import type { Terminal } from "./terminal.ts";

/** What each step is about. */
const TITLES: Record<DemoStep, string> = {
  start: "Start two storage nodes",
  create: "Create a replicated pool",
  attach: "Attach it and offer it over NBD",
  load: "Write through the NBD socket",
  kill: "kill -9 one storage node, mid-load",
  return: "Bring it back: it pulls what it missed from the other node",
  prove: "Prove it: compare the legs, read every write back",
  tidy: "Clean up",
};

/** Shades of the heat map, from nothing to everything dirty. */
const SHADES = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** The demo on a terminal. */
export class DemoScreen {
  readonly #terminal: Terminal;
  readonly #paint: Paint;
  /** Lines of the part that is redrawn. */
  #liveLines = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    this.#paint = painter(terminal.hasColor);
  }

  show(event: DemoEvent): void {
    switch (event.kind) {
      case "setting": {
        const where = `${formatBytes(event.sizeBytes)} pool, nodes on ${
          event.addresses.join(" and ")
        }, ${event.directory}`;
        this.#redraw(`  ${this.#paint("dim", where)}\n`, "");
        return;
      }
      case "step":
        this.#redraw("", this.#terminal.isLive ? `${this.#paint("cyan", "▸")} ${TITLES[event.step]}\n` : "");
        return;
      case "pulse":
        if (!this.#terminal.isLive) return;
        this.#redraw(
          "",
          `${this.#paint("cyan", "▸")} ${TITLES[event.step]}\n` +
            renderPulse(event.step, event.pulse, this.#paint, this.#terminal.columns),
        );
        return;
      case "done":
        this.#redraw(
          `${this.#paint("green", "✔")} ${TITLES[event.step]}\n  ${this.#paint("dim", event.text)}\n`,
          "",
        );
        return;
    }
  }

  /** The opening lines. */
  open(): void {
    const { bold, dim } = { bold: this.#paint("bold", "brmr demo"), dim: "every byte on two nodes, one network hop" };
    this.#terminal.out(`\n${bold}  ${this.#paint("dim", dim)}\n\n`);
  }

  /** The closing lines. */
  close(result: DemoResult): void {
    this.#redraw("", "");
    this.#terminal.out("\n" + renderResult(result, this.#paint));
  }

  /** Replaces the live part: `fixed` stays on the screen for good, `live` until the next call. */
  #redraw(fixed: string, live: string): void {
    const erase = this.#liveLines > 0 ? `\x1b[${this.#liveLines}F\x1b[J` : "";
    if (erase + fixed + live !== "") this.#terminal.out(erase + fixed + live);
    this.#liveLines = live.split("\n").length - 1;
  }
}

/** How things stand, in a few lines. */
export function renderPulse(step: DemoStep, pulse: DemoPulse, paint: Paint, columns: number): string {
  const width = Math.max(20, Math.min(64, columns - 20));
  const writes = `${formatCount(pulse.writesAcked)} writes acked, ${formatCount(Math.round(pulse.writesPerSecond))}/s`;
  let text = `  ${writes}\n`;
  if (step === "kill") {
    text += `  dirty map  ${paint("yellow", renderHeat(pulse, width))}\n`;
    text += `  missing    ${paint("yellow", formatBytes(pulse.missingBytes))}\n`;
  }
  if (step === "return") {
    const share = pulse.totalBytes === 0 ? 0 : 1 - pulse.missingBytes / pulse.totalBytes;
    const percent = `${String(Math.floor(share * 100)).padStart(3)} %`;
    text += `  dirty map  ${paint("yellow", renderHeat(pulse, width))}\n`;
    text += `  resync     ${paint("cyan", renderBar(share, width))} ${percent}\n`;
    text += `  missing    ${formatBytes(pulse.missingBytes)} of ${formatBytes(pulse.totalBytes)}`;
    text += pulse.rateBytesPerSecond > 0 ? `, ${formatRate(pulse.rateBytesPerSecond)}\n` : "\n";
  }
  return text;
}

/** The address space from left to right; the fuller a column, the more of its chunks are dirty. */
export function renderHeat(pulse: Pick<DemoPulse, "buckets" | "chunksPerBucket">, columns: number): string {
  if (pulse.buckets.length === 0) return "";
  let text = "";
  for (let i = 0; i < columns; i++) {
    const first = Math.floor(i * pulse.buckets.length / columns);
    const end = Math.max(first + 1, Math.floor((i + 1) * pulse.buckets.length / columns));
    let dirty = 0;
    for (let bucket = first; bucket < end; bucket++) dirty += pulse.buckets[bucket];
    const share = dirty / ((end - first) * pulse.chunksPerBucket);
    // By the root, so that a few dirty chunks among many are seen to become more.
    text += dirty === 0 ? "·" : SHADES[Math.max(1, Math.min(8, Math.round(Math.sqrt(share) * 8)))];
  }
  return text;
}

/** The outcome as a table and a verdict. */
export function renderResult(result: DemoResult, paint: Paint): string {
  const rows = [
    ["", ""],
    ["writes acked", formatCount(result.writesAcked)],
    ["longest pause at the kill", `${result.failoverMs} ms`],
    ["missed by the dead node", formatBytes(result.bytesMissed)],
    [
      "pulled by it afterwards",
      `${formatBytes(result.bytesResynced)} (${result.amplification.toFixed(2)} × what it missed)`,
    ],
    ["back in sync after", `${formatCount(result.resyncMs)} ms, under load`],
  ];
  const verdict = result.identical
    ? paint("green", "✔ Both legs are byte-identical, and no acked write was lost.")
    : paint("red", "✘ The legs differ, or an acked write was lost. That is a bug: please report it.");
  return formatTable(rows, paint, { indent: "  " }).split("\n").slice(1).join("\n") + `\n${verdict}\n`;
}

/** 1234567 as "1,234,567". */
function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}
