/**
 * Writes metrics in the text format of Prometheus, version 0.0.4: what a scrape returns, and what node_exporter's textfile
 * collector reads. Knows nothing of brmr. Pure.
 *
 * Names, units and labels are the caller's to choose well; that the text is well-formed is seen to here: a family has its
 * HELP and TYPE once and its samples together, no sample comes twice, and whatever stands in a label or a help is escaped.
 *
 * @module
 */

import { assert } from "../lib/base/assert.ts";

/** Labels of a sample, in the order in which they are written. */
export type Labels = Readonly<Record<string, string>>;

/** What a value means over time: it goes up and down, or it only grows until whoever counts starts anew. */
export type MetricKind = "gauge" | "counter";

const METRIC_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
/** Names that begin with two underscores are Prometheus's own. */
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Samples of one name. */
export class MetricFamily {
  readonly #name: string;
  readonly #head: string;
  readonly #lines = new Map<string, string>();

  constructor(name: string, kind: MetricKind, help: string) {
    assert(METRIC_NAME.test(name), `${name} is no name of a metric`);
    assert(name.endsWith("_total") === (kind === "counter"), `${name}: counters, and only they, end in _total`);
    this.#name = name;
    this.#head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${kind}\n`;
  }

  /** Adds a sample; none for a value that nobody knows (null), or that an older brmr does not tell (undefined). Booleans become 1 and 0. */
  add(labels: Labels, value: number | boolean | null | undefined): void {
    if (value === null || value === undefined) return;
    const sample = this.#name + formatLabels(labels);
    assert(!this.#lines.has(sample), `${sample} comes twice`);
    this.#lines.set(sample, `${sample} ${formatValue(Number(value))}\n`);
  }

  /** The family as text; "" without samples. */
  toString(): string {
    return this.#lines.size === 0 ? "" : this.#head + [...this.#lines.values()].join("");
  }
}

/** Families, in the order in which they were begun. */
export class Exposition {
  readonly #families = new Map<string, MetricFamily>();

  /** Begins a family. `help` is one sentence without its full stop, with the unit where the name does not say it. */
  family(name: string, kind: MetricKind, help: string): MetricFamily {
    assert(!this.#families.has(name), `${name} is begun twice`);
    const family = new MetricFamily(name, kind, help);
    this.#families.set(name, family);
    return family;
  }

  /** The whole text; its last line ends with a newline. */
  toString(): string {
    return [...this.#families.values()].join("");
  }
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => {
    assert(LABEL_NAME.test(name), `${name} is no name of a label`);
    return `${name}="${escapeLabel(value)}"`;
  });
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}

/** As Go's ParseFloat reads it. */
function formatValue(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}
