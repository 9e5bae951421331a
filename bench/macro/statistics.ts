/**
 * The few numbers that the benchmarks report: medians and plain text tables.
 *
 * @module
 */

/** The median; of an even count the mean of the two in the middle. Throws on an empty list. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("A median needs at least one value");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Rows as aligned columns; the first column to the left, the others to the right. The first row is the heading. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "))
    .join("\n");
}

/** Writes the result where `--json FILE` says. */
export async function writeJson(path: string | undefined, result: unknown): Promise<void> {
  if (path !== undefined) await Deno.writeTextFile(path, `${JSON.stringify(result, null, 2)}\n`);
}
