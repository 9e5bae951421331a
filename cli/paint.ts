/**
 * Colour, and tables of text. Pure: what comes out depends on the arguments alone.
 *
 * @module
 */

import type { LegState } from "../lib/core/snapshot.ts";

/** SGR codes (ECMA-48 section 8.3.117). The 16 basic colours follow the terminal's own theme. */
const SGR = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34, magenta: 35, cyan: 36 } as const;

/** A colour or weight. */
export type Hue = keyof typeof SGR;

/** Wraps `text` in a colour, or leaves it. */
export type Paint = (hue: Hue, text: string) => string;

/** The painter for a terminal with or without colour. */
export function painter(hasColor: boolean): Paint {
  return hasColor ? (hue, text) => text === "" ? "" : `\x1b[${SGR[hue]}m${text}\x1b[0m` : (_hue, text) => text;
}

const STATE_HUE: Record<LegState, Hue> = { "in-sync": "green", resyncing: "cyan", stale: "yellow", away: "red" };

/** The colour in which a leg's state is shown. */
export function hueOfState(state: LegState): Hue {
  return STATE_HUE[state];
}

/** Columns that `text` takes on the screen: colour codes take none. All our texts are narrow characters. */
export function widthOf(text: string): number {
  // deno-lint-ignore no-control-regex -- the escape character is what we look for
  return [...text.replace(/\x1b\[\d+m/g, "")].length;
}

/** A count in groups of three digits: "1,234,567". */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** How a table is set. */
export interface TableStyle {
  /** Columns set flush right, for numbers. */
  readonly right?: readonly number[];
  /** Before each line. */
  readonly indent?: string;
}

/** Rows of cells as aligned lines, two blanks apart, without blanks at the end. `rows[0]` is the heading. */
export function formatTable(rows: readonly (readonly string[])[], paint: Paint, style: TableStyle = {}): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => widths[i] = Math.max(widths[i] ?? 0, widthOf(cell)));
  const lines = rows.map((row, rowIndex) => {
    const cells = row.map((cell, i) => {
      const blanks = " ".repeat(widths[i] - widthOf(cell));
      return style.right?.includes(i) ? blanks + cell : cell + blanks;
    });
    const line = cells.join("  ").trimEnd();
    return (style.indent ?? "") + (rowIndex === 0 ? paint("dim", line) : line);
  });
  return lines.join("\n") + "\n";
}
