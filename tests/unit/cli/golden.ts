/**
 * Compares text with a file under tests/golden. `BRMR_REWRITE_GOLDEN=1` rewrites the files instead: look at the diff then.
 *
 * @module
 */

import assert from "node:assert/strict";

/** Asserts that `text` is what tests/golden/`name` holds. Colour codes are shown as `<32>`, so that a diff is readable. */
export function assertGolden(name: string, text: string): void {
  const url = new URL(`../../golden/${name}`, import.meta.url);
  // deno-lint-ignore no-control-regex -- the escape character is what we look for
  const readable = text.replace(/\x1b\[(\d+)m/g, "<$1>");
  if (Deno.env.get("BRMR_REWRITE_GOLDEN") === "1") Deno.writeTextFileSync(url, readable);
  assert.equal(readable, Deno.readTextFileSync(url), `tests/golden/${name}`);
}
