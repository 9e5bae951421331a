/**
 * Reads Prometheus's text format (0.0.4) as strictly as its own parser and node_exporter's textfile collector do, and throws
 * with the line that they would refuse.
 *
 * @module
 */

import assert from "node:assert/strict";

const LABEL = String.raw`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"`;
const HEAD = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/;
const SAMPLE = new RegExp(
  String.raw`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{${LABEL}(?:,${LABEL})*\})? (-?\d+(?:\.\d+)?(?:e[+-]\d+)?|NaN|[+-]Inf)$`,
);

/** Values by sample as it is written, e.g. `brmr_node_up{node="10.0.0.1:7701"}`. */
export type Samples = ReadonlyMap<string, number>;

/** The samples of `text`. Throws when a line is not of the format, a family comes in two parts, or a sample twice. */
export function readExposition(text: string): Samples {
  assert(text === "" || text.endsWith("\n"), "the last line ends with a newline");
  const samples = new Map<string, number>();
  const begun = new Set<string>();
  let family = "";
  let kind = "";
  for (const line of text.split("\n").slice(0, -1)) {
    const head = HEAD.exec(line);
    if (head !== null && head[1] === "HELP") {
      assert(!begun.has(head[2]), `${line}: the family comes in two parts`);
      assert.doesNotMatch(head[3].replaceAll("\\\\", "").replaceAll("\\n", ""), /\\/, `${line}: a stray backslash`);
      begun.add(head[2]);
      family = head[2];
      kind = "";
    } else if (head !== null) {
      assert.equal(head[2], family, `${line}: TYPE follows the family's HELP`);
      assert.equal(kind, "", `${line}: TYPE comes once`);
      assert.match(head[3], /^(gauge|counter)$/, line);
      kind = head[3];
    } else {
      const sample = SAMPLE.exec(line);
      assert(sample !== null, `${line}: no sample`);
      assert.equal(sample[1], family, `${line}: samples follow their family's HELP and TYPE`);
      assert.notEqual(kind, "", `${line}: no TYPE`);
      assert.equal(family.endsWith("_total"), kind === "counter", `${line}: _total is for counters`);
      const names = [...(sample[2] ?? "").matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"/g)].map((match) =>
        match[1]
      );
      assert.equal(new Set(names).size, names.length, `${line}: a label comes twice`);
      const key = sample[1] + (sample[2] ?? "");
      assert(!samples.has(key), `${line}: the sample comes twice`);
      samples.set(key, Number(sample[3].replace("Inf", "Infinity")));
    }
  }
  return samples;
}
